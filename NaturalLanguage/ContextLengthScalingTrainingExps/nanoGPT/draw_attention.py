"""Draw what each attention gains and what it costs.

    python draw_attention.py --sweeps full=outputs/full/sweep.csv dilated=outputs/dilated/sweep.csv \\
        --time outputs/attention/time.csv --out_dir outputs/attention/figures

Reads tables of collect_results.py, one for each name (an attention of attention.py, or another name), and the table of
time_attention.py; either may be left out. Writes as PDF and PNG:
attention_loss: validation loss against context length at equal training tokens, a panel for each number of them, every
seed a dot, lines through the means, each optimum a star; runs whose best step is their last one are hollow.
attention_pareto: the same losses against the measured time a token of training and against the peak memory; a line
joins what no other run beats in both.
attention_time: time and memory of each attention against the length, with fitted exponents.
Prints what it draws.
"""


from utils import Parser, fail, named_file, run_main

import numpy as np

from exponents import fit_exponent
from files import read_table
from paired import optimum, optimum_text
from plotting import OPTIMUM, plt, save_figure, set_ticks, tokens_label
from sweep_table import read_cells

COLOURS = {"full": "black", "shifted_sparse": "tab:orange", "dilated": "tab:blue", "sliding_window": "tab:green"}
OTHERS = ("tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
DECADE = 10  # costs that differ by less are drawn from 0 on, others on a logarithmic axis
COSTS = {"microseconds": "microseconds a token", "peak_memory_gigabytes": "peak memory (GB)"}

def colours_of(names):
    others = iter(OTHERS * len(names))
    return {name: COLOURS.get(name) or next(others) for name in names}


def read_costs(path):
    """{(training tokens, context length): {cost: mean over seeds}} of a table of collect_results.py."""
    found = {}
    for row in read_table(path, remedy="make it again with collect_results.py"):
        cell = found.setdefault((int(row["train_tokens"]), int(row["context_length"])), [])
        cell.append((1e6 / float(row["tokens_per_second"]), float(row["peak_memory_gigabytes"])))
    return {cell: dict(zip(COSTS, np.mean(values, axis=0))) for cell, values in found.items()}


def draw_losses(sweeps, colours):
    """The figure of losses, a panel for each number of training tokens. Prints means, ranges and optima."""
    all_tokens = sorted({tokens for cells in sweeps.values() for tokens in cells})
    figure, axes = plt.subplots(1, len(all_tokens), figsize=(3.4 * len(all_tokens), 3), squeeze=False)
    for axis, tokens in zip(axes[0], all_tokens):
        for name, cells in sweeps.items():
            lengths, losses = list(cells.get(tokens, ())), []
            for length in lengths:
                seeds = cells[tokens][length].values()
                losses.append(np.array([seed["best_valid_loss"] for seed in seeds]))
                for seed in seeds:
                    axis.plot(length, seed["best_valid_loss"], ".", color=colours[name],
                              markerfacecolor="none" if seed["at_last_step"] else colours[name])
                print(f"{tokens} tokens, {name}, context {length}: {losses[-1].mean():.4f} [{losses[-1].min():.4f}, "
                      f"{losses[-1].max():.4f}] over {len(losses[-1])} seeds")
            if not lengths:
                continue
            best, others, means = optimum(cells[tokens], "best_valid_loss")
            axis.plot(lengths, [*means.values()], color=colours[name], label=name)
            axis.plot(best, means[best], color=colours[name], **OPTIMUM)
            print(f"{tokens} tokens, {name}: lowest at {optimum_text(best, others)}"
                  + ("" if lengths[0] < best < lengths[-1] else ", at an end of the grid"))
        axis.set(title=f"{tokens_label(tokens)} training tokens", xlabel="context length (tokens)", xscale="log")
        set_ticks(axis.xaxis, sorted({length for cells in sweeps.values() for length in cells.get(tokens, ())}))
    axes[0, 0].set_ylabel("validation loss (nats)")
    axes[0, -1].legend(fontsize=7)
    return figure


def pareto_front(points):
    """The points (cost, loss) that no other one equals or beats in both, by rising cost."""
    front = []
    for cost, loss in sorted(points):
        if not front or loss < front[-1][1]:
            front.append((cost, loss))
    return front


def draw_pareto(sweeps, costs, colours):
    """The figure of loss against each cost, a row for each number of training tokens. Prints the fronts."""
    all_tokens = sorted({tokens for cells in sweeps.values() for tokens in cells})
    figure, axes = plt.subplots(len(all_tokens), 2, figsize=(6.8, 2.8 * len(all_tokens)), squeeze=False, sharey="row")
    for row, tokens in zip(axes, all_tokens):
        for axis, (cost, label) in zip(row, COSTS.items()):
            points = {}
            for name, cells in sweeps.items():
                losses = {length: np.mean([seed["best_valid_loss"] for seed in seeds.values()])
                          for length, seeds in cells.get(tokens, {}).items()}
                mine = [(costs[name][tokens, length][cost], loss, length) for length, loss in losses.items()]
                axis.plot([x for x, _, _ in mine], [y for _, y, _ in mine], "o", color=colours[name], label=name)
                for x, y, length in mine:
                    axis.annotate(f"{length}", (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points")
                    points[x, y] = f"{name} at {length}"
            front = pareto_front(points)
            axis.plot(*zip(*front), color="grey", linewidth=0.8, zorder=0)
            axis.set(title=f"{tokens_label(tokens)} training tokens", xlabel=label)
            lowest, highest = min(points)[0], max(points)[0]
            if highest < DECADE * lowest:
                axis.set_xlim(0, 1.1 * highest)
            else:
                axis.set_xscale("log")
            print(f"{tokens} tokens, best for their {label}: " + ", ".join(points[point] for point in front))
        row[0].set_ylabel("validation loss (nats)")
    axes[0, -1].legend(fontsize=7)
    figure.tight_layout()
    return figure


def draw_time(rows, colours):
    """The figure of time and memory against the length. Prints exponents, and each attention's speed against full."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3))
    for axis, column, label in zip(axes, ("seconds", "peak_megabytes"), ("seconds, both passes", "peak memory (MB)")):
        for name in dict.fromkeys(row["attention"] for row in rows):
            mine = sorted((int(row["context_length"]), float(row[column])) for row in rows if row["attention"] == name)
            lengths, values = map(list, zip(*mine))
            exponent = fit_exponent(lengths, values)
            axis.plot(lengths, values, ".-", color=colours[name], label=f"{name}: {exponent.value:.2f}")
            print(f"{name}: {column} ~ length^{exponent} from {lengths[0]} to {lengths[-1]} tokens")
        axis.set(xlabel="length (tokens)", ylabel=label, xscale="log", yscale="log")
        axis.legend(fontsize=7, title="fitted exponent", title_fontsize=7)
        set_ticks(axis.xaxis, sorted({int(row["context_length"]) for row in rows}), tokens_label)
    seconds = {(row["attention"], int(row["context_length"])): float(row["seconds"]) for row in rows}
    for (name, length), value in seconds.items():
        if name != "full" and ("full", length) in seconds:
            print(f"{name}, {length} tokens: {seconds['full', length] / value:.1f} times as fast as full")
    figure.tight_layout()
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--sweeps", type=named_file, nargs="+", metavar="NAME=TABLE", default=[],
                        help="tables of collect_results.py, one for each attention")
    parser.add_argument("--time", help="table of time_attention.py")
    parser.add_argument("--out_dir", default="outputs/attention/figures", help="directory for the figures")
    args = parser.parse_args()
    if not args.sweeps and not args.time:
        fail("there is nothing to draw; give --sweeps, --time or both")
    sweeps = {name: read_cells(path) for name, path in args.sweeps}
    if sweeps:
        colours = colours_of(sweeps)
        save_figure(draw_losses(sweeps, colours), args.out_dir, "attention_loss")
        costs = {name: read_costs(path) for name, path in args.sweeps}
        save_figure(draw_pareto(sweeps, costs, colours), args.out_dir, "attention_pareto")
    if args.time:
        rows = read_table(args.time, remedy="make it again with time_attention.py")
        figure = draw_time(rows, colours_of(dict.fromkeys(row["attention"] for row in rows)))
        save_figure(figure, args.out_dir, "attention_time")


if __name__ == "__main__":
    run_main(main)
