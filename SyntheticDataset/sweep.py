"""Train a grid of runs of train_model.py, train_retrieval.py or train_transformer.py: all combinations of their axes.

    bash train_model.sh                                      # all cells, as many at once as there are slots
    bash train_model.sh --num_epochs 400 --model=bi_mlp      # flags not listed here go to train_model.py or --trainer
    SEEDS="0 1 2" TRAIN_SIZES="40000 85000" bash train_model.sh
    bash train_model.sh --submit --num_epochs 400            # on a cluster: the missing cells, and then --collect
    bash train_model.sh --collect --num_epochs 400           # table and figures of what has finished
    bash train_model.sh --trainer train_transformer --seeds 0 1 2 --dtype bfloat16 --compile --submit

A slot is a share of a GPU or, without one, --cores_per_run cores. Finished cells are skipped, interrupted ones go on; a
cell has finished if its run was made with the same flags and data, and is trained again with --overwrite. --collect
writes the table and its companions (see collect_results.py and collect_retrieval.py) and, of train_model.py at one
weight decay, figures/ beside the runs, and exits with 1 where cells are missing. The grid can be given in the
environment: CONTEXT_LENGTHS, TRAIN_SIZES, WEIGHT_DECAYS, SEEDS, SAVE_POSITION, RUNS_PER_GPU, CORES_PER_RUN.
"""

from utils import Parser, fail, non_negative_float, positive_int, run_main, seed

import itertools
import os
from argparse import BooleanOptionalAction
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from collecting import AXES, RETRIEVAL_AXES, gather, print_table1, write_grids, write_sweep, write_table1
from jobs import Cell, add_modes, dispatch, from_environment, run_script
from run import has_finished, load_request, other_arguments, request_of, run_tag
from samples import open_samples, source_of
from settings import PARSERS, parse
from tasks import as_lists, load_task_definition

HERE = Path(__file__).parent
FLAGS = {  # argument of a trainer: flag of the sweep, its type, its help, its environment variable
    "context_length": ("--context_lengths", positive_int, "visible bits", "CONTEXT_LENGTHS"),
    "train_dataset_size": ("--train_dataset_sizes", positive_int, "training samples", "TRAIN_SIZES"),
    "weight_decay": ("--weight_decays", non_negative_float, "of AdamW", "WEIGHT_DECAYS"),
    "seed": ("--seeds", seed, "of the runs", "SEEDS"),
}
PAPER_SIZES = "2000000 400000 200000 150000 100000 85000 75000 50000"


class Trainer(NamedTuple):
    """What a sweep knows of a trainer beside its flags.

    grid: its axes and their default values; read_data: what describes the data that its arguments name, and the
    arguments that follow from it, or None where the files are not there; write: its table, called `table`; show: what
    --collect shows of the finished runs.
    """
    grid: dict
    read_data: Callable
    write: Callable
    table: str
    show: Callable


def read_samples(arguments):
    """Trainer.read_data of train_model.py: the samples of generate_data.py."""
    train, valid = Path(arguments.training_data_position), Path(arguments.validation_data_position)
    if not (train.exists() and valid.exists()):
        return None
    size = arguments.valid_dataset_size or len(open_samples(valid)["answer"])
    return source_of(open_samples(train)), {"valid_dataset_size": size}


def read_tasks(arguments):
    """Trainer.read_data of train_transformer.py: the subtasks of generate_tasks.py."""
    path = arguments.task_definition
    return ({"task_definition": as_lists(load_task_definition(path))}, {}) if Path(path).exists() else None


def draw_sweep(args):
    """Trainer.show of train_model.py: the figures, of one weight decay."""
    if args.draw and len(args.weight_decay) > 1:
        print("no figures of several weight decays: give --collect one, and an --out_csv in a folder of its own")
    elif args.draw:
        table, figures = Path(args.out_csv), str(Path(args.out_csv).parent / "figures")
        run_script(HERE / "draw_loss_vs_context.py", "--results", table, "--out_dir", figures)
        run_script(HERE / "draw_training_curves.py", "--results", table.with_name(f"{table.stem}_curves.csv"),
                   "--out_dir", figures)


TRAINERS = {
    "train_model": Trainer(dict(zip(AXES, ("27 32 36 43 63 94", PAPER_SIZES, "8e-4", "0"))), read_samples, write_sweep,
                           "sweep.csv", draw_sweep),
    "train_transformer": Trainer({"seed": "0"}, read_tasks, write_table1, "table1.csv",
                                 lambda args: print_table1(args.out_csv)),
    "train_retrieval": Trainer(dict(zip(RETRIEVAL_AXES, ("2000 4000 8000", "0 1 2 3 4"))), lambda _: ({}, {}),
                               write_grids, "runs.csv", lambda args: None),
}


def parse_args():
    """The sweep's arguments, and the flags that are the trainer's."""
    parser = Parser(__doc__)
    parser.add_argument("--trainer", choices=tuple(TRAINERS), default="train_model", help="what trains the cells")
    grid = parser.add_argument_group("grid (all combinations)")
    for axis, (flag, kind, text, _) in FLAGS.items():
        defaults = "; ".join(f"{name}: {trainer.grid[axis]}" for name, trainer in TRAINERS.items()
                             if axis in trainer.grid)
        grid.add_argument(flag, dest=axis, type=kind, nargs="+", help=f"{text} ({defaults})")
    add_modes(parser)
    parser.add_argument("--save_position", default=os.environ.get("SAVE_POSITION"),
                        help="directory for the runs' directories (default: the trainer's)")
    parser.add_argument("--list", action="store_true", help="name the directories of the runs, do nothing else")
    parser.add_argument("--out_csv", help="table of --collect, in a folder of its own (default: beside the runs)")
    parser.add_argument("--draw", action=BooleanOptionalAction, default=True,
                        help="figures of --collect, of train_model.py")
    parser.add_argument("--runs_per_gpu", type=positive_int, default=os.environ.get("RUNS_PER_GPU") or 4,
                        help="runs at once on each GPU")
    parser.add_argument("--cores_per_run", "--threads", type=positive_int,
                        default=os.environ.get("CORES_PER_RUN") or 1, help="threads of a run")
    args, flags = parser.parse_known_args()
    trainer = TRAINERS[args.trainer]
    for axis, (flag, kind, _, variable) in FLAGS.items():
        if axis not in trainer.grid and getattr(args, axis):
            fail(f"a sweep of {args.trainer}.py has no {flag}; leave it out")
        if axis in trainer.grid and not getattr(args, axis):
            setattr(args, axis, from_environment(variable, trainer.grid[axis], kind))
    taken = {f"--{axis}": FLAGS[axis][0] for axis in trainer.grid}
    for flag in flags:
        if flag.partition("=")[0] in taken:
            fail(f"a sweep takes {taken[flag.partition('=')[0]]}, not {flag}")
    args.save_position = args.save_position or PARSERS[args.trainer](__doc__).get_default("save_position")
    args.out_csv = args.out_csv or str(Path(args.save_position).parent / trainer.table)
    return args, flags


def cell_request(trainer, arguments, run_dir, data):
    """The request that a trainer makes of these arguments; without the data, what the run's says of it counts."""
    if data is None:
        stored = load_request(run_dir) if (run_dir / "args.json").exists() else {"data": {}, "arguments": {}}
        data = stored["data"], {name: stored["arguments"].get(name) for name, value in vars(arguments).items()
                                if value is None}
    source, completed = data
    return request_of(trainer, {**vars(arguments), **completed}, source)


def make_cells(args, flags):
    """[(cell, run directory, request)] of the grid. With --overwrite a cell that is to be trained is never done."""
    found, data, axes = [], None, TRAINERS[args.trainer].grid
    for number, values in enumerate(itertools.product(*(getattr(args, axis) for axis in reversed(axes)))):
        swept = [word for axis, value in zip(reversed(axes), values) for word in (f"--{axis}", str(value))]
        command = [*flags, *swept, "--save_position", args.save_position, "--threads", str(args.cores_per_run)]
        arguments = parse(args.trainer, __doc__, command)
        data = TRAINERS[args.trainer].read_data(arguments) if number == 0 else data
        run_dir = Path(args.save_position) / run_tag(args.trainer, vars(arguments))
        request = cell_request(args.trainer, arguments, run_dir, data)
        anew = arguments.overwrite and not (args.collect or args.missing)
        found.append((Cell(run_dir.name, [HERE / f"{args.trainer}.py", *command],
                           lambda anew=anew, run_dir=run_dir, request=request:
                           not anew and has_finished(run_dir, request)), run_dir, request))
    return found


def collect(args, cells):
    """Write the table and draw the figures of the finished cells; returns 1 where cells are missing, else 0."""
    finished = [run_dir for cell, run_dir, _ in cells if cell.is_done()]
    for _, run_dir, request in cells:
        if run_dir not in finished and (other := other_arguments(run_dir, request)):
            print(f"{run_dir.name} is a run with {other}: give the flags that it was made with")
    trainer = TRAINERS[args.trainer]
    code = gather([run_dir for _, run_dir, _ in cells], finished, trainer.write, args.out_csv)
    if finished:
        trainer.show(args)
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
