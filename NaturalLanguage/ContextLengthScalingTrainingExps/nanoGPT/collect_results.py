"""Gather the finished runs of a sweep into one CSV, with their curves and how they were made beside it.

    python collect_results.py --runs outputs/runs --out_csv outputs/sweep.csv
    python collect_results.py --runs outputs/runs --context_lengths 64 256 --train_tokens 200000 --seeds 0 1

Writes OUT_CSV, one row a finished run (columns as in final.json; results/README.md explains them), and with its name
_curves.csv (one row an evaluation), _positions.pt (the loss at each position of the window, by run) and _about.json
(the arguments that all runs share, data, hardware and versions). The cells expected are all combinations of the given
context lengths, token counts and seeds; what is not given is read off the run directories, unfinished ones included.
Cells without a finished run are named on stderr, and the exit code is then 1; the CSVs hold the others.
"""

import csv
import itertools
import sys
from pathlib import Path

from utils import Parser, fail, load_json, make_directory, non_negative_int, positive_int, replacing, save_json
from run import INCIDENTAL, load_tensors, run_tag, save_tensors

AXES = ("context_length", "train_tokens", "seed")


def write_csv(path, rows):
    """Write dictionaries with the same keys as CSV, whole or not at all. None becomes an empty field."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_curve(run_dir, cell):
    """The rows of a run's metrics.csv, each with the cell they belong to."""
    with open(run_dir / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{**cell, **row} for row in csv.DictReader(file)]


def summarise(described):
    """What the args.json of several runs have in common, and the environments they name, each once."""
    shared = {name: value for name, value in described[0]["arguments"].items()
              if name not in INCIDENTAL and all(run["arguments"][name] == value for run in described)}
    environments = [run["environment"] for run in described]
    return {"arguments": shared, "data": described[0]["data"],
            "environments": [one for place, one in enumerate(environments) if one not in environments[:place]]}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/runs", help="--out_dir of the runs")
    parser.add_argument("--out_csv", default="outputs/sweep.csv", help="file to write")
    parser.add_argument("--context_lengths", dest="context_length", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--train_tokens", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--seeds", dest="seed", type=non_negative_int, nargs="+", help="of the runs")
    args = parser.parse_args()
    started = [load_json(path, "the arguments of the run") for path in sorted(Path(args.runs).glob("*/args.json"))]
    if not started:
        fail(f"there are no runs below {args.runs}; make some with train_sweep.sh")
    if len({run["data"]["valid"]["sha256"] for run in started}) > 1:
        fail(f"the runs below {args.runs} have different validation tokens; their losses cannot be compared")
    axes = [sorted(set(getattr(args, axis) or (run["arguments"][axis] for run in started))) for axis in AXES]

    rows, curves, positions, described, missing = [], [], {}, [], []
    for cell in itertools.product(*axes):
        run_dir = Path(args.runs) / run_tag(*cell)
        if not (run_dir / "final.json").exists():
            missing.append(run_dir.name)
            continue
        rows.append(load_json(run_dir / "final.json", "the result"))
        curves += read_curve(run_dir, dict(zip(AXES, cell)))
        positions[run_dir.name] = load_tensors(run_dir / "losses.pt", "losses")["by_position"].float()
        described.append(load_json(run_dir / "args.json", "the arguments of the run"))
    if rows:
        out_csv = Path(args.out_csv)
        make_directory(out_csv.parent)
        write_csv(out_csv, rows)
        write_csv(out_csv.with_name(f"{out_csv.stem}_curves.csv"), curves)
        save_tensors(out_csv.with_name(f"{out_csv.stem}_positions.pt"), positions)
        save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), summarise(described))
    print(f"{len(rows)} finished runs of {len(rows) + len(missing)} -> {args.out_csv}")
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
