"""Draw scores against the position of the gold unit (Lost in the Middle): a panel a task, a line a run.

    python -m downstream.draw_by_position
    python -m downstream.draw_by_position --measure accuracy --runs outputs/downstream/runs/MODEL/kv_retrieval_*

Where samples have a fixed number of units, or asked for some positions, the line has a point for each of at most --bins
positions, else for each of so many equal parts of the context. Of each run the largest visible fraction is read. Error
bars: 95% (standard error over contexts). Prints the values and the contrast ends - middle (mean of the first and last
point less that of the others, 95% bootstrap): a U shape is a positive contrast of the score; none is assumed. Where a
run has 20 documents or 140 pairs and text of its benchmark, the published accuracies are drawn beside it.
"""

from utils import positive_int, run_main

import numpy as np

from downstream.plotting import drawing_parser, label_of, read_runs, save_figure, style
from downstream.results import MEASURES, bootstrap_interval, resamples
from downstream.tasks import SINGLE_GOLD
from draw_CEvsPCA.plotting import REPORTED, panels
from standard_errors import clustered_error

# Liu et al. 2023: accuracy by gold index
ACCURACIES = {("multi_document_qa", 20): {"MPT-30B-instruct": ((0, 4, 9, 14, 19), (.537, .518, .522, .527, .562)),
                                          "LongChat-13B-16k": ((0, 4, 9, 14, 19), (.686, .574, .553, .525, .550))},
              ("kv_retrieval", 140): {"MPT-30B-instruct": ((0, 34, 69, 104, 139), (1.0, .936, .886, .804, .962)),
                                      "LongChat-13B-16k": ((0, 34, 69, 104, 139), (.37, .382, .354, .656, .886))}}


def groups(run, bins):
    """The relative position of each point (0: beginning of the context) and the samples that belong to it (n,)."""
    lines = run.first_lines()
    indices = np.array([line["gold_index"] for line in lines])
    positions = np.array([1 - line["gold_distance"] / line["context_tokens"] for line in lines])
    if len(set(indices)) <= bins and (run.units or run.gold_positions):
        names = sorted(set(indices))
        which = np.searchsorted(names, indices)
    else:
        which = np.minimum((positions * bins).astype(int), bins - 1)
        which = np.searchsorted(sorted(set(which)), which)
    return np.array([positions[which == point].mean() for point in range(which.max() + 1)]), which


def means(values, which, weights):
    """Weighted mean of values (n,) in each group."""
    return np.bincount(which, values * weights) / np.bincount(which, weights)


def contrast(points):
    """Mean of the first and last point less the mean of the others; NaN with fewer than three."""
    return (points[0] + points[-1]) / 2 - points[1:-1].mean() if len(points) > 2 else np.nan


def sized_label(run):
    """The name of a run's line, with its size."""
    return label_of(run, f"{run.units} units" if run.units else f"{run.max_length} tokens")


def draw_run(axis, run, args, look):
    """A line; prints its points and its contrast."""
    table, contexts = run.table(args.measure)
    values = table[-1]
    positions, which = groups(run, args.bins)
    points = means(values, which, np.ones(len(values)))
    errors = [1.96 * (clustered_error(values[which == point], contexts[which == point]) or 0)
              for point in range(len(positions))]
    label = sized_label(run)
    axis.errorbar(positions, points, errors, capsize=2, label=label, **look)
    drawn = []
    for weights in resamples(contexts, args.draws):
        if (np.bincount(which, weights, minlength=len(positions)) > 0).all():
            drawn.append(contrast(means(values, which, weights)))
    span = " [{:.3f}, {:.3f}]".format(*bootstrap_interval(drawn)) if drawn else ""
    print(f"{label}, {run.task}: {args.measure} by position "
          + " ".join(f"{position:.2f}:{point:.3f}" for position, point in zip(positions, points))
          + f"; ends - middle {contrast(points):.3f}{span}")
    if args.measure == "score" and run.comparable and (run.task, run.units) in ACCURACIES:
        for index, (name, (indices, accuracies)) in enumerate(ACCURACIES[run.task, run.units].items()):
            axis.plot(np.array(indices) / run.units, accuracies, label=name,
                      **{**REPORTED, "marker": "Ds"[index]})


def main():
    parser = drawing_parser(__doc__, "score")
    parser.add_argument("--bins", type=positive_int, default=10, help="points of a line with uniform positions")
    args = parser.parse_args()
    runs = read_runs(args, SINGLE_GOLD)
    tasks = sorted({run.task for run in runs})
    looks = style(map(sized_label, runs))
    figure, axes = panels(len(tasks), width=3.4)
    for axis, task in zip(axes, tasks):
        for run in runs:
            if run.task == task:
                draw_run(axis, run, args, looks[sized_label(run)])
        axis.set(title=task, xlabel="position of the gold unit (0: beginning)", ylabel=MEASURES[args.measure])
    save_figure(figure, runs, args.out_dir, f"by_position_{args.measure}")


if __name__ == "__main__":
    run_main(main)
