"""Draw what models that differ in their seed alone answer, with 95% intervals over seeds.

    python -m downstream.draw_by_seed --results downstream/results/small/answers.csv

Reads a table of collect_answers.py. Writes, for the tasks that it has: recall_by_position (accuracy at each gold unit,
a panel for each number of keys, a line a kind of model), recall_by_keys (accuracy against the number of keys),
needles (perplexity of either restatement as a growing left part of the context is masked, paper Fig. 5), and
chains_and_labels (accuracy against the visible fraction); as PDF and PNG. Prints the numbers.
"""

from utils import Parser, fail, run_main

import numpy as np
from matplotlib.ticker import LogFormatter, MaxNLocator

from downstream.by_seed import (
    COLUMNS, by_kind, ends_and_middle, mean_text, pooled, read_answers, seed_interval, visible_and_masked,
)
from downstream.plotting import LOOK, style
from draw_CEvsPCA.plotting import panels, save_figure
from files import read_table

MARKED = {"capsize": 2, "markersize": 4, "linewidth": 1}


def line(axis, x, seeds, **look):
    """Means over seeds (seeds, points) with their intervals."""
    means, halves = zip(*map(seed_interval, np.transpose(seeds)))
    axis.errorbar(x, means, None if halves[0] is None else halves, **{**MARKED, **look})


def refuse_holes(kinds, path):
    """Exit with code 2 unless all kinds of by_kind have the same cells, and each kind the same seeds in all of them."""
    cells = sorted({cell for found in kinds.values() for cell in found}, key=str)
    for name, found in kinds.items():
        seeds = {len(found.get(cell, ())) for cell in cells}
        if len(seeds) > 1:
            hole = next(cell for cell in cells if len(found.get(cell, ())) < max(seeds))
            fail(f"{path}: {name} has not all its seeds at {', '.join(map(str, hole))}; evaluate the rest, then "
                 "collect again")


def draw_positions(rows, looks):
    kinds = by_kind(rows, "units", "gold_index")
    sizes = sorted({row["units"] for row in rows})
    figure, axes = panels(len(sizes), width=3.4)
    for axis, size in zip(axes, sizes):
        for name, cells in kinds.items():
            indices = [index for units, index in cells if units == size]
            seeds = [[pooled(mine, "accuracy") for mine in cells[size, index]] for index in indices]
            line(axis, indices, np.transpose(seeds), label=name, **looks[name])
        axis.set(title=f"{size:g} keys", xlabel="pair asked for, from the beginning", ylabel="accuracy", ylim=(0, 1.05))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend()
    return figure


def draw_sizes(rows, looks):
    figure, axes = panels(1, width=4)
    for name, cells in by_kind(rows, "units").items():
        seeds = [[pooled(mine, "accuracy") for mine in found] for found in cells.values()]
        line(axes[0], [units for units, in cells], np.transpose(seeds), label=name, **looks[name])
        for (units,), found in cells.items():
            first, middle, last = np.transpose([ends_and_middle(mine, "accuracy") for mine in found])
            print(f"{name}, {units:g} keys, {len(found)} seeds: accuracy "
                  f"{mean_text([pooled(mine, 'accuracy') for mine in found])}; first quarter {mean_text(first)}, "
                  f"middle half {mean_text(middle)}, last quarter {mean_text(last)}; ends - middle "
                  f"{mean_text((first + last) / 2 - middle)}")
    axes[0].set(xlabel="keys", ylabel="accuracy", xscale="log", ylim=(0, 1.05))
    axes[0].set_xticks([units for units, in cells], [f"{units:g}" for units, in cells])
    axes[0].minorticks_off()
    axes[0].legend()
    return figure


def draw_needles(rows):
    kinds = by_kind(rows, "needle", "visible_fraction")
    figure, axes = panels(len(kinds), width=3.4)
    for axis, (name, cells) in zip(axes, kinds.items()):
        values = next(iter(cells.values()))[0][0]["values"]
        for needle, look in LOOK.items():
            fractions = [fraction for which, fraction in cells if which == needle]
            seeds = [[pooled(mine, "cross_entropy") for mine in cells[needle, fraction]] for fraction in fractions]
            x = 1 - np.array(fractions)
            axis.plot(x, np.exp(np.mean(seeds, axis=1)), label=f"restatement of {needle}", **look)
            axis.plot(x, np.exp(seeds), linestyle="none", marker=".", markersize=3, color=look["color"], alpha=0.5)
            mine = [row for row in rows if row["needle"] == needle]
            position = np.mean([row["gold_index"] / row["units"] for row in mine])
            axis.axvline(position, color=look["color"], linestyle=":", linewidth=1)
            seen, masked = np.transpose([visible_and_masked(seed) for seed in by_kind(mine, "needle")[name][needle,]])
            print(f"{name}, needle {needle} (masked beyond {position:.3f}): {mean_text(seen)} nats where visible, "
                  f"{mean_text(masked)} where masked, jump {mean_text(masked - seen)}, "
                  f"{mean_text((masked - seen) / np.log(values))} of log {values:g}")
        axis.axhline(values, color="grey", linestyle="--", linewidth=1, label="all values alike")
        axis.set(title=name, xlabel="masked part of the context, from its left", ylabel="perplexity of the value",
                 yscale="log")
        axis.yaxis.set_major_formatter(LogFormatter())
        axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    axes[0].legend()  # the same in every panel, where it may lie on a line
    return figure


def draw_whole(rows, looks):
    figure, axes = panels(1, width=4)
    for name, cells in by_kind(rows, "task", "visible_fraction").items():
        seeds = [[pooled(mine, "accuracy") for mine in found] for found in cells.values()]
        line(axes[0], [fraction for _, fraction in cells], np.transpose(seeds), label=name, **looks[name])
        print(f"{name}: accuracy " + ", ".join(f"{mean_text(found)} at {fraction:g}" for found, (_, fraction) in
                                               zip(seeds, cells)) + " of the context")
    axes[0].set(xlabel="visible fraction", ylabel="accuracy", ylim=(0, 1.05))
    axes[0].legend()
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", required=True, help="table of collect_answers.py")
    parser.add_argument("--out_dir", default="outputs/downstream/figures", help="directory for the figures")
    args = parser.parse_args()
    tasks = {row["task"] for row in read_table(args.results, COLUMNS, "make it with collect_answers.py")}
    if "kv_retrieval" in tasks:
        rows = [row for row in read_answers(args.results, "kv_retrieval") if row["visible_fraction"] == 1]
        refuse_holes(by_kind(rows, "units", "gold_index"), args.results)
        looks = style(by_kind(rows))
        save_figure(draw_positions(rows, looks), args.out_dir, "recall_by_position")
        save_figure(draw_sizes(rows, looks), args.out_dir, "recall_by_keys")
    if "two_needles" in tasks:
        rows = read_answers(args.results, "two_needles")
        refuse_holes(by_kind(rows, "needle", "visible_fraction"), args.results)
        save_figure(draw_needles(rows), args.out_dir, "needles")
    whole = [row for task in ("ruler_vt", "helmet_icl") if task in tasks for row in read_answers(args.results, task)]
    if whole:
        refuse_holes(by_kind(whole, "visible_fraction"), args.results)
        save_figure(draw_whole(whole, style(by_kind(whole))), args.out_dir, "chains_and_labels")


if __name__ == "__main__":
    run_main(main)
