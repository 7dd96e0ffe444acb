"""Say which context length to train at with so many tokens of your texts, from a pilot that fits the hours given.

    python plan_context_length.py 'my_texts/**/*.txt' --target_tokens 1e9 --hours 2
    python plan_context_length.py 'my_texts/**/*.txt' --target_tokens 1e9 --hours 2 --dry_run    # the plan alone

Tokenises the texts (prepare.py), times a step at each context length (train.py --dry_run), chooses sizes, lengths and
seeds (optimal_context/pilot.py), prints this plan with its cost, trains (as sweep.py), fits (fit_optimal_context.py),
draws, and ends with five lines: the length and its interval, what half and double of it cost, how well held-out sizes
were predicted, whether to believe it, and what to add. The texts come first; flags not named here go to train.py
(--n_layer 4). --target_tokens are tokens of the pilot's tokenizer, whose bytes a token are printed.

Writes OUT_DIR/data, plan.json, runs/, sweep.csv, fit.json, figures/ and advice.txt. Started again, it goes on by the
plan that is there, and refuses one of another request; with --overwrite it plans anew and keeps the runs that both
plans have. Exits with code 2 and one line where hours or corpus do not suffice for the smallest pilot: 3 sizes, 4
lengths, 1 seed.
"""

from utils import (Parser, Stopped, StopSignal, again, fail, fraction, non_negative_int, positive_float, positive_int,
                   run_main, say)

import os
import sys
import time
from argparse import BooleanOptionalAction
from pathlib import Path

from collecting import collect_runs
from files import begins_anew, load_json, lock, make_directory, read_table, replacing
from jobs import add_modes, run_script, sbatch
from optimal_context.advice import Setting, five_lines
from optimal_context.pilot import PASSES, hours_of_larger_model
from optimal_context.table import number_of_tokens
from pilot_runs import absolute, cells_of, make_plan, prepare, read_plan, remove_other_runs, say_plan
from run import run_tag
from settings import build_parser, parse
from train_cells import add_resources, dispatch_runs, finished

FOLDER = Path(__file__).parent
PLANNED = ("--context_length", "--block_size", "--train_tokens", "--data_seed", "--seed", "--train_bin", "--val_bin",
           "--out_dir", "--eval_tokens", "--init_from")


def parse_args():
    """The command's own flags, and the others, which are train.py's."""
    parser = Parser(__doc__)
    parser.add_argument("texts", nargs="+", help="files or patterns, as --text_files of prepare.py")
    parser.add_argument("--target_tokens", type=number_of_tokens, required=True,
                        help="tokens that you want to train on")
    parser.add_argument("--hours", type=positive_float, default=2.0, help="for the whole command, on this machine")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: GPUs if there are any")
    parser.add_argument("--out_dir", default="outputs/plan", help="directory for everything that is written")
    parser.add_argument("--dry_run", action="store_true", help="print the plan and its cost, and train nothing")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="plan anew")
    corpus = parser.add_argument_group("corpus")
    corpus.add_argument("--tokenizer", help="of prepare.py: gpt2, bpe:N or a tokenizer.json (default: bpe:1024 under "
                                            "50 MB of text, else bpe:4096; on a GPU, from 200 MB on, gpt2)")
    corpus.add_argument("--min_tokens", type=non_negative_int, default=0, help="keep documents longer than this")
    corpus.add_argument("--validation_fraction", type=fraction, default=0.1, help="of the documents, for validation")
    corpus.add_argument("--column", help="with the text: of all but plain files")
    corpus.add_argument("--separator", help="what stands between documents within a plain file")
    corpus.add_argument("--encoding", help="of the files, except .parquet")
    corpus.add_argument("--encoding_errors", choices=("strict", "replace"),
                        help="refuse what is not of this encoding, NUL too, or replace and count it")
    pilot = parser.add_argument_group("pilot")
    pilot.add_argument("--context_lengths", type=positive_int, nargs="+", help="take these (default: chosen)")
    pilot.add_argument("--passes", type=positive_float, default=float(PASSES),
                       help="over its training tokens, of a run at most")
    add_resources(parser)
    add_modes(parser)
    args, flags = parser.parse_known_args()
    others = [flag for flag in flags if flag.partition("=")[0] in PLANNED]
    if others:
        fail(f"{others[0].partition('=')[0]} is the plan's to choose; leave it out")
    behind = build_parser(__doc__).parse_args(flags).config  # unknown flags are refused here
    if behind is not None:
        fail(f"{behind} stands behind a flag; name all texts first")
    parse(__doc__, [*flags, "--context_length=1", "--train_bin=train"])
    return args, flags


def submit_planning():
    """Submit a job that plans, on a node like those of the runs, and then submits these."""
    job = sbatch(["--output=plan_context_length_plan_%j.log", "plan_context_length.sh", *sys.argv[1:]], os.environ)
    say(f"job {job} prepares, times, plans and submits the runs; its log, plan_context_length_plan_{job}.log, has the "
        "plan, and plan_context_length_collect_*.log will have the advice")


def finish(args, out, plan, cells):
    """Table, fit, figures and the five lines; returns 1 where runs are missing."""
    table, fit = out / "sweep.csv", out / "fit.json"
    grid = {"context_length": plan["context_lengths"], "seed": range(plan["seeds"]),
            "train_tokens": [row["train_tokens"] for row in plan["sizes"]]}
    if collect_runs(out / "runs", table, grid, finished(cells)):
        return 1
    for name, *arguments in (
            ("fit_optimal_context.py", "--results", table, "--predict_train_tokens", f"{args.target_tokens:.12g}",
             "--check", "--out", fit),
            ("draw_optimal_context.py", "--fit", fit, "--out_dir", out / "figures"),
            ("draw_loss_vs_context.py", "--results", table, "--by_seed", "--out_dir", out / "figures")):
        run_script(os.path.relpath(FOLDER / name), *arguments)
    rows = read_table(table, ("at_last_step",))
    unfinished = tuple(run_tag(row["context_length"], row["train_tokens"], row["seed"]) for row in rows
                       if row["at_last_step"] == "1")
    corpus = plan["corpus"]
    lines = five_lines(load_json(fit, "the fit"), Setting(
        corpus["train_tokens"], corpus["validation_tokens"], args.hours, args.passes, plan["flags"]["tokens_per_step"],
        plan["model"], len(rows), hours_of_larger_model(plan["device"], args.hours, plan["slots"]), unfinished))
    with replacing(out / "advice.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"\n-> {table}, {fit}, {out / 'figures'}, {out / 'advice.txt'}\n")
    say("\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1)))
    return 0


def planned(args, flags, out):
    """The plan to go on by, which is made if it is not there."""
    began = time.monotonic()
    prepare(args, out)
    plan = None if args.overwrite else read_plan(args, flags, out, must=False)
    plan, args.overwrite = plan or make_plan(args, flags, out, began), False  # from here on it goes on
    say_plan(args, plan)
    if not args.dry_run:
        remove_other_runs(args, flags, out, plan)
    return plan


def work(args, flags, out):
    """Whatever the flags ask for."""
    args.overwrite = begins_anew(args.overwrite, out / "plan.json")
    if args.dry_run and args.overwrite and (out / "plan.json").exists():
        fail(f"--dry_run replaces no plan, and {out / 'plan.json'} is one; choose another --out_dir")
    if args.submit and "SLURM_JOB_ID" not in os.environ and (args.overwrite or not (out / "plan.json").exists()):
        return submit_planning()
    if args.collect or args.missing or (args.cell is not None and not args.submit):
        return train(args, flags, out, read_plan(args, flags, out))
    with lock(out / "lock", f"another process plans or trains in {out}; wait for it, or choose another --out_dir"):
        plan = planned(args, flags, out)
        if not args.dry_run:
            train(args, flags, out, plan)


def train(args, flags, out, plan):
    """The runs of a plan, and what follows from them, or the part of it that the flags ask for."""
    cells = cells_of(args, flags, out, plan)
    dispatch_runs(args, cells, "plan_context_length.sh", lambda: finish(args, out, plan, cells), out / "runs" / "logs")
    if not args.submit:
        raise SystemExit(finish(args, out, plan, cells))


def main():
    args, flags = parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that the slots are cores
    called_from = Path(os.path.relpath(os.environ.get("CALLED_FROM", ".")))
    args.texts = [absolute(text, called_from) for text in args.texts]
    if args.tokenizer and (called_from / args.tokenizer).is_file():
        args.tokenizer = str(called_from / args.tokenizer)
    out = make_directory(called_from / args.out_dir)
    with StopSignal(raising=True) as signal:
        try:
            work(args, flags, out)
        except Stopped:
            signal.end("start the same command again" if args.overwrite else again())


if __name__ == "__main__":
    run_main(main)
