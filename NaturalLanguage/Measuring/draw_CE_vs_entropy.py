"""Draw cross entropy against intrinsic entropy (Fig. 2), and the entropies and dimensions against each other (Fig. 9).

    python draw_CE_vs_entropy.py                                     # every measurement below outputs
    python draw_CE_vs_entropy.py --results results/small/ctl512 --exclude 1 2 --out_dir results/small/figures

Reads measures.csv and spectra.pt. Writes, as PDF and PNG:
    ce_vs_entropy       a panel for each measurement: cross entropy against the KDE entropy, with R_Bayes = -k S + const
                        (Eq. 2); dark points are short contexts
    NAME_entropies      KDE entropy against the entropy of the PCA (sum of log relative eigenvalues), the dimension at
                        the threshold with the best line, and cross entropy
Prints slope and R with 95% intervals: of the line's residuals, and where measure_entropy.py drew half samples, of the
documents too. --exclude names context lengths that are drawn hollow and not fitted, NAME:LENGTH those of one
measurement (the paper drops 3 of RecurrentGemma-9B); what the paper reports for its models is printed beside it.
"""

from utils import run_main

import csv
from pathlib import Path

import numpy as np

from draw_CEvsPCA.fits import fit_draws, fit_line
from draw_CEvsPCA.plotting import (
    FIT, MEASURING, N_COMPONENTS, THRESHOLDS, drawing_parser, length_colours, panels, parse_results, read_measures,
    save_figure,
)
from settings import excluded_lengths, exclusion, refuse_unknown_owners

DISTINCT = 3  # points that a line needs


def draw_line(axis, x, y, lengths, excluded, labels):
    """Points by context length, hollow where excluded, and the line through the others. Returns the fit or None."""
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    for index, (length, colour) in enumerate(length_colours(lengths).items()):
        axis.plot(x[index], y[index], "o", color=colour, label=f"{length}",
                  markerfacecolor="none" if length in excluded else colour)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    kept = np.array([length not in excluded for length in lengths])
    try:
        fit = fit_line(x[kept], y[kept])
    except ValueError:
        return None
    ends = np.array([x[kept].min(), x[kept].max()])
    axis.plot(ends, fit(ends), **FIT)
    return fit


def draw_ce_vs_entropy(axis, measures, excluded):
    """A panel of Fig. 2; prints the line."""
    name, lengths = measures.name, measures.lengths()
    fit = draw_line(axis, measures.column("kde_entropy"), measures.column("cross_entropy"), lengths, excluded,
                    ("KDE entropy $S$ (nats)", "cross entropy (nats)"))
    axis.legend(title="context length", fontsize=6, title_fontsize=6, ncol=2)
    axis.set_title(name)
    if fit is None:
        return print(f"{name}: fewer than {DISTINCT} context lengths are left to fit")
    axis.set_title(f"{name}: slope {fit.slope[0]:.4f}, R = {fit.r:.4f}", fontsize=8)
    print(f"{name}: cross entropy against KDE entropy at {len(lengths) - len(excluded & {*lengths})} context lengths: "
          f"{fit}")
    drawn = fit_draws([measures.draws.get(length, []) for length in lengths if length not in excluded],
                      "kde_entropy", "cross_entropy")
    if len(drawn) > 1:
        slope, r = (np.std(values, ddof=1) for values in zip(*((line.slope[0], line.r) for line in drawn)))
        print(f"  standard errors over half samples of documents ({len(drawn)} draws): slope {slope:.5f}, R {r:.4f}")
    if fit.slope[0] > 0:
        print("  the cross entropy does not fall where the entropy rises: this model does not follow Eq. 2 here")


def best_line(series, entropy, kept):
    """The key of {key: values by context length} with the best line against the entropy; None if none has one."""
    found = {}
    for key, values in series.items():
        if None not in values and len({values[index] for index in kept}) >= DISTINCT:
            found[key] = fit_line([values[index] for index in kept], [entropy[index] for index in kept]).r_squared
    return max(found, key=found.get) if found else None


def draw_entropies(measures, excluded):
    """The three panels of Fig. 9 for one measurement; prints the fits."""
    lengths, entropy = measures.lengths(), measures.column("kde_entropy")
    spectra = [measures.spectra[length] for length in lengths]
    kept = [index for index, length in enumerate(lengths) if length not in excluded]
    sums = {n: [spectrum.sum_log(n) for spectrum in spectra] for group in N_COMPONENTS for n in group}
    dimensions = {threshold: [spectrum.dimension(threshold) for spectrum in spectra] for threshold in THRESHOLDS}
    n, threshold = best_line(sums, entropy, kept), best_line(dimensions, entropy, kept)
    figure, axes = panels(3, width=3.4)
    for axis, label, series in (
            (axes[0], f"PCA entropy, first {n}", sums.get(n)),
            (axes[1], f"intrinsic dimension, threshold {threshold}", dimensions.get(threshold)),
            (axes[2], "cross entropy (nats)", measures.column("cross_entropy"))):
        fit = series and draw_line(axis, series, entropy, lengths, excluded, (label, "KDE entropy $S$ (nats)"))
        if fit:
            axis.set_title(f"R = {fit.r:.4f}", fontsize=8)
            print(f"  KDE entropy against {label}: R {fit.r:.4f}, R^2 {fit.r_squared:.4f}")
    figure.suptitle(measures.name, fontsize=9)
    return figure


def main():
    parser = drawing_parser(__doc__, "measures.csv")
    parser.add_argument("--exclude", type=exclusion, nargs="*", default=[],
                        help="context lengths to draw but not to fit; NAME:LENGTH in the measurement NAME alone")
    args = parse_results(parser)
    refuse_unknown_owners(args.exclude, [Path(directory).resolve().name for directory in args.results])
    figure, axes = panels(len(args.results), width=4, height=3.2, columns=3)
    for axis, directory in zip(axes, args.results):
        measures = read_measures(directory)
        excluded = excluded_lengths(args.exclude, measures.name)
        draw_ce_vs_entropy(axis, measures, excluded)
        save_figure(draw_entropies(measures, excluded), args.out_dir, f"{measures.name}_entropies")
    save_figure(figure, args.out_dir, "ce_vs_entropy")
    with open(MEASURING / "results" / "reported" / "ce_vs_entropy.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"reported for {row['model']}: slope {row['slope']}, R {row['r']}"
                  + (f", without {row['dropped']} at very short context" if int(row["dropped"]) else ""))


if __name__ == "__main__":
    run_main(main)
