"""The table of collect_results.py, by cell, and the optimum in it."""

from collections import defaultdict

import numpy as np

from files import read_table
from utils import fail

READINGS = {"best_valid_loss": "mean over the window", "full_context_loss": "full context only"}
COLUMNS = ("context_length", "train_tokens", "seed", "at_last_step", *READINGS)


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
            runs[run] = {**{name: float(row[name]) for name in READINGS}, "at_last_step": bool(at_last_step)}
        for (tokens, length, seed), losses in runs.items():
            cells[tokens][length][seed] = losses
    return {tokens: dict(sorted(cells[tokens].items())) for tokens in sorted(cells)}


def all_lengths(cells):
    """The context lengths of read_cells' table, of all its training sizes, ascending."""
    return sorted({length for by_length in cells.values() for length in by_length})


def optimum(lengths, losses, draws=2000):
    """The context length with the lowest mean loss, and the 95% interval of it under resampled seeds, or None.

    `losses` is a list of arrays over seeds, one for each context length; one seed alone gives no interval.
    """
    best = lengths[int(np.argmin([loss.mean() for loss in losses]))]
    if min(map(len, losses)) < 2:
        return best, None
    generator = np.random.default_rng(0)
    means = np.stack([loss[generator.integers(len(loss), size=(draws, len(loss)))].mean(1) for loss in losses])
    return best, np.quantile(np.array(lengths)[means.argmin(0)], (0.025, 0.975), method="inverted_cdf")
