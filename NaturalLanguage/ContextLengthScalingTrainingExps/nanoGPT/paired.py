"""Context lengths compared by seed: which is best, and does a longer one lose at one training size and win at a larger?

Runs of one seed share the part of the corpus that they train on, the order of their batches and the initial weights, so
the difference of their losses is free of what these have in common.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, t

from sweep_table import adjusted_means, all_lengths


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


def difference(tokens, by_length, reading, shorter, longer):
    """The Difference of two lengths at one training size, of the seeds that both have (perhaps none)."""
    seeds = sorted(set(by_length.get(shorter, {})) & set(by_length.get(longer, {})))
    return Difference(tokens, np.array([by_length[longer][seed][reading] - by_length[shorter][seed][reading]
                                        for seed in seeds]), tuple(seeds))


def differences(cells, reading, shorter, longer, least_seeds=3):
    """A Difference for each training size at which both lengths have at least so many seeds in common."""
    found = (difference(tokens, by_length, reading, shorter, longer) for tokens, by_length in cells.items())
    return [row for row in found if len(row.seeds) >= least_seeds]


def optimum(by_length, reading):
    """The context length with the lowest mean loss, the others that are not significantly worse, and the means.

    Means are those of adjusted_means. A length is significantly worse where the 95% interval of its loss less that of
    the best one, over the seeds that both have, is above 0: each by itself, and the best is chosen from the same
    losses, so that any one of 7 equal lengths is significantly worse in 8 to 9% of tables, not in 2.5%. The second
    value is None where the best length shares two seeds with no other.
    """
    means, _ = adjusted_means(by_length, reading)
    best = min(means, key=means.get)
    above = {length: difference(0, by_length, reading, best, length) for length in by_length if length != best}
    if not any(len(row.seeds) > 1 for row in above.values()):
        return best, None, means
    return best, [length for length, row in above.items() if len(row.seeds) < 2 or row.interval[0] <= 0], means


def optimum_text(best, others):
    """An optimum and the lengths that are not significantly worse, as a script prints it."""
    if others is None:
        return f"{best} (no test: it shares two seeds with no other length)"
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
