"""Gather the finished runs of a sweep into one table, with their curves and how they were made beside it.

    python collect_results.py --runs outputs/runs --out_csv outputs/sweep.csv
    python collect_results.py --runs outputs/runs --context_lengths 64 256 --train_tokens 200000 --seeds 0 1

Writes OUT_CSV, one row a finished run (results/README.md explains the columns), and with its name .pt (the loss at each
position of the window and the evaluations of each run) and _about.json (the arguments that all runs share, data,
hardware and versions). The cells expected are all combinations of the given context lengths, token counts and seeds;
what is not given is read off the run directories, unfinished ones included. Cells without a finished run are named on
stderr, and the exit code is then 1; the table holds the others. Runs whose other arguments differ are refused; the
schedule (steps, warm-up, evaluations) may be tuned to each number of training tokens and length.
"""

from utils import Parser, positive_int, run_main, seed

from collecting import collect_runs


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/runs", help="--out_dir of the runs")
    parser.add_argument("--out_csv", default="outputs/sweep.csv", help="file to write")
    parser.add_argument("--context_lengths", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--train_tokens", type=positive_int, nargs="+", help="tokens")
    parser.add_argument("--seeds", type=seed, nargs="+", help="of the runs")
    args = parser.parse_args()
    grid = {"context_length": args.context_lengths, "train_tokens": args.train_tokens, "seed": args.seeds}
    raise SystemExit(collect_runs(args.runs, args.out_csv, grid))


if __name__ == "__main__":
    run_main(main)
