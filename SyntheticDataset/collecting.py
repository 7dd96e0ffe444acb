"""Finished runs: which are expected and there, and their tables, train_transformer.py's with a row a length."""

import itertools
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from files import load_json, load_tensors, make_directory, read_table, save_json, save_tensors, write_csv
from readme_tables import markdown
from run import has_finished, load_request, load_result, other_arguments, run_tag, started_runs
from utils import fail

AXES = ("context_length", "train_dataset_size", "weight_decay", "seed")  # of a sweep of train_model.py
TABLE1_AXES = ("context_bits", "width", "n_layer", "seed")  # what says which run of train_transformer.py it is
RETRIEVAL_AXES = ("train_dataset_size", "seed")  # likewise, of train_retrieval.py
CURVE_COLUMNS = ("epoch", "step", "train_loss", "valid_loss")
PER_LENGTH = ("context_length", "bayes_risk", "cross_entropy", "standard_error")


def expected_runs(root, trainer, chosen, axes, **fixed):
    """The directories of all combinations of what `chosen` has for each of the axes, finished or not.

    chosen: an object with an attribute for each axis, a list or None; an axis with None, or without an attribute, has
    the values of the runs begun below `root`. fixed: other arguments of the runs. No run has begun there: [].
    """
    started = [load_request(run_dir)["arguments"] for run_dir in started_runs(root, trainer)]
    started = [arguments for arguments in started if fixed.items() <= arguments.items()]
    values = [sorted(set(getattr(chosen, axis, None) or (run[axis] for run in started))) for axis in axes]
    cells = itertools.product(*values) if started else []
    return [Path(root) / run_tag(trainer, {**fixed, **dict(zip(axes, cell))}) for cell in cells]


def finished_runs(run_dirs):
    """Those of the directories that hold a finished run, and the one that their name says."""
    requests = {run_dir: load_request(run_dir) for run_dir in run_dirs if (run_dir / "args.json").exists()}
    return [run_dir for run_dir, request in requests.items() if has_finished(run_dir, request)
            and run_dir.name == run_tag(request["trainer"], request["arguments"])]


def describe_runs(run_dirs, swept):
    """What the args.json of several runs have in common, and the environments they name, each once.

    swept: names of the arguments that may differ; exits with code 2 where another one does, or the data.
    """
    requests = [load_request(run_dir) for run_dir in run_dirs]
    for run_dir in run_dirs:
        if other := other_arguments(run_dir, requests[0], swept):
            fail(f"{run_dir} is a run with {other} as in {run_dirs[0].name}; keep one of them in another directory, "
                 "and collect each directory into a table of its own")
    environments = [load_json(run_dir / "args.json", "the arguments of the run")["environment"] for run_dir in run_dirs]
    shared = {name: value for name, value in requests[0]["arguments"].items()
              if all(request["arguments"].get(name) == value for request in requests)}
    return {"arguments": shared, "data": requests[0]["data"],
            "environments": [row for index, row in enumerate(environments) if row not in environments[:index]]}


def write_sweep(run_dirs, out_csv):
    """Write the table of finished runs of train_model.py, beside it their training curves and how they were made.

    OUT_CSV has a row a run; the same with _curves in its name a row an epoch; _about.json what all runs share.
    """
    out_csv, about = Path(out_csv), describe_runs(run_dirs, AXES)
    rows, curves = [], []
    for run_dir in run_dirs:
        result = load_result(run_dir)
        rows.append({name: value for name, value in result.items() if name != "task_losses"})
        cell = {axis: result[axis] for axis in AXES}
        curves += [{**cell, **{name: row[name] for name in CURVE_COLUMNS}}
                   for row in read_table(run_dir / "metrics.csv", CURVE_COLUMNS)]
    make_directory(out_csv.parent)
    write_csv(out_csv, rows)
    write_csv(out_csv.with_name(f"{out_csv.stem}_curves.csv"), curves)
    save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), about)


def in_order(run_dirs, axes):
    """The directories of runs in the order of these of their arguments."""
    return sorted(run_dirs, key=lambda run_dir: [load_request(run_dir)["arguments"][axis] for axis in axes])


def write_table1(run_dirs, out_csv):
    """Write the table of finished runs of train_transformer.py, a row a seed and length, and how they were made."""
    run_dirs = in_order(run_dirs, TABLE1_AXES)
    out_csv, about = Path(out_csv), describe_runs(run_dirs, ("seed",))
    results = [load_result(run_dir) for run_dir in run_dirs]
    make_directory(out_csv.parent)
    write_csv(out_csv, [{"seed": result["seed"], **dict(zip(PER_LENGTH, values))} for result in results
                        for values in zip(*(result[name] for name in PER_LENGTH), strict=True)])
    runs = [{name: value for name, value in result.items() if name not in PER_LENGTH} for result in results]
    save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), {**about, "runs": runs})


def write_grids(run_dirs, out_csv):
    """Write the table of finished runs of train_retrieval.py and, beside it, grids.pt and about.json."""
    import torch  # which other tables do not need, and is slow to import
    run_dirs = in_order(run_dirs, RETRIEVAL_AXES)
    out_csv, about = Path(out_csv), describe_runs(run_dirs, RETRIEVAL_AXES)
    rows = [load_result(run_dir) for run_dir in run_dirs]
    grids = [load_tensors(run_dir / "grid.pt", "the grid") for run_dir in run_dirs]
    make_directory(out_csv.parent)
    write_csv(out_csv, rows)
    save_tensors(out_csv.with_name("grids.pt"), {
        "visible_lengths": grids[0]["visible_lengths"],
        **{name: torch.tensor([row[name] for row in rows]) for name in RETRIEVAL_AXES},
        **{name: torch.stack([grid[name] for grid in grids]) for name in ("cross_entropy", "accuracy")}})
    save_json(out_csv.with_name("about.json"), {name: about[name] for name in ("arguments", "environments")})


def gather(expected, finished, write, out):
    """Write the table of the finished runs, say how many they are and name the others. Returns the exit code.

    expected, finished: lists of run directories. write: what takes the finished ones and `out`, such as write_sweep.
    """
    if finished:
        write(finished, out)
    print(f"{len(finished)} finished runs of {len(expected)} -> {out}", flush=True)
    missing = [run_dir.name for run_dir in expected if run_dir not in finished]
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
    return int(bool(missing))


def read_numbers(path, columns):
    """Read columns of a table of collect_results.py as floats; exits with code 2 if one is not a number."""
    return [{name: float(row[name]) for name in columns}
            for row in read_table(path, columns, "make it again with collect_results.py")]


def read_sweep(path, columns):
    """What read_numbers gives of a table to be drawn; exits with code 2 if its runs have several weight decays."""
    rows = read_numbers(path, ("weight_decay", *columns))
    if len({row["weight_decay"] for row in rows}) > 1:
        fail(f"{path} has several weight decays; collect one with collect_results.py --weight_decays")
    return rows


def over_seeds(rows, column):
    """{training size: (context lengths (k,), list of k arrays over the seeds)} of one column, lengths ascending."""
    cells = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[int(row["train_dataset_size"])][int(row["context_length"])].append(row[column])
    return {size: (np.array(sorted(by_length)), [np.array(by_length[length]) for length in sorted(by_length)])
            for size, by_length in sorted(cells.items())}


def optimum_and_margin(lengths, losses):
    """Index of the lowest mean loss, and by how much each neighbour's lowest seed exceeds its highest seed (nats).

    The margin is None if there is no neighbour on one side: the minimum is then not an interior one.
    """
    best = int(np.argmin([loss.mean() for loss in losses]))
    if best in (0, len(lengths) - 1):
        return best, None
    return best, min(losses[best + side].min() - losses[best].max() for side in (-1, 1))


def spread(values, digits=3):
    """"mean [lowest, highest]", or the value where there is one."""
    values = list(values)
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]" if len(values) > 1 else mean


def load_table1(path):
    """{context_length: {"bayes_risk": nats, "cross_entropy": {seed: nats}}} of a file of write_table1."""
    table = {}
    for row in read_table(path, ("seed", *PER_LENGTH[:-1]), "make it with collect_results.py --table1"):
        entry = table.setdefault(int(row["context_length"]), {"cross_entropy": {}})
        entry["bayes_risk"] = float(row["bayes_risk"])
        entry["cross_entropy"][int(row["seed"])] = float(row["cross_entropy"])
    return table


def print_table1(path):
    """Print mean, lowest and highest cross entropy over the seeds at each length as a Markdown table."""
    rows = [(length, entry["cross_entropy"].values(), entry["bayes_risk"])
            for length, entry in load_table1(path).items()]
    print(markdown(["context", "cross entropy", "Bayes risk", "largest difference"],
                   [[length, spread(losses, 4), f"{risk:.4f}", f"{max(losses) - risk:.4f}"]
                    for length, losses, risk in rows]))
