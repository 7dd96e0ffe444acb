"""The runs of train.py as the cells of a sweep: the command of each, whether it has finished, and what a step costs."""

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from jobs import Cell, cause, count_gpus, dispatch
from long_context_flags import model_shape
from prepared import describe
from run import has_finished, other_arguments, request_of, run_tag
from settings import complete, parse
from utils import fail, positive_int

RESOURCES = {"gpus_per_run": "GPUs of a run", "runs_per_gpu": "runs that share the GPUs of a slot",
             "cores_per_run": "cores of a run, where there is no GPU"}
TRAIN = str(Path(__file__).with_name("train.py"))


class TrainCell:
    """A run of train.py as a cell of a sweep; flags: the others of train.py."""

    def __init__(self, length, tokens, seed, flags):
        self.name = run_tag(length, tokens, seed)
        self.command = [TRAIN, *flags, "--context_length", str(length), "--train_tokens", str(tokens), "--seed",
                        str(seed)]

    def cell(self):
        """What jobs.dispatch takes."""
        return Cell(self.name, self.command, self.is_done, distributed=True)

    @cached_property
    def run(self):
        """The directory of the run, its request, and its settings."""
        settings = parse(__doc__, self.command[1:])
        about, train = describe(settings.train_bin)
        complete(settings, about["tokens"], about["vocabulary_size"])
        data = {"train": train, "valid": describe(settings.val_bin)[1]}
        request = request_of({"arguments": vars(settings), "data": data, "model": model_shape(settings)})
        directory = Path(settings.out_dir) / run_tag(settings.context_length, settings.train_tokens, settings.seed)
        return directory, request, settings

    def is_done(self):
        """Whether this run has finished; exits with code 2 if its directory holds a run with other arguments."""
        directory, request, settings = self.run
        return not settings.overwrite and has_finished(directory, request)


def finished(cells):
    """The names of the cells whose run has finished; a run with other arguments has not, and is named on stderr."""
    names = []
    for cell in cells:
        directory, request, _ = cell.run
        other = other_arguments(directory, request)
        if other:
            print(f"{directory} holds a run with {other}", file=sys.stderr)
        elif has_finished(directory, request):
            names.append(cell.name)
    return names


def add_resources(parser):
    """The flags that say what a run gets."""
    group = parser.add_argument_group("resources (defaults from the environment, by these names in capitals)")
    for name, help_text in RESOURCES.items():
        group.add_argument(f"--{name}", type=positive_int, default=os.environ.get(name.upper(), "1"), help=help_text)


def resources_of(args):
    """The arguments of jobs.slots."""
    return {name: getattr(args, name) for name in RESOURCES}


def dispatch_runs(args, cells, launcher, collect, log_dir):
    """jobs.dispatch of runs of train.py: where a directory holds one of other arguments, nothing starts."""
    if not args.collect and args.cell is None:
        for cell in cells:
            cell.is_done()
    dispatch(args, [cell.cell() for cell in cells], launcher, collect, log_dir, **resources_of(args))


def dry_run(length, tokens, flags, slot):
    """What train.py --dry_run measures at a context length, in a slot; exits with code 2 where it fails."""
    command = [TRAIN, *flags, "--context_length", str(length), "--train_tokens", str(tokens), "--dry_run"]
    done = subprocess.run(Cell("", command, bool, distributed=True).arguments(count_gpus(slot)),
                          capture_output=True, text=True, env={**os.environ, **slot})
    if done.returncode:
        fail(f"context length {length}: {cause(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])
