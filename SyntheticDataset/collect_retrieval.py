"""Gather the finished runs of train_retrieval.py into one table, one tensor file, and how they were made.

    python collect_retrieval.py --runs outputs/retrieval/runs --out_dir outputs/retrieval
    python collect_retrieval.py --runs outputs/retrieval/runs --train_dataset_sizes 2000 4000 8000 --seeds 0 1 2 3 4

Writes into OUT_DIR: runs.csv, the final.json of each run as a row; grids.pt, a dictionary with visible_lengths,
train_dataset_size and seed (int64 (runs,), in the order of runs.csv), cross_entropy and accuracy (float64 (runs,
lengths, n_pairs), by visible length and gold distance); about.json, the arguments that all runs share and their
environments. The runs expected are all combinations of the sizes and seeds; what is not given is read off the run
directories, unfinished ones included. Runs that have not finished are named on stderr, and the exit code is then 1.
"""

import csv
import itertools
import sys
from pathlib import Path

import torch

from retrieval import run_tag
from run import INCIDENTAL
from utils import (Parser, fail, load_json, load_tensors, make_directory, non_negative_int, positive_int, replacing,
                   save_json, save_tensors)

SWEPT = ("train_dataset_size", "seed")


def shared_arguments(described, runs):
    """The arguments of runs without those that are swept; exits with code 2 where the runs differ in others."""
    arguments = [{name: value for name, value in run["arguments"].items() if name not in {*INCIDENTAL, *SWEPT}}
                 for run in described]
    for run, other in zip(described, arguments):
        for name, value in other.items():
            if value != arguments[0].get(name):
                tag = run_tag(run["arguments"]["train_dataset_size"], run["arguments"]["seed"])
                fail(f"{runs} holds runs with different {name}, {tag} with {value}; train them into another directory")
    environments = [run["environment"] for run in described]
    return {"arguments": arguments[0],
            "environments": [one for place, one in enumerate(environments) if one not in environments[:place]]}


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/retrieval/runs", help="--save_position of the runs")
    parser.add_argument("--out_dir", default="outputs/retrieval", help="directory for the files")
    parser.add_argument("--train_dataset_sizes", dest="train_dataset_size", type=positive_int, nargs="+",
                        help="training samples")
    parser.add_argument("--seeds", dest="seed", type=non_negative_int, nargs="+", help="of the runs")
    return parser.parse_args()


def main():
    args = parse_args()
    started = [load_json(path, "the arguments of the run")["arguments"]
               for path in sorted(Path(args.runs).glob("retrieval_*/args.json"))]
    if not started:
        fail(f"there are no runs of train_retrieval.py below {args.runs}; make some with reproduce_retrieval.sh")
    axes = [sorted(set(getattr(args, axis) or (run[axis] for run in started))) for axis in SWEPT]

    rows, grids, described, missing = [], [], [], []
    for cell in itertools.product(*axes):
        run_dir = Path(args.runs) / run_tag(*cell)
        if not (run_dir / "final.json").exists():
            missing.append(run_dir.name)
            continue
        rows.append(load_json(run_dir / "final.json", "the result"))
        grids.append(load_tensors(run_dir / "grid.pt", "the grid"))
        described.append(load_json(run_dir / "args.json", "the arguments of the run"))
    if rows:
        about = shared_arguments(described, args.runs)
        out_dir = make_directory(args.out_dir)
        with (replacing(out_dir / "runs.csv") as temporary,
              open(temporary, "w", newline="", encoding="utf-8") as file):
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        save_tensors(out_dir / "grids.pt", {
            "visible_lengths": grids[0]["visible_lengths"],
            **{name: torch.tensor([row[name] for row in rows]) for name in SWEPT},
            **{name: torch.stack([grid[name] for grid in grids]) for name in ("cross_entropy", "accuracy")}})
        save_json(out_dir / "about.json", about)
    print(f"{len(rows)} finished runs of {len(rows) + len(missing)} -> {args.out_dir}")
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
