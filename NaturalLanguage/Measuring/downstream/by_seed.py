"""The answers of models that differ in their seed alone, NAME_seed0, NAME_seed1 ...: one table, and means over seeds.

A row of the table is a group of answers of one model at one visible fraction: those with the same number of units, gold
unit and needle. Intervals are Student's 95% intervals of a mean over seeds.
"""

import math
import re
from collections import defaultdict

import numpy as np
from scipy.special import stdtrit

from downstream.results import numbers
from files import read_table
from utils import fail

KEYS = ("model", "task", "units", "values", "visible_fraction", "needle", "gold_index", "gold_visible")
MEANS = ("accuracy", "cross_entropy")  # the right answer is the likeliest; nats
COLUMNS = (*KEYS, "n", *MEANS)
WORDS = ("model", "task", "needle")  # the others are numbers


def without_seed(model):
    """The name of a model without its seed."""
    return re.sub(r"_seed\d+$", "", model)


def answer_groups(run):
    """The rows of a run (Answers), a group of its answers each."""
    cells = defaultdict(list)
    for line in run.lines:
        key = (run.model, run.task, line["units"], run.values, line["visible_fraction"], line["needle"],
               line["gold_index"], line["gold_visible"])
        cells[key].append((line["hits"] == line["target_tokens"], line["cross_entropy"]))
    return [dict(zip(COLUMNS, (*key, len(answers), *np.mean(answers, axis=0).tolist())))
            for key, answers in cells.items()]


def read_answers(path, task):
    """The rows of a task, of a table of collect_answers.py; numbers as floats, None where empty."""
    rows = [row for row in read_table(path, COLUMNS, "make it with collect_answers.py") if row["task"] == task]
    if not rows:
        fail(f"{path} has no answers of {task}; evaluate the models on it and collect them again")
    return [numbers(row, WORDS) for row in rows]


def pooled(rows, measure):
    """The mean of a measure over all answers of rows: float."""
    counts = np.array([row["n"] for row in rows])
    return float(counts @ np.array([row[measure] for row in rows]) / counts.sum())


def by_kind(rows, *names):
    """{kind of model: {values of these columns: [the rows of each seed]}}, both sorted."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        found[without_seed(row["model"])][tuple(row[name] for name in names)][row["model"]].append(row)
    return {name: {values: list(seeds.values()) for values, seeds in sorted(cells.items())}
            for name, cells in sorted(found.items())}


def seed_interval(values):
    """Mean of values (n,) over seeds, and half the width of its 95% interval (None of a single seed)."""
    n = len(values)
    half = float(stdtrit(n - 1, 0.975)) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else None
    return float(np.mean(values)), half


def mean_text(values, digits=3):
    """The mean over seeds ± half its interval."""
    mean, half = seed_interval(values)
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def ends_and_middle(rows, measure):
    """A measure over the first quarter of the gold units, the middle half, and the last quarter: three floats."""
    units = rows[0]["units"]
    quarters = [min(3, int(4 * row["gold_index"] / units)) for row in rows]
    return [pooled([row for row, quarter in zip(rows, quarters) if quarter in part], measure)
            for part in ((0,), (1, 2), (3,))]


def visible_and_masked(rows):
    """(cross entropy where the needle is visible, where it is masked) of the rows of a seed and a needle."""
    return [pooled([row for row in rows if row["gold_visible"] == visible], "cross_entropy") for visible in (1, 0)]
