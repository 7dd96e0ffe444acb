"""How often the answer is right or says that it is not to be trusted, on tables from laws outside the family.

Each truth is a law that no candidate can be, with its grid, its normal noise (nats) and its seeds; those whose names
begin with "inside" are candidates, for comparison. x is a length in units of 1,024, D a size in units of 4e8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optimal_context.analysis import analyse, growth, predictions, table_reasons
from optimal_context.law import LAWS
from optimal_context.selection import supported_factor
from optimal_context.table import from_losses
from utils import progress

LENGTHS = np.array([128, 256, 512, 1024, 2048, 4096, 8192, 15360])
PAPER_LENGTHS = np.array([384, 512, 768, 1024, 1536, 2048, 3072, 5120, 7680, 10240, 15360])
SIZES = np.array([1, 2, 4, 8, 16]) * 1e8
PAPER_SIZES = np.array([2, 2.5, 3, 3.5, 5, 7.5]) * 1e8
BEYOND = (1.33, 2, 4)  # sizes that are asked for, in units of the largest one of the table


@dataclass(frozen=True)
class Truth:
    """A law loss(x, D), the noise in nats and the seeds of a cell, and the grid; outlier: one cell is 0.1 too high.

    parts: standard deviation of what each seed adds to the losses of a size at all lengths; 0: its seeds have no names.
    """
    loss: Callable
    noise: float
    seeds: int
    lengths: np.ndarray
    sizes: np.ndarray
    outlier: bool = False
    parts: float = 0.0

    def optima(self, sizes):
        """The true optimum of each size, found on a fine grid that reaches far beyond the table's lengths."""
        lengths = np.geomspace(self.lengths[0] / 8, self.lengths[-1] * 64, 20001)
        return np.array([lengths[self.loss(lengths / 1024, size / 4e8).argmin()] for size in sizes])

    def table(self, seed):
        """Cells with noise."""
        generator = np.random.default_rng(seed)
        cells = {(size, length): (self.loss(length / 1024, size / 4e8)
                                  + self.noise * generator.standard_normal(self.seeds))
                 for size in self.sizes for length in self.lengths}
        if self.outlier:
            size, length = self.sizes[len(self.sizes) // 2], self.lengths[len(self.lengths) // 2]
            cells[size, length] = cells[size, length] + 0.1
        if self.parts:
            added = dict(zip(self.sizes, self.parts * generator.standard_normal((len(self.sizes), self.seeds))))
            cells = {(size, length): dict(enumerate(losses + added[size])) for (size, length), losses in cells.items()}
        return from_losses(cells)


def bayes(length):
    """A Bayes risk in the paper's form (Eq. 3)."""
    return 2.7 + 0.45 * length**-0.45


def bump(length, size):
    """A double descent: a bump of the loss at a length that grows with the size."""
    return 0.25 * np.exp(-((np.log(length / 6) - 0.6 * np.log(size)) / 0.5)**2 / 2)


def step(length, size):
    """A logistic rise of the loss beyond a length that grows with the size."""
    return 0.6 / (1 + (8 * size**0.7 / length)**1.5)


def saturation(loss):
    """An approximation loss that cannot grow beyond 1.25 nats."""
    return loss / (1 + 0.8 * loss)


TRUTHS = {
    "chinchilla": Truth(lambda x, D: bayes(x) + (0.45 + 0.18 * x**0.9) * D**-0.4, 0.005, 3, PAPER_LENGTHS, PAPER_SIZES),
    "parts": Truth(lambda x, D: bayes(x) + (0.45 + 0.18 * x**0.9) * D**-0.4, 0.01, 4, LENGTHS, SIZES, parts=0.1),
    "exponent_of_length": Truth(lambda x, D: bayes(x) + 0.45 * D**-0.6 + 0.18 * x**0.9 * D**(-0.4 + 0.05 * np.log(x)),
                                0.005, 2, LENGTHS, SIZES),
    "no_minimum": Truth(lambda x, D: 2.3 + 1.2 * x**-0.3 + 0.5 * D**-0.4, 0.02, 2, PAPER_LENGTHS, PAPER_SIZES),
    "exponential": Truth(lambda x, D: 2.8 + 0.8 * np.exp(-1.46 * x) + 0.15 * x**0.7 * D**-0.4, 0.01, 2, LENGTHS, SIZES),
    "double_descent": Truth(lambda x, D: bayes(x) + 0.12 * x**0.8 * D**-0.5 + bump(x, D), 0.01, 3, LENGTHS, SIZES),
    "logistic": Truth(lambda x, D: bayes(x) + step(x, D), 0.01, 3, LENGTHS, SIZES),
    "floor": Truth(lambda x, D: 2.9 + 0.08 * np.logaddexp(0, (0.45 * x**-0.45 - 0.25 + 0.2 * x**0.8 * D**-0.5) / 0.08),
                   0.01, 2, LENGTHS, SIZES),
    "outlier": Truth(lambda x, D: bayes(x) + 0.15 * x**0.8 * D**-0.5, 0.005, 3, LENGTHS, SIZES, outlier=True),
    "two_bayes_powers": Truth(lambda x, D: 2.5 + 0.4 * x**-0.2 + 0.15 * x**-1.2 + 0.12 * x**0.7 * D**-0.5, 0.005, 2,
                              LENGTHS, SIZES),
    "product": Truth(lambda x, D: (2.2 + 0.45 * x**-0.35) * (1 + 0.08 * x**0.6 * D**-0.45), 0.01, 2, PAPER_LENGTHS,
                     PAPER_SIZES),
    "saturating": Truth(lambda x, D: 2.6 + 0.6 * x**-0.5 + saturation(0.5 * x**0.5 * D**-0.5), 0.005, 2, PAPER_LENGTHS,
                        PAPER_SIZES),
    "log_length": Truth(lambda x, D: 4 - 0.25 * np.log(1024 * x) + 0.02 * np.log(np.maximum(8 * x, 1))**2.2 * D**-0.3,
                        0.01, 3, LENGTHS, SIZES),
    "one_seed": Truth(lambda x, D: bayes(x) + (0.2 + 0.12 * np.log1p(x)**2) * D**-0.5, 0.01, 1, LENGTHS, SIZES),
    "inside_power": Truth(lambda x, D: bayes(x) + 0.18 * x**0.9 * D**-0.4, 0.01, 3, LENGTHS, SIZES),
    "inside_one_seed": Truth(lambda x, D: bayes(x) + 0.18 * x**0.9 * D**-0.4, 0.01, 1, LENGTHS, SIZES),
}


def holds(entry, true, longest, shortest):
    """Whether the interval of an optimum holds the true one; of one beyond the grid, its end."""
    true = min(max(true, shortest), longest)
    return (entry["low"] is None or entry["low"] <= true * (1 + 1e-6)) and (
        entry["high"] is None or true <= entry["high"] * (1 + 1e-6))


def judge(truth, draws, seed):
    """One table: for each of its sizes, then for each size beyond, whether the answer holds, and whether it is trusted.

    Two lists of booleans; then whether the interval of the exponent holds that of the true optima of the same sizes, or
    none is given. A size of the table is trusted if the whole table is; one beyond, if that and itself is.
    """
    cells = truth.table(seed)
    analysis = analyse(LAWS, cells, draws, seed, compare_all=False)
    supported = [supported_factor(analysis.kept.law, cells, seed, upwards) for upwards in (False, True)]
    sizes = np.concatenate([truth.sizes, truth.sizes[-1] * np.array(BEYOND)])
    rows, optima, count = predictions(analysis, sizes, supported), truth.optima(sizes), len(truth.sizes)
    whole = not table_reasons(analysis) and all(row["trusted"] for row in rows[:count])
    holding = [holds(row["optimum"], true, cells.lengths.max(), cells.lengths.min())
               for row, true in zip(rows, optima)]
    grown = None if analysis.no_effect else growth(analysis, rows[:count])
    known = [index for index in range(count) if rows[index]["optimum"]["value"] is not None]
    return holding, [whole] * count + [whole and row["trusted"] for row in rows[count:]], (
        grown is None or grown["low"] <= np.polyfit(np.log(sizes[known]), np.log(optima[known]), 1)[0] <= grown["high"])


def shares(holding, trusted):
    """Of tables that hold (tables,) and are trusted (tables,) the shares, for JSON."""
    return {"holds": float(holding.mean()), "trusted": float(trusted.mean()),
            "holds_or_not_trusted": float((holding | ~trusted).mean()),
            "holds_where_trusted": float(holding[trusted].mean()) if trusted.any() else None}


def coverage(truth, tables, draws, seed):
    """Shares of tables, for each size of the table and beyond it, and those of the exponent, for JSON."""
    holding, trusted, growing = (np.array(found, bool) for found in zip(*(
        judge(truth, draws, seed + index) for index in progress(range(tables), unit="table", leave=False))))
    sizes = truth.sizes.tolist() + (truth.sizes[-1] * np.array(BEYOND)).tolist()
    return [{"train_tokens": size, **shares(holding[:, index], trusted[:, index]),
             "beyond_the_sizes": size / truth.sizes[-1] if size > truth.sizes[-1] else 1.0}
            for index, size in enumerate(sizes)], shares(growing, trusted[:, 0])
