"""Table 1: the cross entropy of trained transformers beside the Bayes risk, at every visible length.

    python table1.py --runs outputs/transformer_runs --out_csv outputs/table1.csv

Reads the final.json of finished runs of train_transformer.py. Writes one row a visible length: Bayes risk, mean, lowest
and highest cross entropy over the seeds (nats), and the largest difference; prints them as a Markdown table. Runs that
have not finished are named, and the exit code is then 1.
"""

from pathlib import Path

from collect_results import write_csv
from utils import Parser, fail, load_json, make_directory


def table_rows(results):
    """One dictionary, a row of the table, for each visible length, from the contents of final.json of several seeds."""
    lengths = results[0]["visible_context_length"]
    if any(result["visible_context_length"] != lengths or result["bayes_risk"] != results[0]["bayes_risk"]
           for result in results):
        fail("the runs are of different tasks; give --runs a directory with the seeds of one task")
    rows = []
    for place, length in enumerate(lengths):
        losses = [result["cross_entropy"][place] for result in results]
        risk = results[0]["bayes_risk"][place]
        rows.append({"context_length": length, "bayes_risk": risk, "cross_entropy": sum(losses) / len(losses),
                     "lowest": min(losses), "highest": max(losses), "largest_difference": max(losses) - risk,
                     "seeds": len(losses)})
    return rows


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", default="outputs/transformer_runs", help="directory of runs")
    parser.add_argument("--out_csv", default="outputs/table1.csv", help="file to write")
    args = parser.parse_args()
    started = sorted(path.parent for path in Path(args.runs).glob("*/args.json"))
    finished = [run for run in started if (run / "final.json").exists()]
    if not finished:
        fail(f"there is no finished run in {args.runs}; make one with train_transformer.py")
    rows = table_rows([load_json(run / "final.json", "the result") for run in finished])
    make_directory(Path(args.out_csv).parent)
    write_csv(Path(args.out_csv), rows)
    print("| context | cross entropy | Bayes risk | largest difference |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['context_length']} | {row['cross_entropy']:.4f} [{row['lowest']:.4f}, {row['highest']:.4f}] | "
              f"{row['bayes_risk']:.4f} | {row['largest_difference']:.4f} |")
    print(f"{len(finished)} runs -> {args.out_csv}")
    for run in started:
        if run not in finished:
            print(f"not finished: {run}")
    raise SystemExit(len(finished) < len(started))


if __name__ == "__main__":
    main()
