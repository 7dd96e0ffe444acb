"""Gather the finished runs of a sweep into one CSV, their training curves into another, and how they were made.

    python collect_results.py --runs outputs/runs --out_csv outputs/sweep.csv
    python collect_results.py --runs outputs/runs --context_lengths 27 36 --train_dataset_sizes 85000 --seeds 0 1
    python collect_results.py --table1             # of train_transformer.py: cross entropy beside Bayes risk

Writes OUT_CSV, one row a finished run, and beside it, with _curves in the name, one row an epoch of each (columns as in
final.json and metrics.csv; results/README.md explains them) and, as _about.json, the arguments that all runs share and
the hardware and versions they ran with. The cells expected are all combinations of the given context lengths, sizes,
weight decays and seeds; what is not given is read off the run directories, unfinished ones included. Gathers MLPs;
another --model gathers those instead. With --table1 the cells are seeds, the rows seeds and visible lengths, and the
means, lowest and highest over the seeds are printed. Runs whose other arguments or data differ are refused. Cells
without a finished run are named on stderr, and the exit code is then 1; the CSVs hold the others.
"""

from utils import Parser, fail, non_negative_float, positive_int, run_main, seed

from collecting import (AXES, TABLE1_AXES, expected_runs, finished_runs, gather, print_table1, write_sweep,
                        write_table1)
from settings import MODELS


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--runs", help="--save_position of the runs (default: outputs/runs; with --table1 "
                                       "outputs/transformer_runs)")
    parser.add_argument("--out_csv", help="file to write (default: outputs/sweep.csv; with --table1 "
                                          "outputs/table1.csv)")
    parser.add_argument("--table1", action="store_true", help="gather runs of train_transformer.py")
    parser.add_argument("--model", choices=MODELS, help="network of the runs to gather (default: mlp)")
    parser.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    parser.add_argument("--context_lengths", dest="context_length", type=positive_int, nargs="+", help="visible bits")
    parser.add_argument("--train_dataset_sizes", dest="train_dataset_size", type=positive_int, nargs="+",
                        help="training samples")
    parser.add_argument("--weight_decays", dest="weight_decay", type=non_negative_float, nargs="+", help="of AdamW")
    parser.add_argument("--seeds", dest="seed", type=seed, nargs="+", help="of the runs")
    args = parser.parse_args()
    given = [f"--{name}s" for name in AXES if name != "seed" and getattr(args, name)] + ["--model"] * bool(args.model)
    if args.table1 and given:
        fail(f"{given[0]} is of runs of train_model.py; leave it out with --table1, which takes --seeds alone")
    args.runs = args.runs or ("outputs/transformer_runs" if args.table1 else "outputs/runs")
    args.out_csv = args.out_csv or ("outputs/table1.csv" if args.table1 else "outputs/sweep.csv")
    return args


def asked_for(args):
    """The directories of the cells asked for, finished or not. Exits with code 2 if there is no run at all."""
    if args.table1:
        return (expected_runs(args.runs, "train_transformer", args, TABLE1_AXES)
                or fail(f"there is no run in {args.runs}; make one with train_transformer.py"))
    return (expected_runs(args.runs, "train_model", args, AXES, model=args.model or "mlp")
            or fail(f"there are no such runs below {args.runs}; make some with train_model.sh"))


def main():
    args = parse_args()
    expected = asked_for(args)
    finished = finished_runs(expected)
    code = gather(expected, finished, write_table1 if args.table1 else write_sweep, args.out_csv)
    if args.table1 and finished:
        print_table1(args.out_csv)
    raise SystemExit(code)


if __name__ == "__main__":
    run_main(main)
