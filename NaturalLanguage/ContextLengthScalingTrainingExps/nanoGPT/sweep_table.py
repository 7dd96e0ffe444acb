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


def connected(groups):
    """The sets of seeds that are compared with each other: those of one of the groups, and of groups that share one."""
    found = []
    for group in groups:
        touched = [other for other in found if other & set(group)]
        found = [other for other in found if other not in touched] + [set(group).union(*touched)]
    return found


def adjusted_means(by_length, reading):
    """The mean loss of each context length as if it had every seed, {length: mean}, and {seed: what it adds to all}.

    by_length: of one training size in read_cells' table. Least squares of loss = mean of the length + addition of the
    seed; the additions sum to 0, over the seeds that lengths in common connect. The runs of a seed share the initial
    weights, the order of the batches and, where seeds differ in it, the part of the corpus, so that a length that lacks
    the seed of a hard part would look better.
    """
    lengths, seeds = list(by_length), sorted(set().union(*by_length.values()))
    runs = [(lengths.index(length), len(lengths) + seeds.index(seed), losses[reading])
            for length, of_length in by_length.items() for seed, losses in of_length.items()]
    columns = np.zeros((len(runs), len(lengths) + len(seeds)))
    for row, (length, seed, _) in zip(columns, runs):
        row[[length, seed]] = 1
    found = np.linalg.lstsq(columns, np.array([loss for _, _, loss in runs]))[0]
    means, added = dict(zip(lengths, found[:len(lengths)].tolist())), dict(zip(seeds, found[len(lengths):].tolist()))
    for group in connected(by_length.values()):
        level = sum(added[seed] for seed in group) / len(group)
        added |= {seed: added[seed] - level for seed in group}
        means |= {length: means[length] + level for length, of_length in by_length.items() if group & set(of_length)}
    return means, added
