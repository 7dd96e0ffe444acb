"""Draw validation loss against context length for each training size, over the Bayes risk (Fig. 1 left, Appendix F).

    python draw_loss_vs_context.py --results results/small/sweep.csv --out_dir results/small/figures

Reads the CSV of collect_results.py. Writes loss_vs_context (every seed a dot, the line through their mean, the optimum
a star; and the optimum against the training size) and approximation_loss (the approximation loss and its two parts, at
the epoch with the lowest validation loss and at the last one), as PDF and PNG. Prints the numbers it draws.
"""

from utils import Parser, run_main

import matplotlib.pyplot as plt
import numpy as np

from collecting import optimum_and_margin, over_seeds, read_sweep
from plotting import BAYES, OPTIMUM, colours, label_ticks, samples_label, save_figure

PARTS = {"solvable": ("solid", "solvable subtasks not yet right"),
         "unsolvable": ("dotted", "unsolvable subtasks beyond $\\log 2$")}
COLUMNS = ("context_length", "train_dataset_size", "seed", "bayes_risk", "best_valid_loss",
           *(f"{epoch}_approximation_loss_{part}" for epoch in ("best", "last") for part in PARTS))


def draw_curves(axes, rows):
    """Fig. 1 left: loss against context length for each size, and the optimum against the size."""
    risks = dict(sorted({int(row["context_length"]): row["bayes_risk"] for row in rows}.items()))
    curves = over_seeds(rows, "best_valid_loss")
    colour = colours(curves)
    axes[0].plot(list(risks), list(risks.values()), **BAYES)
    for size, (lengths, losses) in curves.items():
        means = np.array([loss.mean() for loss in losses])
        best, margin = optimum_and_margin(lengths, losses)
        axes[0].plot(lengths, means, color=colour[size], label=f"{samples_label(size)} samples")
        for length, loss in zip(lengths, losses):
            axes[0].plot([length] * len(loss), loss, ".", color=colour[size])
        axes[0].plot(lengths[best], means[best], color=colour[size], **OPTIMUM)
        axes[1].plot(size, lengths[best], color=colour[size], **OPTIMUM)
        for length, loss in zip(lengths, losses):
            print(f"size {size} context {length}: validation loss {loss.mean():.4f} "
                  f"[{loss.min():.4f}, {loss.max():.4f}] over {len(loss)} seeds, Bayes risk {risks[length]:.4f}")
        where = "at the end of the grid" if margin is None else f"below every seed of its neighbours by {margin:.4f}"
        print(f"size {size}: optimal context length {lengths[best]}, validation loss {means[best]:.4f}, {where}")
    axes[0].set(xlabel="context length (bits)", ylabel="validation loss (nats)", xscale="log")
    axes[1].set(xlabel="training samples", ylabel="optimal context length (bits)", xscale="log", yscale="log")
    label_ticks(axes[0].xaxis, list(risks))
    label_ticks(axes[1].yaxis, list(risks))
    label_ticks(axes[1].xaxis, list(curves), samples_label)
    axes[1].margins(x=0.15)
    axes[1].set_ylim(0.9 * min(risks), 1.1 * max(risks))
    axes[0].legend(fontsize=8)


def draw_parts(axes, rows):
    """The approximation loss and its two parts, a column of axes a size, a row for the best and for the last epoch."""
    for row_axes, epoch in zip(axes, ("best", "last")):
        parts = {part: over_seeds(rows, f"{epoch}_approximation_loss_{part}") for part in PARTS}
        for axis, size in zip(row_axes, parts["solvable"]):
            lengths = parts["solvable"][size][0]
            means = {part: np.array([loss.mean() for loss in parts[part][size][1]]) for part in PARTS}
            axis.plot(lengths, sum(means.values()), color="black", label="approximation loss")
            for part, (style, label) in PARTS.items():
                axis.plot(lengths, means[part], color="tab:red", linestyle=style, label=label)
                for length, loss in zip(lengths, parts[part][size][1]):
                    axis.plot([length] * len(loss), loss, ".", color="tab:red", alpha=0.5)
            axis.set_title(f"{samples_label(size)} samples, {epoch} epoch", fontsize=9)
            axis.set_xscale("log")
            label_ticks(axis.xaxis, lengths)
        row_axes[0].set_ylabel("nats")
    for axis in axes[-1]:
        axis.set_xlabel("context length (bits)")
    figure = axes[0, 0].get_figure()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.06))


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", default="outputs/sweep.csv", help="CSV of collect_results.py")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    rows = read_sweep(args.results, COLUMNS)

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(2, 1))
    draw_curves(axes, rows)
    save_figure(figure, args.out_dir, "loss_vs_context")
    n_sizes = len({row["train_dataset_size"] for row in rows})
    figure, axes = plt.subplots(2, n_sizes, figsize=(2.8 * n_sizes, 4.6), sharex=True, sharey="row", squeeze=False)
    draw_parts(axes, rows)
    save_figure(figure, args.out_dir, "approximation_loss")


if __name__ == "__main__":
    run_main(main)
