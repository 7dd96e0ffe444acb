"""Draw relative eigenvalues, intrinsic dimension, and cross entropy against intrinsic dimension (Figs. 13 and 16).

    python draw_IntrinsicDim.py                                    # every measurement below ../outputs
    python draw_IntrinsicDim.py --results ../results/small/ctl512 --out_dir ../results/small/figures

Reads spectra.pt and measures.csv. For each measurement NAME writes, as PDF and PNG:
    NAME_spectra              relative eigenvalues by context length, and their increments over the shortest one
    NAME_dimension            intrinsic dimension against context length with C0 + C / l^gamma, for some thresholds
    NAME_ce_vs_dimension      cross entropy against intrinsic dimension with a straight line, at all 20 thresholds
Prints every dimension and every fitted number. The losses are those of the very chunks that the dimensions were
measured on.
"""

from plotting import (
    FIT, THRESHOLDS, drawing_parser, label_ticks, length_colours, panels, parse_results, plt, read_measures,
    save_figure,
)
from utils import run_main

import numpy as np

from fits import fit_line, fit_power_law, interval

SHOWN_THRESHOLDS = (0.005, 0.02, 0.05, 0.1, 0.2)


def draw_spectra(spectra):
    """Relative eigenvalues against their index, and how much larger they are than at the shortest context length.

    Shown are the directions that count at every context length.
    """
    figure, (left, right) = panels(2, width=4)
    rank = min(spectrum.rank for spectrum in spectra.values())
    shortest, index = spectra[min(spectra)].relative()[:rank], range(1, rank + 1)
    for length, colour in length_colours(sorted(spectra)).items():
        relative = spectra[length].relative()[:rank]
        left.plot(index, relative, color=colour, label=f"{length}")
        right.plot(index, relative - shortest, color=colour)
    left.set(xscale="log", yscale="log", xlabel="index $i$", ylabel=r"relative eigenvalue $\lambda_i / \lambda_1$")
    right.set(xscale="log", xlabel="index $i$", ylabel=f"increment over context {min(spectra)}")
    left.legend(title="context length", fontsize=6, ncol=2)
    return figure


def draw_dimension(measures):
    """Intrinsic dimension against context length with its power law; prints the dimensions and the fits."""
    figure, (axis,) = panels(1, width=4.6)
    lengths = measures.lengths()
    print(f"  dimension at context lengths {' '.join(map(str, lengths))}:")
    for threshold in THRESHOLDS:
        dimensions = [measures.spectra[length].dimension(threshold) for length in lengths]
        print(f"    threshold {threshold}: {' '.join(map(str, dimensions))}")
    for index, threshold in enumerate(SHOWN_THRESHOLDS):
        colour = plt.cm.plasma(0.85 * index / (len(SHOWN_THRESHOLDS) - 1))
        dimensions = [measures.spectra[length].dimension(threshold) for length in lengths]
        axis.plot(lengths, dimensions, "o", color=colour, label=f"threshold {threshold}")
        if len(lengths) > 3 and len(set(dimensions)) > 1:
            fit = fit_power_law(lengths, dimensions)
            fine = np.geomspace(lengths[0], lengths[-1], 200)
            axis.plot(fine, fit(fine), **{**FIT, "color": colour})
            print(f"  dimension at threshold {threshold}: C0 {interval(fit.c0, '.4g')}, C {fit.c[0]:.4g}, "
                  f"gamma {interval(fit.gamma, '.3g')}, R^2 {fit.r_squared:.4f}")
    axis.set(xscale="log", xlabel="context length (tokens)", ylabel="intrinsic dimension")
    label_ticks(axis.xaxis, lengths)
    axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_ce_vs_dimension(measures):
    """Cross entropy against intrinsic dimension at every threshold with a straight line; prints the fits."""
    losses = measures.column("cross_entropy")
    colours = list(length_colours(measures.lengths()).values())
    figure, axes = panels(len(THRESHOLDS), width=2.4, height=2.2, columns=5)
    for axis, threshold in zip(axes, THRESHOLDS):
        dimensions = [measures.spectra[length].dimension(threshold) for length in measures.lengths()]
        axis.scatter(dimensions, losses, c=colours, s=14)
        title = f"threshold {threshold}"
        if len(set(dimensions)) > 1:
            fit = fit_line(dimensions, losses)
            ends = [min(dimensions), max(dimensions)]
            axis.plot(ends, fit(ends), **FIT)
            title += f": $R^2$ = {fit.r_squared:.3f}"
            print(f"  cross entropy against dimension at threshold {threshold}: {fit}")
        axis.set_title(title, fontsize=7)
    figure.supxlabel("intrinsic dimension")
    figure.supylabel("cross entropy (nats)")
    return figure


def main():
    args = parse_results(drawing_parser(__doc__, "measures.csv"))
    for directory in args.results:
        measures = read_measures(directory)
        print(f"{measures.name}:")
        save_figure(draw_spectra(measures.spectra), args.out_dir, f"{measures.name}_spectra")
        save_figure(draw_dimension(measures), args.out_dir, f"{measures.name}_dimension")
        save_figure(draw_ce_vs_dimension(measures), args.out_dir, f"{measures.name}_ce_vs_dimension")


if __name__ == "__main__":
    run_main(main)
