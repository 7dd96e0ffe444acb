"""Gather the answers of finished runs into one small table: means by visible fraction and gold unit.

    python -m downstream.collect_answers --runs outputs/downstream/small/runs/*/* --out_csv answers.csv

Writes OUT_CSV: model, task, units (of a context), values (that an answer can have), visible_fraction, needle,
gold_index, gold_visible, n answers, accuracy (the right answer is the likeliest), cross_entropy (nats).
draw_by_seed.py reads it.
"""

from utils import Parser, run_main

from pathlib import Path

from downstream.by_seed import COLUMNS, answer_groups
from downstream.plotting import RUNS, read_runs
from files import make_directory, write_csv


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", nargs="+",
                        help=f"directories of evaluate_tasks.py (default: all finished below {RUNS})")
    parser.add_argument("--out_csv", default="outputs/downstream/answers.csv", help="table to write")
    args = parser.parse_args()
    runs = read_runs(args)
    rows = [{name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
            for run in runs for row in answer_groups(run)]
    make_directory(Path(args.out_csv).parent)
    write_csv(args.out_csv, rows, COLUMNS)
    print(f"{args.out_csv}: {len(rows)} rows of {len(runs)} runs")


if __name__ == "__main__":
    run_main(main)
