"""Gather the finished runs of a sweep into one table, with their curves and how they were made beside it.

    python collect_results.py --runs outputs/runs --out_csv outputs/sweep.csv
    python collect_results.py --runs outputs/runs --context_lengths 64 256 --train_tokens 200000 --seeds 0 1

Writes OUT_CSV, one row a finished run (results/README.md explains the columns), and with its name .pt (the loss at each
position of the window and the evaluations of each run) and _about.json (the arguments that all runs share, data,
hardware and versions). The cells expected are all combinations of the given context lengths, token counts and seeds;
what is not given is read off the run directories, unfinished ones included. Cells without a finished run are named on
stderr, and the exit code is then 1; the table holds the others. Runs whose other arguments differ are refused; the
schedule (steps, warm-up, evaluations) may be tuned to each number of training tokens.
"""

from utils import Parser, fail, positive_int, run_main, seed

import itertools
import sys
from pathlib import Path

import torch

from files import load_json, load_tensors, make_directory, read_table, save_json, save_tensors, write_csv
from run import AXES, INCIDENTAL, METRICS, SCHEDULE, difference, request_of, run_tag

SWEPT = {*AXES, "data_seed"}  # what may differ between the runs of a sweep


def read_curve(run_dir):
    """The rows of a run's metrics.csv, float64 (evaluations, columns of METRICS)."""
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

    The schedule may be tuned to each number of training tokens; at one of them it is the same.
    """
    first = {}
    for tag, description in descriptions.items():
        request = request_of(description)
        shared = {name: value for name, value in request.items() if name not in SWEPT | SCHEDULE}
        schedule = {name: request.get(name) for name in SCHEDULE}
        for key, part in (("all", shared), (request["train_tokens"], schedule)):
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


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/runs", help="--out_dir of the runs")
    parser.add_argument("--out_csv", default="outputs/sweep.csv", help="file to write")
    parser.add_argument("--context_lengths", dest="context_length", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--train_tokens", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--seeds", dest="seed", type=seed, nargs="+", help="of the runs")
    parser.add_argument("--finished", nargs="*", help="names of the runs to gather; the others count as missing "
                        "(default: all that have a result)")
    args = parser.parse_args()
    started = {path.parent.name: load_json(path, "the arguments of the run")
               for path in sorted(Path(args.runs).glob("*/args.json"))}
    if not started:
        fail(f"there are no runs below {args.runs}; make some with train_sweep.sh")
    axes = [sorted(set(getattr(args, axis) or (run["arguments"][axis] for run in started.values()))) for axis in AXES]
    tags = [run_tag(*cell) for cell in itertools.product(*axes)]
    directories = {tag: Path(args.runs) / tag for tag in tags}
    finished = {tag: started[tag] for tag in tags if tag in started and (directories[tag] / "final.json").exists()
                and (args.finished is None or tag in args.finished)}
    missing = [tag for tag in tags if tag not in finished]
    if not finished:
        fail(f"none of the {len(tags)} runs below {args.runs} has finished; go on with train_sweep.sh")
    refuse_different_runs(finished)

    out_csv = Path(args.out_csv)
    make_directory(out_csv.parent)
    rows = [read_row(directories[tag], description) for tag, description in finished.items()]
    write_csv(out_csv, rows, max(rows, key=len))
    save_tensors(out_csv.with_suffix(".pt"), {
        "position_losses": {tag: load_tensors(directories[tag] / "losses.pt", "losses")["by_position"].float()
                            for tag in finished},
        "curves": {tag: read_curve(directories[tag]) for tag in finished}, "curve_columns": list(METRICS)})
    save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), summarise(list(finished.values())))
    print(f"{len(finished)} finished runs of {len(tags)} -> {args.out_csv}")
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main)
