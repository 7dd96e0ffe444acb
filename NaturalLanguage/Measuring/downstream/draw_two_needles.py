"""Draw the perplexity of two restated needles as a growing left part of the context is masked (paper Fig. 5).

    python -m downstream.draw_two_needles
    python -m downstream.draw_two_needles --runs outputs/downstream/runs/MODEL/two_needles_len4096_n500_seed42

Needle A lies early, B late. The perplexity of a needle's restatement, exp of the cross entropy of its value's tokens,
should jump when that needle is masked and not before. Prints for each needle the jump in nats (mean cross entropy
where it is masked less that where it is visible, 95% bootstrap over contexts) and its ratio to log(number of values),
which a model that knows the values and nothing else would pay.
"""

from utils import run_main

import math

import numpy as np

from downstream.plotting import LOOK, drawing_parser, read_runs, save_figure
from downstream.results import bootstrap_interval, resamples
from draw_CEvsPCA.plotting import panels


def jump(values, visible, weights):
    """Weighted mean of values (fractions, n) where the needle is masked less that where it is visible; NaN without."""
    def mean(where):
        total = (where * weights).sum()
        return (values * where * weights).sum() / total if total else math.nan

    return mean(~visible) - mean(visible)


def draw_run(axis, run, draws):
    """The curves of both needles. Prints the jumps."""
    values, contexts = run.table("cross_entropy")
    visible = run.table_of("gold_visible").astype(bool)
    first = run.first_lines()
    masked = 1 - np.asarray(run.fractions)
    for needle, look in LOOK.items():
        mine = np.array([line["needle"] == needle for line in first])
        if not mine.any():
            continue
        axis.plot(masked, np.exp(values[:, mine].mean(axis=1)), label=f"restatement of {needle}", **look)
        position = np.mean([1 - line["gold_distance"] / line["context_tokens"]
                            for line in first if line["needle"] == needle])
        axis.axvline(position, color=look["color"], linestyle=":", linewidth=1)
        if visible[:, mine].all() or not visible[:, mine].any():
            print(f"{run.model}, needle {needle}: at these visible fractions it is never or always masked, no jump")
            continue
        found = jump(values[:, mine], visible[:, mine], np.ones(mine.sum()))
        drawn = [jump(values[:, mine], visible[:, mine], weights) for weights in resamples(contexts[mine], draws)]
        low, high = bootstrap_interval([value for value in drawn if math.isfinite(value)]) if draws else (found, found)
        ratio = f", {found / math.log(run.values):.3f} of log {run.values}" if run.values and run.values > 1 else ""
        print(f"{run.model}, needle {needle} (masked beyond {position:.3f}): jump {found:.4f} nats "
              f"[{low:.4f}, {high:.4f}]{ratio}; with it visible {np.mean(values[:, mine][visible[:, mine]]):.4f} nats")
    axis.set(title=run.model, xlabel="masked part of the context, from its left", ylabel="perplexity of the value",
             yscale="log")


def main():
    args = drawing_parser(__doc__, None).parse_args()
    runs = read_runs(args, ("two_needles",), lambda run: len(run.fractions) > 1)
    figure, axes = panels(len(runs), width=3.4)
    for axis, run in zip(axes, runs):
        draw_run(axis, run, args.draws)
    save_figure(figure, runs, args.out_dir, "two_needles")


if __name__ == "__main__":
    run_main(main)
