"""Context lengths compared by seed: does a longer context lose at one training size and win at a larger one?

Runs of one seed share the part of the corpus that they train on, the order of their batches and the initial weights, so
the difference of their losses is free of what these have in common.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, ttest_1samp

from sweep_table import all_lengths


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
        return tuple(map(float, ttest_1samp(self.values, 0).confidence_interval(0.95)))

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
