"""The table of collect_results.py, by cell, and the optimum in it."""

import statistics
from collections import defaultdict

import numpy as np
from scipy.stats import t

from files import read_table
from utils import fail

LOSS_COLUMNS = {"best_valid_loss": "mean over the window", "full_context_loss": "full context only"}
COLUMNS = ("context_length", "train_tokens", "seed", "at_last_step", *LOSS_COLUMNS)


def read_cells(*paths):
    """{training tokens: {context length: {seed: {reading: loss, "at_last_step": bool}}}}, ascending, of all the tables.

    A run that is in several tables is that of the last one. Exits with code 2 on a damaged file, and on one that has a
    run twice.
    """
    cells = defaultdict(lambda: defaultdict(dict))
    for path in paths:
        runs = {}
        for row in read_table(path, COLUMNS, "make it again with collect_results.py"):
            length, tokens, seed, at_last_step = (int(row[name]) for name in COLUMNS[:4])
            run = tokens, length, seed
            if run in runs:
                fail(f"{path} has two rows of {length} tokens of context, {tokens} training tokens and seed {seed}; "
                     "leave one of them")
            runs[run] = {**{name: float(row[name]) for name in LOSS_COLUMNS}, "at_last_step": bool(at_last_step)}
        for (tokens, length, seed), losses in runs.items():
            cells[tokens][length][seed] = losses
    return {tokens: dict(sorted(cells[tokens].items())) for tokens in sorted(cells)}


def mean_and_range(values, mark=""):
    """Mean [lowest, highest] over seeds, in print; the mean between marks."""
    values = [float(value) for value in values]
    mean = f"{mark}{statistics.mean(values):.3f}{mark}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.3f}, {max(values):.3f}]"


def with_range(best, alike):
    """An optimum and the lengths not told from it, or None, in print."""
    return f"{best}" if alike is None else f"{best} [{alike[0]}, {alike[1]}]"


def all_lengths(cells):
    """The context lengths of read_cells' table, of all its training sizes, ascending."""
    return sorted({length for by_length in cells.values() for length in by_length})


def shared_seeds(by_length):
    """The seeds, ascending, that all context lengths of a training size in read_cells' table have."""
    return sorted(set.intersection(*map(set, by_length.values())))


def shared_losses(by_length, reading):
    """{context length: losses (seeds,)} of the seeds that all lengths have, and how many these are.

    by_length: of one training size in read_cells' table. The runs of a seed share the initial weights, the order of the
    batches and, where seeds differ in it, the part of the corpus. Without a shared seed the losses are of the seeds
    that there are.
    """
    shared = shared_seeds(by_length)
    return {length: np.array([seeds[seed][reading] for seed in shared or seeds])
            for length, seeds in by_length.items()}, len(shared)


def optimum(by_length, reading):
    """The context length with the lowest mean loss, the lengths not told from it, and the means.

    Means are over shared_losses. A length is told from the best one where the 95% interval (Student's) of its loss less
    that of the best one, by seed, leaves out 0. The second value is (shortest, longest) of those that are not, or None
    where fewer than two seeds are shared.
    """
    losses, n_shared = shared_losses(by_length, reading)
    means = {length: loss.mean() for length, loss in losses.items()}
    best = min(means, key=means.get)
    if n_shared < 2:
        return best, None, means
    above = {length: loss - losses[best] for length, loss in losses.items()}
    alike = [length for length, loss in above.items()
             if loss.mean() <= t.ppf(0.975, n_shared - 1) * loss.std(ddof=1) / np.sqrt(n_shared)]
    return best, (min(alike), max(alike)), means
