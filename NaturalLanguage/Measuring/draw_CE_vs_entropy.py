"""Draw cross entropy against intrinsic entropy (Fig. 2), and the entropies and dimensions against each other (Fig. 9).

    python draw_CE_vs_entropy.py                                     # every measurement below outputs
    python draw_CE_vs_entropy.py --results results/small/ctl512 --exclude 1 2 --out_dir results/small/figures

Reads measures_seq_{l}.json. Writes, as PDF and PNG:
    ce_vs_entropy       a panel for each measurement: cross entropy against the KDE entropy, with R_Bayes = -k S + const
                        (Eq. 2); dark points are short contexts
    NAME_entropies      KDE entropy against the entropy of the PCA (sum of log relative eigenvalues), the dimension at
                        the threshold with the best line, and cross entropy
Prints slope and R with 95% intervals: of the line's residuals, and where measure_entropy.py drew half samples, of the
documents too. --exclude names context lengths that are drawn hollow and not fitted (the paper drops 3 of
RecurrentGemma-9B); what the paper reports for its models is printed beside it.
"""

import csv
from pathlib import Path

import numpy as np

from draw_CEvsPCA.drawing import (
    FIT, MEASURING, NO_MEASURES, drawing_parser, length_colours, panels, parse_results, read_measures, save_figure,
)
from draw_CEvsPCA.fits import fit_line

DISTINCT = 3  # points that a line needs


def draw_line(axis, x, y, lengths, excluded, labels):
    """Points by context length, hollow where excluded, and the line through the others. Returns the fit."""
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    for place, (length, colour) in enumerate(length_colours(lengths).items()):
        axis.plot(x[place], y[place], "o", color=colour, label=f"{length}",
                  markerfacecolor="none" if length in excluded else colour)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    kept = np.array([length not in excluded for length in lengths])
    if kept.sum() < DISTINCT or np.ptp(x[kept]) == 0:
        return None
    fit = fit_line(x[kept], y[kept])
    ends = np.array([x[kept].min(), x[kept].max()])
    axis.plot(ends, fit(ends), **FIT)
    return fit


def drawn_fits(measures):
    """Slope and R of cross entropy against KDE entropy in each half sample of the documents: float64 (draws, 2)."""
    draws = [entry.get("draws", {}) for entry in measures.values()]
    if not all("kde_entropy" in draw and "cross_entropy" in draw for draw in draws):
        return np.empty((0, 2))
    entropy, loss = (np.array([draw[name] for draw in draws]).T for name in ("kde_entropy", "cross_entropy"))
    fits = [fit_line(s, ce) for s, ce in zip(entropy, loss)]
    return np.array([(fit.slope[0], fit.r) for fit in fits])


def draw_ce_vs_entropy(axis, name, measures, excluded):
    """A panel of Fig. 2; prints the line."""
    lengths = list(measures)
    fit = draw_line(axis, [entry["kde_entropy"] for entry in measures.values()],
                    [entry["cross_entropy"] for entry in measures.values()], lengths, excluded,
                    ("KDE entropy $S$ (nats)", "cross entropy (nats)"))
    axis.legend(title="context length", fontsize=6, title_fontsize=6, ncol=2)
    axis.set_title(name)
    if fit is None:
        return print(f"{name}: fewer than {DISTINCT} context lengths are left to fit")
    axis.set_title(f"{name}: slope {fit.slope[0]:.4f}, R = {fit.r:.4f}", fontsize=8)
    print(f"{name}: cross entropy against KDE entropy at {len(lengths) - len(excluded & {*lengths})} context lengths: "
          f"slope {fit.slope[0]:.5f} [{fit.slope[1]:.5f}, {fit.slope[2]:.5f}], R {fit.r:.4f}, R^2 {fit.r_squared:.4f}")
    drawn = drawn_fits({length: entry for length, entry in measures.items() if length not in excluded})
    if len(drawn) > 1:
        print(f"  standard errors over half samples of documents ({len(drawn)} draws): "
              f"slope {drawn[:, 0].std(ddof=1):.5f}, R {drawn[:, 1].std(ddof=1):.4f}")
    if fit.slope[0] > 0:
        print("  the cross entropy does not fall where the entropy rises: this model does not follow Eq. 2 here")


def draw_entropies(name, measures, excluded):
    """The three panels of Fig. 9 for one measurement; prints the fits."""
    lengths, entries = list(measures), list(measures.values())
    kept = [place for place, length in enumerate(lengths) if length not in excluded]
    entropy = [entry["kde_entropy"] for entry in entries]

    def best(kind):
        """The N or threshold whose series has the best line against the KDE entropy."""
        found = {}
        for key in entries[0][kind]:
            series = [entry[kind][key] for entry in entries]
            if None not in series and len({series[place] for place in kept}) >= DISTINCT:
                found[key] = fit_line([series[place] for place in kept], [entropy[place] for place in kept]).r_squared
        return max(found, key=found.get) if found else None

    n, threshold = best("sum_log_eigenvalues"), best("intrinsic_dimension")
    figure, axes = panels(3, width=3.4)
    for axis, label, series in (
            (axes[0], f"PCA entropy, first {n}", n and [entry["sum_log_eigenvalues"][n] for entry in entries]),
            (axes[1], f"intrinsic dimension, threshold {threshold}",
             threshold and [entry["intrinsic_dimension"][threshold] for entry in entries]),
            (axes[2], "cross entropy (nats)", [entry["cross_entropy"] for entry in entries])):
        fit = series and draw_line(axis, series, entropy, lengths, excluded, (label, "KDE entropy $S$ (nats)"))
        if fit:
            axis.set_title(f"R = {fit.r:.4f}", fontsize=8)
            print(f"  KDE entropy against {label}: R {fit.r:.4f}, R^2 {fit.r_squared:.4f}")
    figure.suptitle(name, fontsize=9)
    return figure


def main():
    parser = drawing_parser(__doc__, "measures_seq_*.json")
    parser.add_argument("--exclude", type=int, nargs="*", default=[], help="context lengths to draw but not to fit")
    args = parse_results(parser, NO_MEASURES)
    figure, axes = panels(len(args.results), width=4, height=3.2, columns=3)
    for axis, directory in zip(axes, args.results):
        measures, name = read_measures(directory), Path(directory).resolve().name
        draw_ce_vs_entropy(axis, name, measures, {*args.exclude})
        save_figure(draw_entropies(name, measures, {*args.exclude}), args.out_dir, f"{name}_entropies")
    save_figure(figure, args.out_dir, "ce_vs_entropy")
    with open(MEASURING / "results" / "reported" / "ce_vs_entropy.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            print(f"reported for {row['model']}: slope {row['slope']}, R {row['r']}")


if __name__ == "__main__":
    main()
