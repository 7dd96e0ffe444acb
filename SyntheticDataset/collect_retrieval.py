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

from collecting import RETRIEVAL_AXES, expected_runs, finished_runs, gather, write_grids


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/retrieval/runs", help="--save_position of the runs")
    parser.add_argument("--out_dir", default="outputs/retrieval", help="directory for the files")
    parser.add_argument("--train_dataset_sizes", dest="train_dataset_size", type=positive_int, nargs="+",
                        help="training samples")
    parser.add_argument("--seeds", dest="seed", type=seed, nargs="+", help="of the runs")
    return parser.parse_args()


def main():
    args = parse_args()
    expected = (expected_runs(args.runs, "train_retrieval", args, RETRIEVAL_AXES)
                or fail(f"there are no runs of train_retrieval.py below {args.runs}; make some with "
                        "reproduce_retrieval.sh"))
    raise SystemExit(gather(expected, finished_runs(expected), write_grids, Path(args.out_dir) / "runs.csv"))


if __name__ == "__main__":
    run_main(main)
