"""Train the grid of context lengths x training tokens x seeds, one run of train.py a cell, or see to a part of it.

    python sweep.py --train_bin TOKENS.bin --context_lengths 64 256 --train_tokens 50000 200000 --seeds 0 1 --n_layer 2
    python sweep.py --dry_run          # memory and time of a step at each context length, and what the grid will cost

Without a mode, all cells run here, as many at once as there are slots: GPUS_PER_RUN of the visible GPUs each or,
without one, CORES_PER_RUN cores. Finished cells are skipped, interrupted ones go on. Flags that are not named here go
to train.py. The launcher train_sweep.sh is this script for bash and Slurm.
"""

from utils import Parser, fail, positive_float, positive_int, run_main, seed

import itertools
import os
from argparse import BooleanOptionalAction
from pathlib import Path

from collecting import collect_runs
from jobs import add_modes, count_gpus, from_environment, run_script, slots
from prepared import describe, distinct_tokens
from settings import estimated_seconds, parse, steps_of_a_dry_run
from train_cells import TrainCell, add_resources, dispatch_runs, dry_run, finished, resources_of

FOLDER = Path(__file__).parent
PAPER_LENGTHS = "384 512 768 1024 1536 2048 3072 5120 7680 10240 15360"
PAPER_TOKENS = "200000000 250000000 300000000 350000000 500000000 750000000"
SWEPT = {"--seed": "--seeds", "--context_length": "--context_lengths",
         "--block_size": "--context_lengths"}  # flag of train.py: flag of the sweep


def tokens_or_all(text):
    """An argparse type: a number of tokens, or "all"."""
    return text if text == "all" else positive_int(text)


def parse_args():
    """The sweep's own flags, and the others, which are train.py's."""
    parser = Parser(__doc__)
    environment = os.environ.get
    grid = parser.add_argument_group("grid (defaults from the environment, by these names in capitals)")
    grid.add_argument("--context_lengths", type=positive_int, nargs="+", help="tokens of a window",
                      default=from_environment("CONTEXT_LENGTHS", PAPER_LENGTHS, positive_int))
    grid.add_argument("--train_tokens", type=tokens_or_all, nargs="+", help="tokens to train on, or all",
                      default=from_environment("TRAIN_TOKENS", PAPER_TOKENS, tokens_or_all))
    grid.add_argument("--seeds", type=seed, nargs="+", default=from_environment("SEEDS", "0", seed),
                      help="of the runs")
    grid.add_argument("--vary_data", action=BooleanOptionalAction, default=False,
                      help="each seed trains on another part of the corpus too (--data_seed SEED)")
    grid.add_argument("--train_bin", help="training tokens of prepare.py", default=environment(
        "TRAIN_BIN", "data/openwebtext/LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin"))
    grid.add_argument("--out_dir", default=environment("OUT_DIR", "outputs/runs"), help="directory of the runs")
    add_resources(parser)
    add_modes(parser)
    parser.add_argument("--dry_run", action="store_true", help="measure a step at each context length, write nothing")
    parser.add_argument("--dry_run_epochs", type=positive_float, default=30.0,
                        help="passes over the training tokens that --dry_run reckons with")
    args, trainer_flags = parser.parse_known_args()
    for flag in trainer_flags:
        if flag.partition("=")[0] in SWEPT:
            fail(f"a sweep takes {SWEPT[flag.partition('=')[0]]}, not {flag}")
    return args, trainer_flags


def say_overlap(args):
    """Name the training sizes at which the parts of the corpus that --vary_data gives the seeds overlap."""
    about, _ = describe(args.train_bin)
    for tokens in args.train_tokens:
        distinct = distinct_tokens(about["tokens"], tokens, args.seeds, about.get("window", 1))
        if distinct < tokens * len(args.seeds):
            print(f"the parts of {tokens:,} tokens of these {len(args.seeds)} seeds overlap: {distinct:,} different "
                  f"tokens, {distinct / tokens:.1f} parts' worth", flush=True)


def make_cells(args, trainer_flags):
    """The cells of the grid, the largest runs of a seed last."""
    flags = [*trainer_flags, "--train_bin", args.train_bin, "--out_dir", args.out_dir]
    return [TrainCell(length, tokens, number, [*flags, *(["--data_seed", str(number)] if args.vary_data else [])])
            for number, tokens, length in itertools.product(args.seeds, args.train_tokens, args.context_lengths)]


def collect(args, cells):
    """Write the table and the figures of the finished runs; returns 1 where runs are missing."""
    out = Path(args.out_dir).parent
    grid = {"context_length": args.context_lengths, "train_tokens": args.train_tokens, "seed": args.seeds}
    code = collect_runs(args.out_dir, out / "sweep.csv", grid, finished(cells))
    run_script(os.path.relpath(FOLDER / "draw_loss_vs_context.py"), "--results", out / "sweep.csv", "--out_dir",
               out / "figures")
    return code


def print_costs(args, trainer_flags, available):
    """Run train.py --dry_run at each context length, one after another, and print what the grid will cost."""
    total, most = 0.0, max(args.train_tokens)
    for length in args.context_lengths:
        flags = [*trainer_flags, "--train_bin", args.train_bin, "--seed", str(args.seeds[0])]
        cost = dry_run(length, most, flags, available[0])
        hours = []
        for tokens in args.train_tokens:
            settings = parse(__doc__, [*flags, "--context_length", str(length), "--train_tokens", str(tokens),
                                       "--dry_run_epochs", str(args.dry_run_epochs)])
            hours.append(estimated_seconds(settings, steps_of_a_dry_run(settings), cost) / 3600)
        total += sum(hours) * len(args.seeds)
        print(f"context {length}: {cost['peak_memory_gigabytes']:.2f} GB, {cost['windows_in_a_pass']} windows in a "
              f"pass, {cost['seconds_a_step']:.3g} s a step, {cost['seconds_an_evaluation']:.3g} s an evaluation; "
              + ", ".join(f"{value:.2g} h for {tokens:,} tokens" for value, tokens in zip(hours, args.train_tokens)),
              flush=True)
    gpus = count_gpus(available[0])
    slot = f"{gpus} GPUs" if gpus else f"{args.cores_per_run} cores"
    runs = len(args.context_lengths) * len(args.train_tokens) * len(args.seeds)
    print(f"{runs} runs of at most {args.dry_run_epochs:g} passes over their tokens: {total:.2g} hours of a slot "
          f"of {slot}, {total / len(available):.2g} hours on the {len(available)} slots of this machine")


def main():
    args, trainer_flags = parse_args()
    args.train_tokens = [describe(args.train_bin)[0]["tokens"] if tokens == "all" else tokens
                         for tokens in args.train_tokens]
    if args.dry_run:
        return print_costs(args, trainer_flags, slots(**resources_of(args)))
    cells = make_cells(args, trainer_flags)
    if args.vary_data and not args.missing and not args.collect and args.cell is None:
        say_overlap(args)
    dispatch_runs(args, cells, "train_sweep.sh", lambda: collect(args, cells), Path(args.out_dir) / "logs")


if __name__ == "__main__":
    run_main(main)
