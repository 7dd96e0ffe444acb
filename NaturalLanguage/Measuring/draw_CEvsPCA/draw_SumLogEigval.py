"""Draw cross entropy against sums of log eigenvalues, and the correlations of all measures (Fig. 16, heat map).

    python draw_SumLogEigval.py                                    # every measurement below ../outputs
    python draw_SumLogEigval.py --results ../results/small/ctl512 --out_dir ../results/small/figures

Reads measures_seq_{l}.json. For each measurement NAME writes, as PDF and PNG:
    NAME_ce_vs_sum_log_{first}_{last}   cross entropy against the sum of log relative eigenvalues over the first N, with
                                        a straight line: a figure for each group of N of the paper
    NAME_correlations                   of cross entropy, entropies, dimensions and sums across context lengths
Prints every fitted number. An N beyond the width of the features is left out, and said.
"""

from pathlib import Path

import numpy as np

from drawing import (
    FIT, NO_MEASURES, drawing_parser, length_colours, panels, parse_results, plt, read_measures, save_figure,
)
from fits import fit_line

GROUPS = (("3", "4", "5", "6"), ("10", "15", "25", "35", "45"), ("50", "80", "100", "120", "150"),
          ("200", "300", "450", "600", "750"), ("1000", "1300", "1500", "1800", "2000"))


def draw_ce_vs_sums(measures, group, kind="sum_log_eigenvalues"):
    """Cross entropy against the sums over the first N for each N of the group with a straight line; prints the fits."""
    losses = [entry["cross_entropy"] for entry in measures.values()]
    colours = list(length_colours(list(measures)).values())
    figure, axes = panels(len(group), width=2.6, height=2.4, columns=5)
    for axis, n in zip(axes, group):
        sums = [entry[kind][n] for entry in measures.values()]
        axis.scatter(sums, losses, c=colours, s=14)
        fit = fit_line(sums, losses)
        axis.plot([min(sums), max(sums)], fit([min(sums), max(sums)]), **FIT)
        axis.set_title(f"N = {n}: $R^2$ = {fit.r_squared:.3f}", fontsize=8)
        print(f"  cross entropy against the sum over the first {n}: slope {fit.slope[0]:.5f} [{fit.slope[1]:.5f}, "
              f"{fit.slope[2]:.5f}], R {fit.r:.4f}, R^2 {fit.r_squared:.4f}")
    figure.supxlabel(r"$\sum_{i \leq N}\,\log(\lambda_i / \lambda_1)$")
    figure.supylabel("cross entropy (nats)")
    return figure


def draw_correlations(measures, groups):
    """The heat map of the correlations, across context lengths, of everything measured that varies."""
    series = {"cross entropy": [entry["cross_entropy"] for entry in measures.values()]}
    for label, name in (("KDE entropy", "kde_entropy"), ("leave-one-out entropy", "leave_one_out_entropy"),
                        ("log-determinant part", "log_determinant_part"), ("TwoNN dimension", "two_nn_dimension")):
        series[label] = [entry.get(name) for entry in measures.values()]
    for threshold in next(iter(measures.values()))["intrinsic_dimension"]:
        series[f"dimension, {threshold}"] = [entry["intrinsic_dimension"][threshold] for entry in measures.values()]
    for n in (n for group in groups for n in group):
        series[f"sum over {n}"] = [entry["sum_log_eigenvalues"][n] for entry in measures.values()]
    series = {label: values for label, values in series.items() if None not in values and len(set(values)) > 1}
    matrix = np.corrcoef([np.array(values, dtype=float) for values in series.values()])
    figure, (axis,) = panels(1, width=0.17 * len(series) + 2.6, height=0.17 * len(series) + 1.8)
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_xticks(range(len(series)), series, rotation=90, fontsize=6)
    axis.set_yticks(range(len(series)), series, fontsize=6)
    axis.grid(False)
    plt.colorbar(image, ax=axis, shrink=0.7, label="correlation across context lengths")
    return figure


def main():
    args = parse_results(drawing_parser(__doc__, "measures_seq_*.json"), NO_MEASURES)
    for directory in args.results:
        measures, name = read_measures(directory), Path(directory).resolve().name
        there = [n for group in GROUPS for n in group
                 if all(entry["sum_log_eigenvalues"][n] is not None for entry in measures.values())]
        groups = [[n for n in group if n in there] for group in GROUPS]
        print(f"{name}: {len(there)} of {sum(map(len, GROUPS))} values of N are within the rank of the features")
        for group in filter(None, groups):
            save_figure(draw_ce_vs_sums(measures, group), args.out_dir, f"{name}_ce_vs_sum_log_{group[0]}_{group[-1]}")
        save_figure(draw_correlations(measures, groups), args.out_dir, f"{name}_correlations")


if __name__ == "__main__":
    main()
