"""Draw position-weighted retrieval: loss against visible length, its optimum, the entropy beside it (Figs. 3 and 4).

    python draw_position_weighted.py --results results/retrieval/grids.pt --out_dir results/retrieval/figures
    python draw_position_weighted.py --results OUT/grids.pt --measures OUT/measures/measures.csv --entropy_gamma 8

The gold pair is at distance x from the query with probability proportional to (1 - x / n_pairs)^gamma; every gamma is a
reweighting of the grid that was measured once per model. Writes position_weighted_loss (a panel a size, a line a gamma:
mean and range over seeds, optimum a star), position_weighted_optimum (the optimum against gamma, a line a size, with
95% intervals over seeds) and, with --measures (a table of measure_features.py of what save_feature_tensor.py
wrote), position_weighted_entropy (the entropy of the truncated samples against the visible length, and against the
cross entropy), as PDF and PNG. Prints tables such as results/retrieval/README.md has: optima and losses with 95%
intervals over seeds, and the optimum's paired differences between weightings and between sizes, bold where beyond their
interval.
"""

from utils import Parser, fail, non_negative_float, positive_int, run_main

import matplotlib.pyplot as plt
import numpy as np

from files import read_table
from plotting import OPTIMUM, colours, label_ticks, samples_label, save_figure
from position_weighting import GAMMAS, load_grids, summarise, weighted, with_prior
from retrieval import features_name
from retrieval_tables import tables


def draw_losses(lengths, grids, rows, gammas):
    """A panel a size, a line a gamma: mean and range of the cross entropy over seeds, a star at an optimum inside."""
    figure, axes = plt.subplots(1, len(grids), figsize=(2.9 * len(grids), 3.2), sharey=True, squeeze=False)
    colour = colours(gammas)
    for axis, (size, (_, losses)) in zip(axes[0], grids.items()):
        for gamma in gammas:
            curves = weighted(losses, gamma).numpy()
            axis.plot(lengths, curves.mean(0), color=colour[gamma], label=f"$\\gamma$ = {gamma:g}")
            axis.fill_between(lengths, curves.min(0), curves.max(0), color=colour[gamma], alpha=0.2, linewidth=0)
            row, = (row for row in rows if (row["train_dataset_size"], row["gamma"]) == (size, gamma))
            if row["inside"] == row["seeds"]:
                axis.plot(row["best_length"], curves.mean(0).min(), color=colour[gamma], **OPTIMUM)
        axis.set(xscale="log", yscale="log", xlabel="visible pairs", title=f"{samples_label(size)} samples")
        label_ticks(axis.xaxis, [4, 8, 16, 32, 64])
    axes[0, 0].set_ylabel("cross entropy (nats)")
    axes[0, -1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_optima(rows):
    """The optimum against gamma, a line a size with its 95% intervals, and the seeds as points."""
    figure, axis = plt.subplots(figsize=(4.2, 3.2))
    sizes = sorted({row["train_dataset_size"] for row in rows})
    colour = colours(sizes)
    for index, size in enumerate(sizes):
        cells = [row for row in rows if row["train_dataset_size"] == size]
        x = np.arange(len(cells)) + 0.12 * (index - (len(sizes) - 1) / 2)  # beside each other
        means = [row["optimum"][0] for row in cells]
        halves = [row["optimum"][1] or 0 for row in cells]
        axis.errorbar(x, means, halves, color=colour[size], marker="o", capsize=2, linewidth=1,
                      label=f"{samples_label(size)} samples")
        for at, row in zip(x, cells):
            axis.plot([at] * row["seeds"], row["optima"], ".", color=colour[size], alpha=0.4, markersize=3)
            if row["inside"] < row["seeds"]:
                axis.plot(at, row["optimum"][0], "o", color="white", markersize=2.5, zorder=5)
    axis.set(xlabel="$\\gamma$ (hollow: not inside the grid for every seed)", ylabel="optimal visible pairs",
             yscale="log")
    axis.set_xticks(range(len(cells)), [f"{row['gamma']:g}" for row in cells])
    label_ticks(axis.yaxis, [4, 8, 16, 32, 64])
    axis.legend(fontsize=8)
    return figure


def read_entropies(path):
    """{name: KDE entropy (nats)} of a table of measure_features.py. Exits with code 2 if it cannot be used."""
    return {row["name"]: float(row["kde_entropy"])
            for row in read_table(path, ("name", "kde_entropy"), "make it with measure_features.py")}


def draw_entropy(lengths, grids, entropies, gamma, path):
    """Entropy against visible length and against cross entropy, a line a size; lengths that were not saved are left."""
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
    colour = colours(grids)
    drawn = 0
    for size, (seeds, losses) in grids.items():
        curves = weighted(losses, gamma).numpy()
        names = [[features_name(size, seed, gamma, length) for length in lengths] for seed in seeds]
        known = [all(row[index] in entropies for row in names) for index in range(len(lengths))]
        if not any(known):
            continue
        x = np.array(lengths)[known]
        values = np.array([[entropies[name] for name, use in zip(row, known) if use] for row in names])
        means, loss = values.mean(0), curves[:, known].mean(0)
        drawn += 1
        axes[0].plot(x, means, color=colour[size], label=f"{samples_label(size)} samples")
        axes[0].fill_between(x, values.min(0), values.max(0), color=colour[size], alpha=0.2, linewidth=0)
        best = int(loss.argmin())
        axes[0].plot(x[best], means[best], color=colour[size], **OPTIMUM)
        axes[1].plot(means, loss, "o-", color=colour[size], linewidth=1)
        axes[1].plot(means[best], loss[best], color=colour[size], **OPTIMUM)
        for length, entropy, seeds_values, value in zip(x, means, values.T, loss):
            print(f"size {size} gamma {gamma:g} visible {length}: KDE entropy {entropy:.3f} "
                  f"[{seeds_values.min():.3f}, {seeds_values.max():.3f}], cross entropy {value:.4f}")
        before = slice(0, best + 1)
        if best > 1:
            correlation = np.corrcoef(means[before], loss[before])[0, 1]
            print(f"size {size} gamma {gamma:g}: R = {correlation:.4f} of cross entropy and entropy up to the optimum, "
                  f"{best + 1} lengths")
    if not drawn:
        fail(f"{path} has no hidden states of gamma {gamma:g} of all seeds; save them with save_feature_tensor.py")
    axes[0].set(xscale="log", xlabel="visible pairs", ylabel="KDE entropy (nats)")
    label_ticks(axes[0].xaxis, [4, 8, 16, 32, 64])
    axes[1].set(xlabel="KDE entropy (nats)", ylabel="cross entropy (nats)", yscale="log")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"$\\gamma$ = {gamma:g}", fontsize=9)
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", default="outputs/retrieval/grids.pt", help="file of collect_retrieval.py")
    parser.add_argument("--gammas", type=non_negative_float, nargs="+", default=list(GAMMAS),
                        help="weightings by position")
    parser.add_argument("--prior", type=positive_int, metavar="N_VALUES",
                        help="count an answer that is cut off as log(N_VALUES) instead of what the model gives it")
    parser.add_argument("--measures", help="measures.csv of the hidden states; without it no entropy is drawn")
    parser.add_argument("--entropy_gamma", type=non_negative_float, default=8.0, help="of the hidden states")
    parser.add_argument("--out_dir", default="outputs/retrieval/figures", help="directory for the figures")
    args = parser.parse_args()
    lengths, grids = load_grids(args.results)
    if args.prior:
        grids = with_prior(lengths, grids, args.prior)
    gammas = sorted(set(args.gammas))
    rows = summarise(lengths, grids, gammas)
    for name, table in tables(lengths, grids, rows).items():
        print(f"{name}:", table, sep="\n")
    save_figure(draw_losses(lengths, grids, rows, gammas), args.out_dir, "position_weighted_loss")
    save_figure(draw_optima(rows), args.out_dir, "position_weighted_optimum")
    if args.measures:
        figure = draw_entropy(lengths, grids, read_entropies(args.measures), args.entropy_gamma, args.measures)
        save_figure(figure, args.out_dir, "position_weighted_entropy")


if __name__ == "__main__":
    run_main(main)
