"""Context lengths compared by seed: which is best, and does a longer one lose at one training size and win at a larger?

Runs of one seed share the part of the corpus that they train on, the order of their batches and the initial weights, so
the difference of their losses is free of what these have in common.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, t

from sweep_table import all_lengths, shared_losses


@dataclass(frozen=True)
class Difference:
    """Loss at the longer minus loss at the shorter of two context lengths (nats), at one training size, by seed."""
    tokens: int
    values: np.ndarray
    seeds: tuple = ()  # whose differences these are

    @property
    def mean(self):
        return float(self.values.mean())

    @property
    def interval(self):
        """The 95% interval (low, high) of the mean, by Student's t."""
        half = t.ppf(0.975, len(self.values) - 1) * self.values.std(ddof=1) / np.sqrt(len(self.values))
        return float(self.mean - half), float(self.mean + half)

    @property
    def sign_p(self):
        """p of the two-sided sign test."""
        return float(binomtest(int((self.values > 0).sum()), len(self.values)).pvalue)

    def text(self, digits=3):
        """Mean and interval (two seeds or more), as text."""
        return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(self.mean, *self.interval, d=digits)

    def is_all(self, sign):
        """Whether every seed's difference has this sign and the interval leaves out 0."""
        return bool((sign * self.values > 0).all() and min(sign * np.array(self.interval)) > 0)


def differences(cells, reading, shorter, longer, least_seeds=3):
    """A Difference for each training size at which both lengths have at least so many seeds in common."""
    found = []
    for tokens, by_length in cells.items():
        seeds = sorted(set(by_length.get(shorter, {})) & set(by_length.get(longer, {})))
        if len(seeds) >= least_seeds:
            losses = {length: np.array([by_length[length][seed][reading] for seed in seeds])
                      for length in (shorter, longer)}
            found.append(Difference(tokens, losses[longer] - losses[shorter], tuple(seeds)))
    return found


def optimum(by_length, reading):
    """The context length with the lowest mean loss, the others that are not significantly worse, and the means.

    Means are over shared_losses. A length is significantly worse where the 95% interval of its loss less that of the
    best one, by seed, is above 0: each by itself, and the best is chosen from the same losses, so that any one of 7
    equal lengths is significantly worse in 8 to 9% of tables, not in 2.5%. The second value is None where fewer than
    two seeds are shared.
    """
    losses, n_shared = shared_losses(by_length, reading)
    means = {length: loss.mean() for length, loss in losses.items()}
    best = min(means, key=means.get)
    if n_shared < 2:
        return best, None, means
    return best, [length for length in losses if length != best
                  and Difference(0, losses[length] - losses[best]).interval[0] <= 0], means


def optimum_text(best, others):
    """An optimum and the lengths that are not significantly worse, as a script prints it."""
    if others is None:
        return f"{best} (no test: fewer than two seeds that all lengths have)"
    return f"{best} (not significantly worse: {', '.join(map(str, others)) or 'none'})"


def moves(cells, reading, shorter, longer, least_seeds=3):
    """How the difference of two lengths changes from a training size to a larger one, by seed.

    Returns [(the smaller size, Difference whose tokens are the larger size and whose values are the changes), ...], of
    each two sizes that share at least so many seeds. Below 0 the longer context gains from more training tokens.
    """
    found = []
    for small, large in combinations(differences(cells, reading, shorter, longer, least_seeds), 2):
        before, after = (dict(zip(row.seeds, row.values)) for row in (small, large))
        seeds = tuple(seed for seed in small.seeds if seed in after)
        if len(seeds) >= least_seeds:
            values = np.array([after[seed] - before[seed] for seed in seeds])
            found.append((small.tokens, Difference(large.tokens, values, seeds)))
    return found


def crossings(cells, reading):
    """Pairs of lengths of which the shorter is better at one size and the longer at a larger one, for every seed.

    cells: of sweep_table.read_cells. Returns (shorter, longer, Difference at the smaller size, at the larger one), for
    each pair with such sizes the two whose smaller mean difference is largest; the clearest pair first.
    """
    lengths = all_lengths(cells)
    found = []
    for shorter, longer in combinations(lengths, 2):
        all_sizes = differences(cells, reading, shorter, longer)
        pairs = [(small, large) for small, large in combinations(all_sizes, 2) if small.is_all(1) and large.is_all(-1)]
        if pairs:
            found.append((shorter, longer, *max(pairs, key=lambda pair: min(pair[0].mean, -pair[1].mean))))
    return sorted(found, key=lambda row: -min(row[2].mean, -row[3].mean))
