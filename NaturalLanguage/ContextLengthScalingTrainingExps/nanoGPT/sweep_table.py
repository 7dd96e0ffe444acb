"""The table of collect_results.py, by cell."""

import statistics
from collections import defaultdict

import numpy as np

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
