"""Draw validation loss against context length for each number of training tokens (Fig. 15, Fig. 1 middle).

    python draw_loss_vs_context.py --results results/small/sweep.csv --out_dir results/small/figures

Reads CSVs of collect_results.py (of a run that is in several the last) and the .pt beside each. Writes, as PDF and PNG,
loss_vs_context (by both readings: every seed a dot, hollow where its loss was lowest at the last step, so perhaps not
yet at its minimum; the line through the means, as if each length had every seed; the optimum a star, hollow where one
of its runs is, and a ring around the lengths that are not significantly worse, by seed (paired.optimum); and the
optimum against the training tokens; with --by_seed the dots are less what a seed adds to all lengths of a size, as
parts of the corpus do) and loss_by_position (the loss at each position of the window). Prints what it draws.
"""

from utils import Parser, fail, run_main

from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np

from files import load_tensors
from paired import optimum, optimum_text
from plotting import AS_GOOD, OPTIMUM, colours, plt, save_figure, set_ticks, tokens_label
from run import run_tag
from sweep_table import LOSS_COLUMNS, adjusted_means, all_lengths, read_cells


def without_levels(by_length, reading):
    """by_length, its losses less what their seeds add to all lengths."""
    _, added = adjusted_means(by_length, reading)
    return {length: {seed: {**losses, reading: losses[reading] - added[seed]} for seed, losses in seeds.items()}
            for length, seeds in by_length.items()}


def draw_losses(cells, colour, by_seed=False):
    """The figure of losses, a row for each reading, and of the optima. Prints means, ranges and optima."""
    lengths_of_all = all_lengths(cells)
    figure, axes = plt.subplots(2, len(cells) + 1, figsize=(2.5 * len(cells) + 2.7, 5), squeeze=False)
    for row, (reading, title) in zip(axes, LOSS_COLUMNS.items()):
        for axis, (tokens, by_length) in zip(row, cells.items()):
            losses = [np.array([seed[reading] for seed in seeds.values()]) for seeds in by_length.values()]
            lengths = list(by_length)
            best, others, means = optimum(by_length, reading)
            unfinished = {length: [seed["at_last_step"] for seed in seeds.values()]
                          for length, seeds in by_length.items()}
            for length, seeds in (without_levels(by_length, reading) if by_seed else by_length).items():
                for seed in seeds.values():
                    axis.plot(length, seed[reading], ".", color=colour[tokens],
                              fillstyle="none" if seed["at_last_step"] else "full")
            for length, loss in zip(lengths, losses):
                print(f"{tokens} tokens, context {length}, {title}: {means[length]:.4f} [{loss.min():.4f}, "
                      f"{loss.max():.4f}] over {len(loss)} seeds"
                      + (f", {sum(unfinished[length])} of them at the last step" if any(unfinished[length]) else ""))
            axis.plot(lengths, [*means.values()], color=colour[tokens])
            for length in others or ():
                axis.plot(length, means[length], color=colour[tokens], **AS_GOOD)
                row[-1].plot(tokens, length, color=colour[tokens], **AS_GOOD)
            star = {**OPTIMUM, "fillstyle": "none" if any(unfinished[best]) else "full"}
            axis.plot(best, means[best], color=colour[tokens], **star)
            row[-1].plot(tokens, best, color=colour[tokens], **star)
            print(f"{tokens} tokens, {title}: optimal context length {optimum_text(best, others)}"
                  + ("" if lengths[0] < best < lengths[-1] else ", at an end of the grid"))
            axis.set(title=f"{tokens_label(tokens)} training tokens", xscale="log")
            set_ticks(axis.xaxis, lengths_of_all)
            axis.tick_params("x", rotation=45 if len(lengths_of_all) > 5 else 0)
        row[0].set_ylabel(f"validation loss (nats),\n{title}")
        row[-1].set(title="optimal context length", xscale="log", yscale="log",
                    ylim=(0.8 * lengths_of_all[0], 1.25 * lengths_of_all[-1]))
        set_ticks(row[-1].xaxis, list(cells), tokens_label)
        row[-1].tick_params("x", rotation=45 if len(cells) > 4 else 0)
        set_ticks(row[-1].yaxis, lengths_of_all)
        row[-1].margins(x=0.2)
    for axis in axes[1, :-1]:
        axis.set_xlabel("context length (tokens)")
    axes[1, -1].set_xlabel("training tokens")
    figure.tight_layout()
    return figure


def draw_positions(cells, positions):
    """The figure of losses by position, a panel for each number of training tokens; positions in octaves."""
    figure, axes = plt.subplots(1, len(cells), figsize=(3.4 * len(cells), 3), sharey=True, squeeze=False)
    for axis, (tokens, by_length) in zip(axes[0], cells.items()):
        for index, (length, seeds) in enumerate(by_length.items()):
            curve = np.mean([positions[run_tag(length, tokens, seed)].numpy() for seed in seeds], axis=0)
            edges = np.concatenate((2 ** np.arange(0, np.log2(length), 0.5), [length + 1]))
            edges = np.unique(np.ceil(edges).astype(int))
            means = [curve[first - 1:last - 1].mean() for first, last in zip(edges[:-1], edges[1:])]
            axis.plot(np.sqrt(edges[:-1] * (edges[1:] - 1)), means, ".-", label=f"context {length}",
                      color=plt.cm.plasma(0.85 * index / max(len(by_length) - 1, 1)))
        axis.set(title=f"{tokens_label(tokens)} training tokens", xlabel="visible tokens", xscale="log")
        axis.legend(fontsize=7)
    axes[0, 0].set_ylabel("validation loss (nats)")
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="CSVs of collect_results.py")
    parser.add_argument("--by_seed", action=BooleanOptionalAction, default=False,
                        help="take out of the dots what a seed adds to all context lengths")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    cells, positions = read_cells(*args.results), {}
    files = [Path(path).with_suffix(".pt") for path in args.results]
    for file in files:
        positions |= load_tensors(file, "losses by position").get("position_losses", {})
    absent = [tag for tokens in cells for length in cells[tokens] for seed in cells[tokens][length]
              if (tag := run_tag(length, tokens, seed)) not in positions]
    if absent:
        fail(f"{' '.join(map(str, files))}: there is no {absent[0]}; make table and .pt again with collect_results.py")
    colour = colours(cells)
    save_figure(draw_losses(cells, colour, args.by_seed), args.out_dir, "loss_vs_context")
    save_figure(draw_positions(cells, positions), args.out_dir, "loss_by_position")


if __name__ == "__main__":
    run_main(main)
