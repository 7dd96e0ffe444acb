"""Draw position-weighted retrieval (paper Figs. 3 and 4): the best visible fraction for each weight of gold positions.

    python -m downstream.draw_position_weighted --runs outputs/downstream/runs/MODEL/ruler_qa1_len8192_q10_n500_seed42
    python -m downstream.draw_position_weighted --gammas 0 1 4 16 --measure score --runs ...

A gold unit at distance x from the end of a context of L tokens is asked about with probability proportional to (1 - x
/ L)^gamma. Each (visible fraction, gold position) was measured once; every gamma is a reweighting of that one grid.
Draws the grid, the measure against the visible fraction for every gamma, the best fraction against gamma (95%
bootstrap over contexts) and, where measure_entropy.py has measured the run, the entropy of the hidden states at each
visible length. Prints each optimum, its interval and the effective number of questions, (sum of weights)^2 / sum of
squares.
"""

from utils import fail, non_negative_float, positive_int, run_main

import numpy as np

from downstream.plotting import drawing_parser, read_runs, save_figure
from downstream.results import MEASURES, best_index, bootstrap_interval, resamples
from downstream.tasks import SINGLE_GOLD
from draw_CEvsPCA.plotting import panels, plt
from files import read_table

GAMMAS = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]


def position_weights(distances, gammas):
    """(gammas, n): (1 - x)^gamma of distances x (n,), as shares of the context."""
    return np.maximum(1 - np.asarray(distances), 0)[None, :] ** np.asarray(gammas)[:, None]


def curves(values, weights):
    """(fractions, gammas): weighted means of values (fractions, n) with weights (gammas, n)."""
    return values @ weights.T / weights.sum(axis=1)


def effective(weights):
    """Effective number of questions for each gamma, of weights (gammas, n)."""
    return weights.sum(axis=1)**2 / (weights**2).sum(axis=1)


def grid(values, distances, bins):
    """(bins, fractions): means of values (fractions, n) over equal bins of the distance; NaN where a bin is empty."""
    which = np.minimum((np.asarray(distances) * bins).astype(int), bins - 1)
    return np.array([values[:, which == index].mean(axis=1) if (which == index).any()
                     else np.full(len(values), np.nan) for index in range(bins)])


def draw_entropy(axis, run):
    """Entropy against the visible length with 95% intervals, if it was measured."""
    path = run.directory / "measures.csv"
    if not path.exists():
        axis.set_visible(False)
        return
    rows = read_table(path, ("context_length", "draw", "kde_entropy"))
    whole = {int(row["context_length"]): float(row["kde_entropy"]) for row in rows if row["draw"] == ""}
    halves = {length: [float(row["kde_entropy"]) for row in rows
                       if row["draw"] != "" and int(row["context_length"]) == length] for length in whole}
    errors = [1.96 * np.std(halves[length], ddof=1) if len(halves[length]) > 1 else 0 for length in whole]
    axis.errorbar([*whole], [*whole.values()], errors, marker="o", capsize=2, color="black")
    axis.set(title="truncated samples", xlabel="visible tokens of the context", ylabel="entropy (nats)")


def draw_run(run, args):
    """The figure of a run. Prints the optimum of each gamma."""
    values, contexts = run.table(args.measure)
    lines = run.first_lines()
    if any(line["gold_distance"] is None for line in lines):
        fail(f"{run.directory}: the samples have no single gold unit")
    distances = np.array([line["gold_distance"] / line["context_tokens"] for line in lines])
    weights = position_weights(distances, args.gammas)
    if not weights.sum(axis=1).all():
        fail(f"{run.directory}: all weights vanish at gamma {max(args.gammas):g}; lower --gammas")
    fractions, means = np.asarray(run.fractions), curves(values, weights)
    best = fractions[best_index(means, args.measure)]
    drawn = [weights * counts for counts in resamples(contexts, args.draws)]
    bests = [fractions[best_index(curves(values, each), args.measure)] for each in drawn if each.sum(axis=1).all()]
    low, high = bootstrap_interval(bests) if bests else (best, best)

    figure, axes = panels(4, width=3.4)
    edges = [fractions[0], *(fractions[1:] + fractions[:-1]) / 2, fractions[-1]]
    shown = axes[0].pcolormesh(edges, np.linspace(0, 1, args.bins + 1), grid(values, distances, args.bins))
    axes[0].grid(False)
    figure.colorbar(shown, ax=axes[0], label=MEASURES[args.measure])
    axes[0].plot(fractions, fractions, color="white", linewidth=0.8)
    axes[0].set(title="grid", xlabel="visible fraction", ylabel="distance of the gold unit (share)", ylim=(0, 1),
                xlim=(edges[0], edges[-1]))
    for index, gamma in enumerate(args.gammas):
        colour = plt.cm.viridis(0.9 * index / max(len(args.gammas) - 1, 1))
        axes[1].plot(fractions, means[:, index], marker=".", color=colour, label=f"$\\gamma$ = {gamma:g}")
        axes[1].plot(best[index], means[list(fractions).index(best[index]), index], marker="o", markersize=9,
                     markerfacecolor="none", color=colour)
        flat, interior = np.ptp(means[:, index]) == 0, best[index] < fractions[-1]
        print(f"{run.model}, {run.task}, gamma {gamma:g}: best visible fraction {best[index]:g} [{low[index]:g}, "
              f"{high[index]:g}], {effective(weights)[index]:.0f} effective questions"
              + ("; the same at all fractions" if flat else "" if interior else "; no interior optimum"))
    axes[1].set(title=f"{run.model}, {run.task}", xlabel="visible fraction", ylabel=MEASURES[args.measure])
    below, above = best - np.minimum(low, best), np.maximum(high, best) - best
    axes[2].errorbar(range(len(best)), best, [below, above], marker="o", capsize=2)
    axes[2].set_xticks(range(len(best)), [f"{gamma:g}" for gamma in args.gammas])
    axes[2].set(title="optimum", xlabel="$\\gamma$", ylabel="best visible fraction", ylim=(0, 1.05))
    draw_entropy(axes[3], run)
    return figure


def main():
    parser = drawing_parser(__doc__, "cross_entropy")
    parser.add_argument("--gammas", type=non_negative_float, nargs="+", default=GAMMAS, help="exponents of the weights")
    parser.add_argument("--bins", type=positive_int, default=10, help="bins of the gold distance in the grid")
    args = parser.parse_args()
    args.gammas = sorted(set(args.gammas))
    runs = read_runs(args, SINGLE_GOLD, lambda run: len(run.fractions) > 1)
    for run in runs:
        save_figure(draw_run(run, args), [run], args.out_dir, f"position_weighted_{run.model}_{run.directory.name}")


if __name__ == "__main__":
    run_main(main)
