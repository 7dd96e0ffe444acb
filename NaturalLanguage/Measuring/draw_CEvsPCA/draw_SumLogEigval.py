"""Draw cross entropy against sums of log eigenvalues, and the correlations of all measures (Fig. 16, heat map).

    python draw_SumLogEigval.py                                    # every measurement below ../outputs
    python draw_SumLogEigval.py --results ../results/small/ctl512 --out_dir ../results/small/figures

Reads measures.csv and spectra.pt. For each measurement NAME writes, as PDF and PNG:
    NAME_ce_vs_sum_log_{first}_{last}   cross entropy against the sum of log relative eigenvalues over the first N, with
                                        a straight line: a figure for each group of N of the paper
    NAME_correlations                   of cross entropy, entropies, dimensions and sums across context lengths
Prints every fitted number. An N beyond the rank of the features is left out, and said.
"""

from plotting import (
    FIT, N_COMPONENTS, THRESHOLDS, drawing_parser, length_colours, panels, parse_results, plt, read_measures,
    save_figure,
)
from utils import run_main

import numpy as np

from fits import fit_line


def draw_ce_vs_sums(measures, group):
    """Cross entropy against the sums over the first N for each N of the group with a straight line; prints the fits."""
    losses = measures.column("cross_entropy")
    colours = list(length_colours(measures.lengths()).values())
    figure, axes = panels(len(group), width=2.6, height=2.4, columns=5)
    for axis, n in zip(axes, group):
        sums = [measures.spectra[length].sum_log(n) for length in measures.lengths()]
        axis.scatter(sums, losses, c=colours, s=14)
        fit = fit_line(sums, losses)
        axis.plot([min(sums), max(sums)], fit([min(sums), max(sums)]), **FIT)
        axis.set_title(f"N = {n}: $R^2$ = {fit.r_squared:.3f}", fontsize=8)
        print(f"  cross entropy against the sum over the first {n}: {fit}")
    figure.supxlabel(r"$\sum_{i \leq N}\,\log(\lambda_i / \lambda_1)$")
    figure.supylabel("cross entropy (nats)")
    return figure


def draw_correlations(measures, groups):
    """The heat map of the correlations, across context lengths, of everything measured that varies."""
    series = {label: measures.column(name) for label, name in (
        ("cross entropy", "cross_entropy"), ("KDE entropy", "kde_entropy"),
        ("leave-one-out entropy", "leave_one_out_entropy"), ("log-determinant part", "log_determinant_part"),
        ("TwoNN dimension", "two_nn_dimension"))}
    spectra = [measures.spectra[length] for length in measures.lengths()]
    series |= {f"dimension, {threshold}": [spectrum.dimension(threshold) for spectrum in spectra]
               for threshold in THRESHOLDS}
    series |= {f"sum over {n}": [spectrum.sum_log(n) for spectrum in spectra] for group in groups for n in group}
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
    args = parse_results(drawing_parser(__doc__, "measures.csv"))
    for directory in args.results:
        measures = read_measures(directory)
        rank = min(spectrum.rank for spectrum in measures.spectra.values())
        groups = [[n for n in group if n <= rank] for group in N_COMPONENTS]
        print(f"{measures.name}: {sum(map(len, groups))} of {sum(map(len, N_COMPONENTS))} values of N are within the "
              f"rank of the features, {rank}")
        for group in filter(None, groups):
            save_figure(draw_ce_vs_sums(measures, group), args.out_dir,
                        f"{measures.name}_ce_vs_sum_log_{group[0]}_{group[-1]}")
        save_figure(draw_correlations(measures, groups), args.out_dir, f"{measures.name}_correlations")


if __name__ == "__main__":
    run_main(main)
