"""Gather the finished runs of a sweep into one CSV, their training curves into another, and how they were made.

    python collect_results.py --runs outputs/runs --out_csv outputs/sweep.csv
    python collect_results.py --runs outputs/runs --context_lengths 27 36 --train_dataset_sizes 85000 --seeds 0 1

Writes OUT_CSV, one row a finished run, and beside it, with _curves in the name, one row an epoch of each (columns as in
final.json and metrics.csv; results/README.md explains them) and, as _about.json, the arguments that all runs share and
the hardware and versions they ran with. The cells expected are all combinations of the given context lengths, sizes,
weight decays and seeds; what is not given is read off the run directories, unfinished ones included. Gathers MLPs;
another --model gathers those instead. Cells without a finished run are named on stderr, and the exit
code is then 1; the CSVs hold the others.
"""

import csv
import itertools
import sys
from pathlib import Path

from run import INCIDENTAL, MODELS, run_tag
from utils import Parser, fail, load_json, make_directory, positive_int, replacing, save_json

AXES = ("context_length", "train_dataset_size", "weight_decay", "seed")
CURVE_COLUMNS = ("epoch", "step", "train_loss", "valid_loss")


def write_csv(path, rows):
    """Write dictionaries with the same keys as CSV, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_curves(run_dir, cell):
    """The rows of a run's metrics.csv, each with the cell they belong to."""
    with open(run_dir / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{**cell, **{name: row[name] for name in CURVE_COLUMNS}} for row in csv.DictReader(file)]


def summarise(described):
    """What the args.json of several runs have in common, and the environments they name, each once."""
    arguments = described[0]["arguments"]
    shared = {name: value for name, value in arguments.items()
              if name not in INCIDENTAL and all(run["arguments"][name] == value for run in described)}
    environments = [run["environment"] for run in described]
    return {"arguments": shared, "data": described[0]["data"],
            "environments": [one for place, one in enumerate(environments) if one not in environments[:place]]}


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/runs", help="--save_position of the runs")
    parser.add_argument("--out_csv", default="outputs/sweep.csv", help="file to write")
    parser.add_argument("--model", choices=MODELS, default="mlp", help="network of the runs to gather")
    parser.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    parser.add_argument("--context_lengths", dest="context_length", type=positive_int, nargs="+", help="visible bits")
    parser.add_argument("--train_dataset_sizes", dest="train_dataset_size", type=positive_int, nargs="+",
                        help="training samples")
    parser.add_argument("--weight_decays", dest="weight_decay", type=float, nargs="+", help="of AdamW")
    parser.add_argument("--seeds", dest="seed", type=int, nargs="+", help="of the runs")
    return parser.parse_args()


def main():
    args = parse_args()
    started = [load_json(path, "the arguments of the run") for path in sorted(Path(args.runs).glob("*/args.json"))]
    started = [run for run in started if run["arguments"]["model"] == args.model]
    if not started:
        fail(f"there are no such runs below {args.runs}; make some with train_model.sh")
    axes = [sorted(set(getattr(args, axis) or (run["arguments"][axis] for run in started))) for axis in AXES]

    rows, curves, described, missing = [], [], [], []
    for cell in itertools.product(*axes):
        run_dir = Path(args.runs) / run_tag(args.model, *cell)
        if not (run_dir / "final.json").exists():
            missing.append(run_dir.name)
            continue
        run = load_json(run_dir / "final.json", "the result")
        rows.append({name: value for name, value in run.items() if name != "task_losses"})
        curves += read_curves(run_dir, dict(zip(AXES, cell)))
        described.append(load_json(run_dir / "args.json", "the arguments of the run"))
    if rows:
        out_csv = Path(args.out_csv)
        make_directory(out_csv.parent)
        write_csv(out_csv, rows)
        write_csv(out_csv.with_name(f"{out_csv.stem}_curves.csv"), curves)
        save_json(out_csv.with_name(f"{out_csv.stem}_about.json"), summarise(described))
    print(f"{len(rows)} finished runs of {len(rows) + len(missing)} -> {args.out_csv}")
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
