"""What a weighting of the gold position makes of the grids of train_retrieval.py: curves, optima, their spread.

All of it follows from grids.pt of collect_retrieval.py. Intervals are Student's 95% intervals of a mean over seeds.
"""

import math
from pathlib import Path

import torch
from scipy.stats import t as student

from files import load_tensors
from retrieval import position_weights
from utils import fail

GAMMAS = (0, 1, 2, 4, 8, 16, 32)  # the weightings of the results


def load_grids(path):
    """The visible lengths, and {size: (seeds, cross entropies)}, the latter float64 (seeds, lengths, n_pairs).

    Exits with code 2 if the file lacks something, or a size has not the seeds of the others.
    """
    contents = load_tensors(Path(path), "the grids")
    try:
        lengths, sizes, seeds = contents["visible_lengths"], contents["train_dataset_size"], contents["seed"]
        grids = {}
        for size in sorted(set(sizes.tolist())):
            rows = (sizes == size).nonzero()[:, 0]
            rows = rows[seeds[rows].argsort()]
            grids[size] = seeds[rows].tolist(), contents["cross_entropy"][rows]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        fail(f"{path} is no file of collect_retrieval.py ({error!r}); make it again")
    if len({tuple(seeds) for seeds, _ in grids.values()}) > 1:
        fail(f"the sizes in {path} have different seeds; train the missing runs and collect them again")
    return lengths, grids


def with_prior(lengths, grids, n_values):
    """The grids with log(n_values), the prior, as the cross entropy of every answer whose gold pair is cut off."""
    replaced = {}
    for size, (seeds, losses) in grids.items():
        cut_off = torch.arange(losses.shape[-1]) >= torch.tensor(lengths)[:, None]
        replaced[size] = seeds, torch.where(cut_off, math.log(n_values), losses)
    return replaced


def cut_off_losses(lengths, losses):
    """Mean cross entropy of the answers that are cut off at each length below all: (seeds, lengths - 1)."""
    return torch.stack([losses[:, row, length:].mean(-1) for row, length in enumerate(lengths)
                        if length < losses.shape[-1]], dim=1)


def weighted(grid, gamma):
    """Mean over gold distances of a grid (..., lengths, n_pairs), weighted by gamma: (..., lengths)."""
    return grid @ position_weights(grid.shape[-1], gamma)


def interpolated_optimum(lengths, losses):
    """The visible length with the lowest of `losses` (lengths,), and whether it lies inside the grid.

    Inside, it is the vertex of the parabola through the lowest loss and its neighbours, over the log of the length.
    """
    best = int(losses.argmin())
    if best in (0, len(lengths) - 1):
        return float(lengths[best]), False
    x = [math.log(lengths[best + side]) for side in (-1, 0, 1)]
    y = [float(losses[best + side]) for side in (-1, 0, 1)]
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    if curvature <= 0:  # all three are equal
        return float(lengths[best]), True
    return math.exp((x[0] + x[1]) / 2 - left / (2 * curvature)), True


def optima(lengths, losses):
    """Optima of each seed's losses (seeds, lengths): float64 (seeds,), and how many of them lie inside the grid."""
    found = [interpolated_optimum(lengths, row) for row in losses]
    return torch.tensor([length for length, _ in found], dtype=torch.float64), sum(inside for _, inside in found)


def interval(values):
    """Mean of values (n,) over seeds, and half the width of its 95% interval (None of a single seed)."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1)) * values.std().item() / math.sqrt(n) if n > 1 else None
    return values.mean().item(), half


def beyond_spread(differences):
    """-1 or 1 if the mean of paired differences (seeds,) is below or above 0 by more than its interval, else 0."""
    mean, half = interval(differences)
    return 0 if half is None or abs(mean) <= half else int(math.copysign(1, mean))


def summarise(lengths, grids, gammas):
    """A row for each size and gamma: the optimum over seeds, and the cross entropy there.

    `inside`: seeds whose optimum lies inside the grid. `gain`: cross entropy with all pairs visible minus that at the
    visible length whose mean over seeds is lowest, (mean, half interval) over seeds, paired.
    """
    rows = []
    for size, (seeds, losses) in grids.items():
        for gamma in gammas:
            curves = weighted(losses, gamma)
            optimal, inside = optima(lengths, curves)
            best = int(curves.mean(0).argmin())
            rows.append({"train_dataset_size": size, "gamma": gamma, "seeds": len(seeds), "optima": optimal,
                         "inside": inside, "optimum": interval(optimal), "best_length": lengths[best],
                         "full_length": lengths[-1], "cross_entropy": interval(curves[:, best]),
                         "gain": interval(curves[:, -1] - curves[:, best])})
    return rows


def compare(rows):
    """Paired differences of the optimum between neighbouring gammas and between all pairs of sizes.

    Returns two lists of (fixed value, from, to, differences (seeds,)): at a size from a gamma to the next one, and at a
    gamma from a size to a larger one.
    """
    by_cell = {(row["train_dataset_size"], row["gamma"]): row["optima"] for row in rows}
    sizes, gammas = sorted({size for size, _ in by_cell}), sorted({gamma for _, gamma in by_cell})
    over_gamma = [(size, low, high, by_cell[size, high] - by_cell[size, low])
                  for size in sizes for low, high in zip(gammas, gammas[1:])]
    over_size = [(gamma, small, large, by_cell[large, gamma] - by_cell[small, gamma])
                 for gamma in gammas for i, small in enumerate(sizes) for large in sizes[i + 1:]]
    return over_gamma, over_size
