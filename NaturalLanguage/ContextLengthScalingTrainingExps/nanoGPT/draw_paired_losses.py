"""Draw what a longer context costs or gains against a shorter one, seed by seed, against the training tokens.

    python draw_paired_losses.py --results results/optimum/sweep.csv results/optimum/ends.csv --shorter 16 --longer 1024

Reads CSVs of collect_results.py together. Writes paired_losses as PDF and PNG, a panel a reading: the loss at the
longer context minus that at the shorter one, each seed a dot, the seeds that two sizes share joined, the mean with its
95% interval (Student's) where there are two seeds or more. Above 0 the shorter context is the better one. Prints these.
"""

from utils import Parser, fail, positive_int, run_main

import numpy as np

from paired import differences
from plotting import plt, save_figure, set_ticks, tokens_label
from sweep_table import LOSS_COLUMNS, read_cells


def draw(axis, cells, reading, shorter, longer):
    """One panel; prints mean and interval of each size."""
    rows = differences(cells, reading, shorter, longer, least_seeds=1)
    by_seed = {}
    for row in rows:
        for seed, value in zip(row.seeds, row.values):
            by_seed.setdefault(seed, []).append((row.tokens, value))
    for points in by_seed.values():
        axis.plot(*zip(*points), ".-", color="tab:gray", alpha=0.5, linewidth=0.7)
    for row in rows:
        text = f"{row.mean:+.4f}"
        if len(row.values) > 1:
            text = row.text(digits=4)
            low, high = row.interval
            axis.errorbar(row.tokens, row.mean, [[row.mean - low], [high - row.mean]], fmt="o", color="tab:blue",
                          capsize=3)
        print(f"{LOSS_COLUMNS[reading]}, {row.tokens} tokens: {longer} minus {shorter} {text}, "
              f"{np.sum(row.values > 0)} of {len(row.values)} seeds above 0")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(title=LOSS_COLUMNS[reading], xlabel="training tokens", xscale="log")
    set_ticks(axis.xaxis, [row.tokens for row in rows], tokens_label)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="CSVs of collect_results.py")
    parser.add_argument("--shorter", type=positive_int, required=True, help="context length in tokens")
    parser.add_argument("--longer", type=positive_int, required=True, help="the one that it is compared with")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figure")
    args = parser.parse_args()
    cells = read_cells(*args.results)
    if not differences(cells, next(iter(LOSS_COLUMNS)), args.shorter, args.longer, least_seeds=1):
        fail(f"{' '.join(args.results)}: no seed has runs at both {args.shorter} and {args.longer} tokens of context; "
             "choose lengths that were trained at")
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.6), sharey=True)
    for axis, reading in zip(axes, LOSS_COLUMNS):
        draw(axis, cells, reading, args.shorter, args.longer)
    axes[0].set_ylabel(f"loss at {args.longer} minus at {args.shorter} (nats)")
    save_figure(figure, args.out_dir, "paired_losses")


if __name__ == "__main__":
    run_main(main)
