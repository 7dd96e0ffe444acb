"""Seeds that vary together: the losses of one seed are high or low at all context lengths of a training size at once.

They are where a seed is a part of the corpus (train.py's --data_seed): parts differ in how hard they are, on text ten
times as much as lengths do, and this says nothing of the lengths. A loss is then a mean of its length and size, what
its seed adds at all lengths of the size, and noise of variance v. What seeds add has the variance b, which may change
with the size D as a power of it. The means over seeds of two lengths of a size then have the covariance
b |both| / (|one| |other|), counting seeds, and each the variance v / |seeds| more. Fits, noise and tests work with
losses and slopes that are multiplied by the matrix that makes this v / |seeds| alone (Cells.straight): a shift of a
whole curve counts little, a difference between lengths much. v and b are those of the two-way analysis of variance of
each size, seeds beside lengths; its F test says whether seeds vary together at all.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from scipy.stats import f as f_distribution

from sweep_table import two_way_means

TOGETHER = 0.01  # p of the F test below which seeds are said to vary together
LEAST = 1e-6     # v is at least this share of b


@dataclass(frozen=True)
class Pairing:
    """The noise of n cells whose seeds vary together.

    covariance (n, n): of the cells' means, and alone (n,) their variances v / |seeds| without what seeds add; noise: v,
    with its degrees of freedom; shares (n,): b; deviations (runs,): what neither length nor seed explains of each run,
    scaled to the variance v. balanced (n,): the means as if each length had all seeds of its size, to compare lengths.
    """
    covariance: np.ndarray
    alone: np.ndarray
    noise: float
    freedom: int
    shares: np.ndarray
    deviations: np.ndarray
    balanced: np.ndarray

    @cached_property
    def root(self):
        """The matrix (n, n) that turns noise of this covariance into independent noise of the variances `alone`."""
        scale = np.sqrt(self.alone)
        values, vectors = np.linalg.eigh(self.covariance / np.outer(scale, scale))
        return (scale[:, None] * (vectors / np.sqrt(values)) @ vectors.T) / scale

    def part(self, keep):
        """The same of the cells of a mask (n,)."""
        return replace(self, covariance=self.covariance[np.ix_(keep, keep)], alone=self.alone[keep],
                       shares=self.shares[keep], balanced=self.balanced[keep])


@dataclass(frozen=True)
class TwoWay:
    """The analysis of variance of one size: squares and degrees of freedom of seeds beside lengths, and of the rest.

    counted: by how much b enters the expected squares of the seeds. rest (runs,): residuals of all runs, cell by cell.
    balanced (lengths,): the mean loss of each length as if it had all seeds that lengths in common connect it with.
    """
    seeds: float
    seeds_freedom: int
    counted: float
    rest: np.ndarray
    freedom: int
    balanced: np.ndarray


def two_way(cells, size):
    """The TwoWay of one training size; every length may have seeds of its own."""
    rows = np.flatnonzero(cells.sizes == size)
    losses = np.concatenate([cells.seeds[row] for row in rows])
    length = np.repeat(np.arange(len(rows)), [len(cells.seeds[row]) for row in rows])
    _, seed = np.unique([str(name) for row in rows for name in cells.names[row]], return_inverse=True)
    balanced, added, centred = two_way_means(losses, length, seed)
    losses, seeds = centred[:, 0], centred[:, 1:]
    fitted, rank = seeds @ added, int(np.linalg.matrix_rank(seeds))
    return TwoWay(float((fitted**2).sum()), rank, float((seeds**2).sum()), losses - fitted,
                  len(losses) - len(rows) - rank, balanced)


def shares_of(noise, tables, sizes):
    """b of each training size: a power of the size, fitted to the squares of its seeds by maximum likelihood.

    A power of 0 is the likeliest beforehand, with a standard deviation of 1, since few seeds tell it badly.
    """
    counted, freedom, squares = (np.array([getattr(table, name) for table in tables])
                                 for name in ("counted", "seeds_freedom", "seeds"))
    pooled, log_size = (squares - noise * freedom).sum() / counted.sum(), np.log(sizes) - np.log(sizes).mean()
    known = freedom > 0

    def cost(parameters):
        level, power = parameters
        expected = noise + (counted / np.maximum(freedom, 1) * pooled * np.exp(level + power * log_size))[known]
        return (freedom[known] * np.log(expected) + squares[known] / expected).sum() + power**2

    level, power = minimize(cost, (0.0, 0.0), method="Nelder-Mead").x
    return pooled * np.exp(level + power * log_size)


def pair(cells):
    """The cells with their Pairing, if seeds vary together; else, or where seeds have no names, as they are."""
    if cells.names is None:
        return cells
    sizes = np.unique(cells.sizes)
    tables = [two_way(cells, size) for size in sizes]
    freedom, seeds_freedom = (sum(getattr(table, name) for table in tables) for name in ("freedom", "seeds_freedom"))
    if not freedom or not seeds_freedom:
        return cells
    rest = np.concatenate([table.rest for table in tables if table.freedom])
    squares, noise = sum(table.seeds for table in tables), (rest**2).sum() / freedom
    ratio = squares / seeds_freedom / max(noise, 1e-300)
    if squares <= 1e-20 * (cells.losses**2).sum() or f_distribution.sf(ratio, seeds_freedom, freedom) > TOGETHER:
        return cells
    balanced = np.zeros(len(cells.losses))
    for size, table in zip(sizes, tables):
        balanced[cells.sizes == size] = table.balanced
    noise = max(noise, LEAST * squares / sum(table.counted for table in tables))
    shares = shares_of(noise, tables, sizes)[np.searchsorted(sizes, cells.sizes)]
    counts = np.array([len(seeds) for seeds in cells.seeds])
    both = np.array([[len(set(one) & set(other)) for other in cells.names] for one in cells.names])
    covariance = shares * both / np.outer(counts, counts) * (cells.sizes[:, None] == cells.sizes)
    return replace(cells, pairing=Pairing(covariance + np.diag(noise / counts), noise / counts, noise, freedom, shares,
                                          rest * np.sqrt(len(rest) / freedom), balanced))
