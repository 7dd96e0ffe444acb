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


def mean_and_range(values, mean=None, mark=""):
    """Mean [lowest, highest] over seeds, in print; the mean, of the values where none is given, between marks."""
    values = [float(value) for value in values]
    mean = f"{mark}{statistics.mean(values) if mean is None else mean:.3f}{mark}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.3f}, {max(values):.3f}]"


def all_lengths(cells):
    """The context lengths of read_cells' table, of all its training sizes, ascending."""
    return sorted({length for by_length in cells.values() for length in by_length})


def two_way_means(losses, length, seed):
    """Least squares of losses of runs (n,) = mean of the length + addition of the seed; both as numbers from 0 (n,).

    Returns the mean of each length as if it had every seed that lengths in common connect it with; what each seed adds,
    which sums to 0 over such seeds; and columns (n, 1 + seeds), losses and seeds (1 where a run has it) less their
    means of the length.
    """
    columns = np.c_[losses, np.eye(seed.max() + 1)[seed]]
    means = np.array([columns[length == index].mean(0) for index in range(length.max() + 1)])
    centred, own = columns - means[length], means[:, 1:]  # own: the share of each seed in a length's mean
    added = np.linalg.lstsq(centred[:, 1:], centred[:, 0], rcond=None)[0]  # of all solutions that of sum 0
    reached = own > 0
    for _ in means:
        reached = (reached @ reached.T) @ reached  # the seeds of lengths that have one in common
    return means[:, 0] + (reached / reached.sum(1, keepdims=True) - own) @ added, added, centred


def adjusted_means(by_length, reading):
    """The mean loss of each context length as if it had every seed, {length: mean}, and {seed: what it adds to all}.

    By two_way_means, of one training size in read_cells' table. The runs of a seed share the initial weights, the order
    of the batches and, where seeds differ in it, the part of the corpus, so that a length that lacks the seed of a hard
    part would look better.
    """
    lengths, seeds = list(by_length), sorted(set().union(*by_length.values()))
    length, seed, losses = map(np.array, zip(*(
        (lengths.index(length), seeds.index(seed), losses[reading])
        for length, of_length in by_length.items() for seed, losses in of_length.items())))
    means, added, _ = two_way_means(losses, length, seed)
    return dict(zip(lengths, means.tolist())), dict(zip(seeds, added.tolist()))
