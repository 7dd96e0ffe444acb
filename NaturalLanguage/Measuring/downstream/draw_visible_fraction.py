"""Draw scores against the visible fraction of the context (paper Fig. 8): a panel a task, a line a model.

    python -m downstream.draw_visible_fraction                                   # every finished run
    python -m downstream.draw_visible_fraction --measure cross_entropy --runs outputs/downstream/runs/MODEL/*

Reads answers.csv of the runs. Error bars are 95% intervals (standard error over contexts); the best fraction is
marked with the 95% interval of a bootstrap over contexts, and printed with the gain over the whole context. Where the
best fraction is the largest, no more context hurts, and that is said.
"""

from utils import run_main

import numpy as np

from downstream.plotting import drawing_parser, label_of, read_runs, save_figure, style
from downstream.results import MEASURES, best_index, bootstrap_interval, resamples
from draw_CEvsPCA.plotting import panels
from standard_errors import clustered_error


def optimum(values, contexts, fractions, measure, draws):
    """(best fraction, its bootstrap interval, gain over the largest fraction, its interval) of values (fractions, n).

    The gain is positive where less context is better. Intervals are None without draws.
    """
    sign = -1 if "cross_entropy" in measure else 1
    fractions, means = np.asarray(fractions), values.mean(axis=1)
    best = best_index(means, measure)
    gain = sign * (means[best] - means[-1])
    bests, gains = [], []
    for weights in resamples(contexts, draws):
        drawn = values @ weights / weights.sum()
        bests.append(fractions[best_index(drawn, measure)])
        gains.append(sign * (drawn[best] - drawn[-1]))
    intervals = [bootstrap_interval(drawn) if draws else None for drawn in (bests, gains)]
    return fractions[best], intervals[0], gain, intervals[1]


def draw_run(axis, run, measure, draws, label, look):
    """A line with its optimum. Prints the optimum."""
    values, contexts = run.table(measure)
    means = values.mean(axis=1)
    errors = [1.96 * (clustered_error(row, contexts) or 0) for row in values]
    axis.errorbar(run.fractions, means, errors, capsize=2, label=label, **look)
    best, span, gain, gain_span = optimum(values, contexts, run.fractions, measure, draws)
    at = means[run.fractions.index(best)]
    axis.plot([best], [at], marker="o", markersize=9, markerfacecolor="none", color=look["color"])
    if span:
        axis.plot(span, [at, at], color=look["color"], linewidth=4, alpha=0.3)
    text = f"{label}, {run.task} at {run.max_length}: best {measure} {at:.4f} at visible fraction {best:g}"
    text += f" [{span[0]:g}, {span[1]:g}]" if span else ""
    if np.ptp(means) == 0:
        text += ", the same at all fractions"
    elif best == run.fractions[-1]:
        text += ", the largest: no interior optimum"
    else:
        text += f", better than the whole by {gain:.4f}" + (
            f" [{gain_span[0]:.4f}, {gain_span[1]:.4f}]" if gain_span else "")
    print(text)


def main():
    parser = drawing_parser(__doc__, "score")
    args = parser.parse_args()
    runs = read_runs(args, keep=lambda run: len(run.fractions) > 1)
    kinds = sorted({(run.task, run.max_length or 0) for run in runs})
    looks = style(map(label_of, runs))
    figure, axes = panels(len(kinds), width=3.4)
    for axis, (task, length) in zip(axes, kinds):
        for run in runs:
            if (run.task, run.max_length or 0) == (task, length):
                draw_run(axis, run, args.measure, args.draws, label_of(run), looks[label_of(run)])
        axis.set(title=f"{task}, {length:,} tokens" if length else task, xlabel="visible fraction",
                 ylabel=MEASURES[args.measure])
    save_figure(figure, runs, args.out_dir, f"visible_fraction_{args.measure}")


if __name__ == "__main__":
    run_main(main)
