"""Draw relative eigenvalues, intrinsic dimension, and cross entropy against intrinsic dimension (Figs. 13 and 16).

    python draw_IntrinsicDim.py                                    # every measurement below ../outputs
    python draw_IntrinsicDim.py --results ../results/small/ctl512 --out_dir ../results/small/figures

Reads {l}_eigvals.pt and measures_seq_{l}.json. For each measurement NAME writes, as PDF and PNG:
    NAME_spectra              relative eigenvalues by context length, and their increments over the shortest one
    NAME_dimension            intrinsic dimension against context length with C0 + C / l^gamma, for some thresholds
    NAME_ce_vs_dimension      cross entropy against intrinsic dimension with a straight line, at all 20 thresholds
Prints every fitted number. The losses are those of the very chunks that the dimensions were measured on.
"""

from pathlib import Path

import numpy as np
import torch

from drawing import (
    FIT, NO_MEASURES, drawing_parser, fail, label_ticks, length_colours, panels, parse_results, plt, read_measures,
    save_figure,
)
from fits import fit_line, fit_power_law

SHOWN_THRESHOLDS = ("0.005", "0.02", "0.05", "0.1", "0.2")


def read_spectra(directory, lengths):
    """{l}_eigvals.pt of each context length as relative eigenvalues (rank,), without those that are rounding alone."""
    spectra = {}
    for length in lengths:
        path = Path(directory) / f"{length}_eigvals.pt"
        try:
            eigenvalues = torch.load(path, weights_only=True).double()
        except Exception as error:  # a damaged file raises many types
            fail(f"cannot read {path} ({type(error).__name__}); make it again with compute_eigvals.py --overwrite")
        spectra[length] = (eigenvalues / eigenvalues[0]).numpy()
    rank = min(int((spectrum > 1e-12).sum()) for spectrum in spectra.values())
    return {length: spectrum[:rank] for length, spectrum in spectra.items()}


def draw_spectra(spectra):
    """Relative eigenvalues against their index, and how much larger they are than at the shortest context length."""
    figure, (left, right) = panels(2, width=4)
    shortest = spectra[min(spectra)]
    for length, colour in length_colours(sorted(spectra)).items():
        index = range(1, len(shortest) + 1)
        left.plot(index, spectra[length], color=colour, label=f"{length}")
        right.plot(index, spectra[length] - shortest, color=colour)
    left.set(xscale="log", yscale="log", xlabel="index $i$", ylabel=r"relative eigenvalue $\lambda_i / \lambda_1$")
    right.set(xscale="log", xlabel="index $i$", ylabel=f"increment over context {min(spectra)}")
    left.legend(title="context length", fontsize=6, ncol=2)
    return figure


def draw_dimension(measures):
    """Intrinsic dimension against context length with its power law; prints the fits."""
    figure, (axis,) = panels(1, width=4.6)
    lengths = list(measures)
    for place, threshold in enumerate(SHOWN_THRESHOLDS):
        colour = plt.cm.plasma(0.85 * place / (len(SHOWN_THRESHOLDS) - 1))
        dimensions = [measures[length]["intrinsic_dimension"][threshold] for length in lengths]
        axis.plot(lengths, dimensions, "o", color=colour, label=f"threshold {threshold}")
        if len(lengths) > 3 and len(set(dimensions)) > 1:
            fit = fit_power_law(lengths, dimensions)
            fine = np.geomspace(lengths[0], lengths[-1], 200)
            axis.plot(fine, fit(fine), **{**FIT, "color": colour})
            print(f"  dimension at threshold {threshold}: C0 {fit.c0[0]:.4g} [{fit.c0[1]:.4g}, {fit.c0[2]:.4g}], "
                  f"C {fit.c[0]:.4g}, gamma {fit.gamma[0]:.3g} [{fit.gamma[1]:.3g}, {fit.gamma[2]:.3g}], "
                  f"R^2 {fit.r_squared:.4f}")
    axis.set(xscale="log", xlabel="context length (tokens)", ylabel="intrinsic dimension")
    label_ticks(axis.xaxis, lengths)
    axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_ce_vs_dimension(measures):
    """Cross entropy against intrinsic dimension at every threshold with a straight line; prints the fits."""
    thresholds = list(next(iter(measures.values()))["intrinsic_dimension"])
    losses = [entry["cross_entropy"] for entry in measures.values()]
    colours = list(length_colours(list(measures)).values())
    figure, axes = panels(len(thresholds), width=2.4, height=2.2, columns=5)
    for axis, threshold in zip(axes, thresholds):
        dimensions = [entry["intrinsic_dimension"][threshold] for entry in measures.values()]
        axis.scatter(dimensions, losses, c=colours, s=14)
        title = f"threshold {threshold}"
        if len(set(dimensions)) > 1:
            fit = fit_line(dimensions, losses)
            ends = [min(dimensions), max(dimensions)]
            axis.plot(ends, fit(ends), **FIT)
            title += f": $R^2$ = {fit.r_squared:.3f}"
            print(f"  cross entropy against dimension at threshold {threshold}: slope {fit.slope[0]:.5f} "
                  f"[{fit.slope[1]:.5f}, {fit.slope[2]:.5f}], R {fit.r:.4f}, R^2 {fit.r_squared:.4f}")
        axis.set_title(title, fontsize=7)
    figure.supxlabel("intrinsic dimension")
    figure.supylabel("cross entropy (nats)")
    return figure


def main():
    args = parse_results(drawing_parser(__doc__, "measures_seq_*.json"), NO_MEASURES)
    for directory in args.results:
        measures, name = read_measures(directory), Path(directory).resolve().name
        print(f"{name}:")
        save_figure(draw_spectra(read_spectra(directory, measures)), args.out_dir, f"{name}_spectra")
        save_figure(draw_dimension(measures), args.out_dir, f"{name}_dimension")
        save_figure(draw_ce_vs_dimension(measures), args.out_dir, f"{name}_ce_vs_dimension")


if __name__ == "__main__":
    main()
