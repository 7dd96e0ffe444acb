"""Gather the finished runs of train_retrieval.py into one table, one tensor file, and how they were made.

    python collect_retrieval.py --runs outputs/retrieval/runs --out_dir outputs/retrieval
    python collect_retrieval.py --runs outputs/retrieval/runs --train_dataset_sizes 2000 4000 8000 --seeds 0 1 2 3 4

Writes into OUT_DIR: runs.csv, the final.json of each run as a row; grids.pt, a dictionary with visible_lengths,
train_dataset_size and seed (int64 (runs,), in the order of runs.csv), cross_entropy and accuracy (float64 (runs,
lengths, n_pairs), by visible length and gold distance); about.json, the arguments that all runs share and their
environments. The runs expected are all combinations of the sizes and seeds; what is not given is read off the run
directories, unfinished ones included. Runs that have not finished are named on stderr, and the exit code is then 1.
"""

from utils import Parser, fail, positive_int, run_main, seed

from pathlib import Path

import torch

from collecting import describe_runs, expected_runs, finished_runs, gather
from files import load_tensors, make_directory, save_json, save_tensors, write_csv
from run import load_result

SWEPT = ("train_dataset_size", "seed")


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/retrieval/runs", help="--save_position of the runs")
    parser.add_argument("--out_dir", default="outputs/retrieval", help="directory for the files")
    parser.add_argument("--train_dataset_sizes", dest="train_dataset_size", type=positive_int, nargs="+",
                        help="training samples")
    parser.add_argument("--seeds", dest="seed", type=seed, nargs="+", help="of the runs")
    parser.add_argument("--list", action="store_true", help="name the directories of the runs, do nothing else")
    return parser.parse_args()


def write(run_dirs, out_dir):
    """Write the three files for finished runs; exits with code 2 where their other arguments differ."""
    out_dir, about = Path(out_dir), describe_runs(run_dirs, SWEPT)
    rows = [load_result(run_dir) for run_dir in run_dirs]
    grids = [load_tensors(run_dir / "grid.pt", "the grid") for run_dir in run_dirs]
    make_directory(out_dir)
    write_csv(out_dir / "runs.csv", rows)
    save_tensors(out_dir / "grids.pt", {
        "visible_lengths": grids[0]["visible_lengths"],
        **{name: torch.tensor([row[name] for row in rows]) for name in SWEPT},
        **{name: torch.stack([grid[name] for grid in grids]) for name in ("cross_entropy", "accuracy")}})
    save_json(out_dir / "about.json", {name: about[name] for name in ("arguments", "environments")})


def main():
    args = parse_args()
    expected = (expected_runs(args.runs, "train_retrieval", args, SWEPT)
                or fail(f"there are no runs of train_retrieval.py below {args.runs}; make some with "
                        "reproduce_retrieval.sh"))
    if args.list:
        return print("\n".join(run_dir.name for run_dir in expected))
    raise SystemExit(gather(expected, finished_runs(expected), write, args.out_dir))


if __name__ == "__main__":
    run_main(main)
