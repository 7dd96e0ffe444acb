"""Draw spectra by visible length, and cross entropy against intrinsic entropy (Figs. 6 and 7).

    python draw_entropy_vs_loss.py --measures outputs/transformer_measures --table1 outputs/table1.csv

Reads what measure_features.py made from the features of train_transformer.py's runs, and the losses of the same runs
from the table of collect_results.py --table1. Writes, as PDF and PNG:
    transformer_spectra    relative and absolute eigenvalues by visible length (first seed), and cross entropy against
                           the sum of log absolute eigenvalues over the first N, for several N
    entropy_vs_loss        cross entropy, measured and Bayes, against that sum at the best N and against the KDE entropy
Prints R for every seed: against the KDE entropy, and against the sums of log relative and log absolute eigenvalues at
the N with the straightest line (relative: over the largest, as the paper's proxy is defined; absolute: as they are). N
goes up to the rank, the lowest over the lengths.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from collecting import load_table1
from entropy import log_sums
from measures import load_measures
from plotting import BAYES, colours, save_figure
from utils import Parser, fail, run_main

FEWEST = 3  # eigenvalues of a sum, and lengths of a line
OLD_ENTROPY = "kde_entropy_all_directions"  # of results measured before directions without variance were left out


def load_by_seed(directory, table_path):
    """{seed: rows with "cross_entropy" and "bayes_risk", by visible length}; exits with code 2 if there is no line.

    A row's "entropy" is its KDE entropy, or that over all directions where it was measured in that way alone.
    """
    table, seeds = load_table1(table_path), {}
    for row in load_measures(directory):
        losses = table.get(row["visible_context_length"])
        if losses is None or row["seed"] not in losses["cross_entropy"]:
            fail(f"{table_path} has no loss of seed {row['seed']} at {row['visible_context_length']} bits, which "
                 f"{directory} measures; collect the runs that the features are of")
        row["entropy"] = row["kde_entropy"] if row["kde_entropy"] is not None else row.get(OLD_ENTROPY)
        if row["entropy"] is None:
            fail(f"{directory} has no KDE entropy of {row['name']}; measure it without --no-entropy")
        seeds.setdefault(row["seed"], []).append(
            {**row, "cross_entropy": losses["cross_entropy"][row["seed"]], "bayes_risk": losses["bayes_risk"]})
    if not seeds or any(len(rows) < FEWEST for rows in seeds.values()):
        fail(f"{directory} has too few measures, a line needs {FEWEST} visible lengths; make more with "
             "save_feature_tensor.py and measure_features.py")
    return {seed: sorted(rows, key=lambda row: row["visible_context_length"]) for seed, rows in sorted(seeds.items())}


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def sums_by_length(rows, relative):
    """Sums of log eigenvalues over the first N = 1, 2, ... at each visible length: (lengths, lowest rank)."""
    rank = min(row["rank"] for row in rows)
    return np.stack([log_sums(row["eigenvalues"] / (row["eigenvalues"][0] if relative else 1), rank).numpy()
                     for row in rows])


def straightest(sums, losses):
    """The N whose sum has the most negative correlation with the losses, and that correlation."""
    r = [np.corrcoef(sums[:, n - 1], losses)[0, 1] for n in range(FEWEST, sums.shape[1] + 1)]
    return FEWEST + int(np.argmin(r)), min(r)


def correlations(rows):
    """{what the cross entropy is compared with: (N or None, R)} of one seed."""
    losses = column(rows, "cross_entropy")
    return {"KDE entropy": (None, np.corrcoef(column(rows, "entropy"), losses)[0, 1]),
            "relative eigenvalues": straightest(sums_by_length(rows, relative=True), losses),
            "absolute eigenvalues": straightest(sums_by_length(rows, relative=False), losses)}


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
        for axis, series in ((left, sums_by_length(rows, False)[:, n - 1]), (right, column(rows, "entropy"))):
            axis.plot(series, losses, "o", color=colour, label=f"measured, seed {seed}")
            order = np.argsort(series)
            axis.plot(series[order], risks[order], **{**BAYES, "linewidth": 0.8, "label": None})
    old = any(row["kde_entropy"] is None for rows in seeds.values() for row in rows)
    left.set(xlabel="sum of log eigenvalues at the best N (nats)", ylabel="cross entropy (nats)")
    right.set(xlabel=f"KDE entropy{' of all directions' if old else ''} (nats)")
    right.plot([], [], **BAYES)
    right.legend(fontsize=7)
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--measures", default="outputs/transformer_measures", help="--out_dir of measure_features.py")
    parser.add_argument("--table1", default="outputs/table1.csv", help="table of collect_results.py --table1")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    seeds = load_by_seed(Path(args.measures), args.table1)
    found = {seed: correlations(rows) for seed, rows in seeds.items()}
    for seed, entries in found.items():
        print(f"seed {seed}: cross entropy against KDE entropy R {entries['KDE entropy'][1]:.4f}; "
              + "; ".join(f"first {n} {name} R {r:.4f}" for name, (n, r) in entries.items() if n))
    for name in next(iter(found.values())):
        values = [entries[name][1] for entries in found.values()]
        print(f"{name}: R {np.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}] over {len(values)} seeds")
    save_figure(draw_lines(seeds, found), args.out_dir, "entropy_vs_loss")
    save_figure(draw_spectra(next(iter(seeds.values()))), args.out_dir, "transformer_spectra")


if __name__ == "__main__":
    run_main(main)
