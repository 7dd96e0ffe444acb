"""Draw how often an answer is found, by where it stands in the context (Lost in the Middle, on small models).

    python draw_recall.py --results results/recall/uniform.csv results/recall/ends.csv --units 16 --out_dir figures

Reads tables of evaluate_retrieval.py, one a model, named after their files. Writes recall_by_position: the accuracy at
each gold unit, over the first query of each document and over all, with 95% Wilson intervals; as PDF and PNG. Prints
the accuracy in the first and last quarter of the units and between, and a chi-square test of whether it is the same at
all (over all queries it counts the queries of a document as independent).
"""

from utils import Parser, fail, positive_int, run_main

import math
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from files import read_table
from plotting import plt, save_figure

READINGS = {"gold_first": "first query", "gold": "all queries"}


def wilson(share, n):
    """The 95% Wilson interval of shares of n trials: lower and upper ends."""
    z = 1.959964
    centre, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def read_accuracies(path, units, reading):
    """Gold units, answers and accuracies (arrays) of a table. Exits with code 2 if it has none of this kind."""
    rows = [row for row in read_table(path) if (row.get("by"), row.get("units")) == (reading, str(units))]
    if not rows:
        fail(f"{path} has no answers by {reading} in documents of {units} units; evaluate the run on such")
    rows.sort(key=lambda row: int(row["index"]))
    return tuple(np.array([kind(row[name]) for row in rows])
                 for name, kind in (("index", int), ("n", int), ("accuracy", float)))


def same_everywhere(n, accuracy):
    """P value of a chi-square test that the accuracy is the same at every unit; 1 where it is 0 or 1 at all."""
    mean = (n * accuracy).sum() / n.sum()
    if mean in (0, 1):
        return 1.0
    return float(chi2.sf((n * (accuracy - mean) ** 2).sum() / (mean * (1 - mean)), len(n) - 1))


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", required=True, help="tables of evaluate_retrieval.py")
    parser.add_argument("--units", type=positive_int, required=True, help="of the documents")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figure")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for path in map(Path, args.results):
        for axis, (reading, label) in zip(axes, READINGS.items()):
            index, n, accuracy = read_accuracies(path, args.units, reading)
            low, high = wilson(accuracy, n)
            axis.errorbar(index, accuracy, np.maximum([accuracy - low, high - accuracy], 0), marker="o", markersize=3,
                          linewidth=1, capsize=2, label=path.stem)
            quarter = math.ceil(args.units / 4)
            parts = (index < quarter, (index >= quarter) & (index < args.units - quarter),
                     index >= args.units - quarter)
            shares = ", ".join(f"{(n * accuracy)[part].sum() / n[part].sum():.3f}" for part in parts if part.any())
            print(f"{path.stem}, {args.units} units, {label}: accuracy {shares} in the first quarter, the middle and "
                  f"the last quarter, of {n.sum()} answers; the same at all: p = {same_everywhere(n, accuracy):.2g}")
            axis.set(title=label, xlabel="index of the pair asked for")
    axes[0].set(ylabel="accuracy", ylim=(0, 1.05))
    axes[1].legend()
    save_figure(figure, args.out_dir, "recall_by_position")


if __name__ == "__main__":
    run_main(main)
