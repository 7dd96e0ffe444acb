"""Draw HELMET's tasks (and any other run): a heat map of task x length for each model, and correlations between tasks.

    python -m downstream.draw_helmet
    python -m downstream.draw_helmet --measure cross_entropy --runs outputs/downstream/runs/*/helmet_*

Writes helmet_MEASURE.csv: model, task, max_length, n, value, standard_error, parsed_share and chance (re-ranking:
share of the IDs that an answer names, score expected of a random order of all IDs), comparable. Of each run the largest
visible fraction is read. The correlation between two tasks is Spearman's over all (model, length) that have both, drawn
and printed where there are at least three; missing cells stay empty and are named.
"""

from utils import run_main

from pathlib import Path

import numpy as np

from downstream.plotting import drawing_parser, read_runs, save_figure
from downstream.results import MEASURES
from draw_CEvsPCA.plotting import panels
from files import make_directory, write_csv
from standard_errors import clustered_error

COLUMNS = ("model", "task", "max_length", "n", "value", "standard_error", "parsed_share", "chance", "comparable")
LEAST = 3  # conditions for a correlation


def row_of(run, measure):
    """The row of a run in the table."""
    values, contexts = run.table(measure)
    shares = [line["parsed_share"] for line in run.lines
              if line["visible_fraction"] == run.fractions[-1] and line["parsed_share"] is not None]
    return {"model": run.model, "task": run.task, "max_length": run.max_length, "n": values.shape[1],
            "value": float(values[-1].mean()), "standard_error": clustered_error(values[-1], contexts),
            "parsed_share": float(np.mean(shares)) if shares else None,
            "chance": run.chance if measure == "score" else None, "comparable": int(run.comparable)}


def correlation(first, second):
    """Spearman's rank correlation of two lists, NaN where one is constant."""
    from scipy.stats import rankdata
    first, second = rankdata(first), rankdata(second)
    if first.std() == 0 or second.std() == 0:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def correlations(rows, tasks):
    """(tasks, tasks): correlations over the (model, length) that both have; NaN with fewer than LEAST of them."""
    cells = {(row["task"], row["model"], row["max_length"]): row["value"] for row in rows}
    conditions = sorted({key[1:] for key in cells}, key=str)
    found = np.full((len(tasks), len(tasks)), np.nan)
    for i, first in enumerate(tasks):
        for j, second in enumerate(tasks):
            both = [key for key in conditions if (first, *key) in cells and (second, *key) in cells]
            if len(both) >= LEAST:
                found[i, j] = correlation([cells[first, *key] for key in both], [cells[second, *key] for key in both])
    return found


def draw_matrix(axis, matrix, rows, columns, title, **options):
    """A heat map with its numbers."""
    axis.imshow(matrix, aspect="auto", **options)
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(False)
    axis.set_title(title)
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="tab:red")


def main():
    args = drawing_parser(__doc__, "score", draws=False).parse_args()
    runs = read_runs(args, keep=lambda run: run.max_length is not None)
    rows = [row_of(run, args.measure) for run in runs]
    tasks, models = (sorted({row[name] for row in rows}) for name in ("task", "model"))
    lengths = sorted({row["max_length"] for row in rows})
    path = make_directory(args.out_dir) / f"helmet_{args.measure}.csv"
    write_csv(path, rows, COLUMNS)
    print(f"-> {path}")
    figure, axes = panels(len(models) + 1, width=4.2, height=3.4, columns=3)
    values = [row["value"] for row in rows]
    for axis, model in zip(axes, models):
        matrix = np.full((len(tasks), len(lengths)), np.nan)
        for row in rows:
            if row["model"] == model:
                matrix[tasks.index(row["task"]), lengths.index(row["max_length"])] = row["value"]
        for i, j in zip(*np.where(np.isnan(matrix))):
            print(f"missing: {model}, {tasks[i]} at {lengths[j]}")
        draw_matrix(axis, matrix, tasks, [f"{length:,}" for length in lengths], f"{model}: {MEASURES[args.measure]}",
                    vmin=min(values), vmax=max(values))
    matrix = correlations(rows, tasks)
    draw_matrix(axes[-1], matrix, tasks, tasks, "correlation between tasks", vmin=-1, vmax=1, cmap="coolwarm")
    for i, j in zip(*np.triu_indices(len(tasks), 1)):
        if np.isfinite(matrix[i, j]):
            print(f"correlation of {tasks[i]} and {tasks[j]}: {matrix[i, j]:.3f}")
    if not np.isfinite(matrix).any():
        print(f"no correlations: they need {LEAST} pairs of model and length that two tasks share, with values that "
              "differ")
    save_figure(figure, runs, args.out_dir, Path(path).stem)


if __name__ == "__main__":
    run_main(main)
