"""Draw spectra by visible length, and cross entropy against intrinsic entropy (Figs. 6 and 7).

    python draw_entropy_vs_loss.py --measures outputs/transformer_measures --table1 outputs/table1.csv

Reads what measure_features.py made from the features of train_transformer.py's runs, and the losses of the same runs
from the table of collect_results.py --table1. Writes, as PDF and PNG:
    transformer_spectra    relative and absolute eigenvalues by visible length (first seed), and cross entropy against
                           the sum of log absolute eigenvalues over the first N, for several N
    entropy_vs_loss        cross entropy, measured and Bayes, against that sum at the best N and against the KDE entropy
Prints R for every seed: against the KDE entropy, its log-determinant part, and the sums of log relative and log
absolute eigenvalues at the N with the straightest line (relative: over the largest, as the paper's proxy is defined;
absolute: as they are). N goes up to the rank, the lowest over the lengths.
"""

from utils import Parser, fail, run_main

import matplotlib.pyplot as plt
import numpy as np

from correlation import column, correlations, load_by_seed, sums_by_length
from plotting import BAYES, colours, save_figure


def draw_spectra(rows):
    """Fig. 6 for one seed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    losses, sums = column(rows, "cross_entropy"), sums_by_length(rows, relative=False)
    for row, colour in zip(rows, colours(row["visible_context_length"] for row in rows).values()):
        values = row["eigenvalues"][:sums.shape[1]].numpy()
        for axis, drawn in zip(axes, (values / values[0], values)):
            axis.plot(range(1, len(drawn) + 1), drawn, color=colour, linewidth=1,
                      label=f"{row['visible_context_length']}")
    for axis, label in zip(axes, (r"relative eigenvalue $\lambda_i / \lambda_1$", r"eigenvalue $\lambda_i$")):
        axis.set(xlabel="index $i$", ylabel=label, xscale="log", yscale="log")
    step = max(len(rows) // 12, 1)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].legend(handles[::step], labels[::step], title="visible bits", fontsize=6, ncol=2)
    shown = [n for n in (3, 6, 12, 25, 50, 70, 100, 150, 208) if n < sums.shape[1]] + [sums.shape[1]]
    for n, colour in colours(shown).items():
        series = sums[:, n - 1]
        axes[2].plot((series - series.min()) / np.ptp(series), losses, ".-", color=colour, linewidth=0.6,
                     label=f"{n}: R = {np.corrcoef(series, losses)[0, 1]:.3f}")
    axes[2].set(xlabel=r"$\sum_{i \leq N}\,\log \lambda_i$, from its lowest to its highest",
                ylabel="cross entropy (nats)")
    axes[2].legend(title="N", fontsize=6)
    return figure


def draw_lines(seeds, found):
    """Fig. 7: every seed's losses against the sum of log eigenvalues at the best N, and against the KDE entropy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for (seed, rows), colour in zip(seeds.items(), colours(seeds).values()):
        losses, risks = column(rows, "cross_entropy"), column(rows, "bayes_risk")
        n = found[seed]["absolute eigenvalues"][0]
        for axis, series in ((left, sums_by_length(rows, False)[:, n - 1]), (right, column(rows, "kde_entropy"))):
            axis.plot(series, losses, "o", color=colour, label=f"measured, seed {seed}")
            order = np.argsort(series)
            axis.plot(series[order], risks[order], **{**BAYES, "linewidth": 0.8, "label": None})
    left.set(xlabel="sum of log eigenvalues at the best N (nats)", ylabel="cross entropy (nats)")
    right.set(xlabel="KDE entropy (nats)")
    right.plot([], [], **BAYES)
    right.legend(fontsize=7)
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--measures", default="outputs/transformer_measures", help="--out_dir of measure_features.py")
    parser.add_argument("--table1", default="outputs/table1.csv", help="table of collect_results.py --table1")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    seeds = load_by_seed(args.measures, args.table1)
    found = {seed: correlations(rows) for seed, rows in seeds.items()}
    for seed, entries in found.items():
        if "KDE entropy" not in entries:
            fail(f"{args.measures} has no KDE entropy of seed {seed}; measure it without --no-entropy")
        print(f"seed {seed}: cross entropy against "
              + "; ".join(f"{f'first {n} ' if n else ''}{name} R {r:.4f}" for name, (n, r) in entries.items()))
    for name in next(iter(found.values())):
        values = [entries[name][1] for entries in found.values()]
        print(f"{name}: R {np.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}] over {len(values)} seeds")
    save_figure(draw_lines(seeds, found), args.out_dir, "entropy_vs_loss")
    save_figure(draw_spectra(next(iter(seeds.values()))), args.out_dir, "transformer_spectra")


if __name__ == "__main__":
    run_main(main)
