"""Train a grid of runs of train_model.py: all combinations of context lengths, training sizes, weight decays and seeds.

    bash train_model.sh                                      # all cells, as many at once as there are slots
    bash train_model.sh --num_epochs 400 --model=bi_mlp      # flags that are not listed here go to train_model.py
    SEEDS="0 1 2" TRAIN_SIZES="40000 85000" bash train_model.sh
    bash train_model.sh --submit --num_epochs 400            # on a cluster: the missing cells, and then --collect
    bash train_model.sh --collect --num_epochs 400           # table and figures of what has finished

A slot is a share of a GPU or, without one, --cores_per_run cores. Finished cells are skipped, interrupted ones go on; a
cell has finished if its run was made with the same flags and data, and is trained again with --overwrite. --collect
writes sweep.csv and its companions (see collect_results.py) and, of one weight decay, figures/ beside the runs, and
exits with 1 where cells are missing. The grid can be given in the environment: CONTEXT_LENGTHS, TRAIN_SIZES,
WEIGHT_DECAYS, SEEDS, SAVE_POSITION, RUNS_PER_GPU, CORES_PER_RUN.
"""

from utils import Parser, fail, non_negative_float, positive_int, run_main, seed

import itertools
import os
from argparse import BooleanOptionalAction
from pathlib import Path

from collecting import gather, write_sweep
from jobs import Cell, add_modes, dispatch, from_environment, run_script
from run import has_finished, load_request, other_arguments, request_of, run_tag
from samples import open_samples, source_of
from training import training_parser

HERE = Path(__file__).parent
SWEPT = {"--seed": "--seeds", "--weight_decay": "--weight_decays", "--train_dataset_size": "--train_dataset_sizes",
         "--context_length": "--context_lengths"}  # flag of the trainer: flag of the sweep
TAKEN = {**SWEPT, "--threads": "--cores_per_run"}  # likewise, all that the sweep gives to the trainer


def parse_args():
    """The sweep's arguments, and the flags that are the trainer's."""
    parser = Parser(__doc__)
    grid = parser.add_argument_group("grid (all combinations)")
    grid.add_argument("--context_lengths", type=positive_int, nargs="+", help="visible bits",
                      default=from_environment("CONTEXT_LENGTHS", "27 32 36 43 63 94", positive_int))
    grid.add_argument("--train_dataset_sizes", type=positive_int, nargs="+", help="training samples",
                      default=from_environment("TRAIN_SIZES", "2000000 400000 200000 150000 100000 85000 75000 50000",
                                               positive_int))
    grid.add_argument("--weight_decays", type=non_negative_float, nargs="+", help="of AdamW",
                      default=from_environment("WEIGHT_DECAYS", "8e-4", non_negative_float))
    grid.add_argument("--seeds", type=seed, nargs="+", help="of weights and batches",
                      default=from_environment("SEEDS", "0", seed))
    add_modes(parser)
    parser.add_argument("--save_position", default=os.environ.get("SAVE_POSITION") or "outputs/runs",
                        help="directory for the runs' directories")
    parser.add_argument("--list", action="store_true", help="name the directories of the runs, do nothing else")
    parser.add_argument("--out_csv", help="table of --collect (default: sweep.csv beside the runs)")
    parser.add_argument("--draw", action=BooleanOptionalAction, default=True, help="figures of --collect")
    parser.add_argument("--runs_per_gpu", type=positive_int, default=os.environ.get("RUNS_PER_GPU") or 4,
                        help="runs at once on each GPU")
    parser.add_argument("--cores_per_run", type=positive_int, default=os.environ.get("CORES_PER_RUN") or 1,
                        help="threads of a run")
    args, flags = parser.parse_known_args()
    for flag in flags:
        if flag.partition("=")[0] in TAKEN:
            fail(f"a sweep takes {TAKEN[flag.partition('=')[0]]}, not {flag}")
    args.out_csv = args.out_csv or str(Path(args.save_position).parent / "sweep.csv")
    return args, flags


def read_data(arguments):
    """(what describes the samples, how many validation samples there are), or None where the files are not there."""
    train, valid = Path(arguments.training_data_position), Path(arguments.validation_data_position)
    if not (train.exists() and valid.exists()):
        return None
    return source_of(open_samples(train)), len(open_samples(valid)["answer"])


def cell_request(arguments, run_dir, data):
    """The request that train_model.py makes of these arguments; without the samples, those that the run names count."""
    if data is None:
        stored = load_request(run_dir) if (run_dir / "args.json").exists() else {"data": {}, "arguments": {}}
        data = stored["data"], stored["arguments"].get("valid_dataset_size")
    source, valid_size = data
    return request_of("train_model", {**vars(arguments),
                                      "valid_dataset_size": arguments.valid_dataset_size or valid_size}, source)


def make_cells(args, flags):
    """[(cell, run directory, request)] of the grid. With --overwrite a cell that is to be trained is never done."""
    found, data = [], None
    for number, axes in enumerate(itertools.product(args.seeds, args.weight_decays, args.train_dataset_sizes,
                                                    args.context_lengths)):
        command = [*flags, *(word for pair in zip(SWEPT, map(str, axes)) for word in pair),
                   "--save_position", args.save_position, "--threads", str(args.cores_per_run)]
        arguments = training_parser(__doc__).parse_args(command)
        data = read_data(arguments) if number == 0 else data
        run_dir = Path(args.save_position) / run_tag("train_model", vars(arguments))
        request = cell_request(arguments, run_dir, data)
        anew = arguments.overwrite and not (args.collect or args.missing)
        found.append((Cell(run_dir.name, [HERE / "train_model.py", *command],
                           lambda anew=anew, run_dir=run_dir, request=request:
                           not anew and has_finished(run_dir, request)), run_dir, request))
    return found


def collect(args, cells):
    """Write the table and draw the figures of the finished cells; returns 1 where cells are missing, else 0."""
    finished = {run_dir: request for cell, run_dir, request in cells if cell.is_done()}
    for _, run_dir, request in cells:
        if run_dir not in finished and (other := other_arguments(run_dir, request)):
            print(f"{run_dir.name} is a run with {other}: give the flags that it was made with")
    code = gather([run_dir for _, run_dir, _ in cells], [*finished], write_sweep, args.out_csv)
    if args.draw and len({request["arguments"]["weight_decay"] for request in finished.values()}) > 1:
        print("no figures of several weight decays: give --collect one, and an --out_csv in a folder of its own")
    elif finished and args.draw:
        table, figures = Path(args.out_csv), str(Path(args.out_csv).parent / "figures")
        run_script(HERE / "draw_loss_vs_context.py", "--results", table, "--out_dir", figures)
        run_script(HERE / "draw_training_curves.py", "--results", table.with_name(f"{table.stem}_curves.csv"),
                   "--out_dir", figures)
    return code


def main():
    args, flags = parse_args()
    cells = make_cells(args, flags)
    if args.list:
        return print("\n".join(run_dir.name for _, run_dir, _ in cells))
    dispatch(args, [cell for cell, *_ in cells], "train_model.sh", lambda: collect(args, cells),
             Path(args.save_position) / "logs", cores_per_run=args.cores_per_run, runs_per_gpu=args.runs_per_gpu)


if __name__ == "__main__":
    run_main(main)
