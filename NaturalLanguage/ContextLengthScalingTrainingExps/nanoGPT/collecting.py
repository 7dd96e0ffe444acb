"""Gathering the finished runs of a sweep: their table, with their curves and how they were made beside it."""

import itertools
import sys
from pathlib import Path

from files import (difference, load_json, load_tensors, make_directory, read_table, save_json, save_tensors,
                   write_csv)
from run import AXES, INCIDENTAL, METRICS, SCHEDULE, request_of, run_tag
from utils import fail

SWEPT = {*AXES, "data_seed", "init_weights"}  # what may differ between the runs of a sweep


def read_curve(run_dir):
    """The rows of a run's metrics.csv, float64 (evaluations, columns of METRICS)."""
    import torch
    rows = read_table(run_dir / "metrics.csv", METRICS, "train the run again with --overwrite")
    return torch.tensor([[float(row[name]) for name in METRICS] for row in rows], dtype=torch.float64)


def read_row(run_dir, description):
    """The row of a finished run: its final.json, whether its best step is its last one, and the tokens' seed if any."""
    result = load_json(run_dir / "final.json", "the result")
    row = {**result, "at_last_step": int(result["best_step"] == result["last_step"])}
    data_seed = description["arguments"].get("data_seed")
    return row if data_seed is None else {**row, "data_seed": data_seed}


def refuse_different_runs(descriptions):
    """Exit with code 2 if runs, {tag: contents of args.json}, differ in more than what a sweep varies.

    The schedule may be tuned to each number of training tokens and context length; the seeds of both have the same.
    """
    first = {}
    for tag, description in descriptions.items():
        request = request_of(description)
        shared = {name: value for name, value in request.items() if name not in SWEPT | SCHEDULE}
        schedule = {name: request.get(name) for name in SCHEDULE}
        cell = request["train_tokens"], request["context_length"]
        for key, part in (("all", shared), (cell, schedule)):
            other_tag, other = first.setdefault(key, (tag, part))
            different = difference(other, part)
            if different:
                fail(f"{other_tag} and {tag} are runs of different experiments: {different}; keep them in different "
                     "--runs, or name the cells of one with --context_lengths, --train_tokens and --seeds")


def summarise(descriptions):
    """What the args.json of several runs have in common, and the environments they name, each once."""
    arguments = [description["arguments"] for description in descriptions]
    shared = {name: value for name, value in arguments[0].items()
              if name not in INCIDENTAL and all(others.get(name) == value for others in arguments)}
    environments = []
    for description in descriptions:
        if description["environment"] not in environments:
            environments.append(description["environment"])
    return {"arguments": shared, "data": descriptions[0]["data"], "environments": environments}


def collect_runs(runs, out_csv, grid, names=None):
    """Write the tables of the finished runs below `runs`; returns 1, and names on stderr those missing, if any are.

    grid: {axis of AXES: values, or None for those of the runs that are there}; names: of the runs that count as
    finished, by default all that have a result. Exits with code 2 if there is none, or if they are not of one sweep.
    """
    runs, out_csv = Path(runs), Path(out_csv)
    started = {path.parent.name: load_json(path, "the arguments of the run")
               for path in sorted(runs.glob("*/args.json"))}
    if not started:
        fail(f"there are no runs below {runs}; make some with train_sweep.sh")
    axes = [sorted(set(grid[axis] or (run["arguments"][axis] for run in started.values()))) for axis in AXES]
    tags = [run_tag(*cell) for cell in itertools.product(*axes)]
    finished = {tag: started[tag] for tag in tags if tag in started and (runs / tag / "final.json").exists()
                and (names is None or tag in names)}
    missing = [tag for tag in tags if tag not in finished]
    if not finished:
        fail(f"none of the {len(tags)} runs below {runs} has finished; go on with train_sweep.sh")
    refuse_different_runs(finished)

    make_directory(out_csv.parent)
    about = summarise(list(finished.values()))
    environments = about["environments"]
    rows = [{**read_row(runs / tag, description), "environment": environments.index(description["environment"])}
            for tag, description in finished.items()]
    write_csv(out_csv, rows, max(rows, key=len))
    save_tensors(out_csv.with_suffix(".pt"), {
        "position_losses": {tag: load_tensors(runs / tag / "losses.pt", "losses")["by_position"].float()
                            for tag in finished},
        "curves": {tag: read_curve(runs / tag) for tag in finished}, "curve_columns": list(METRICS)})
    save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), about)
    print(f"{len(finished)} finished runs of {len(tags)} -> {out_csv}", flush=True)
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
    return int(bool(missing))
