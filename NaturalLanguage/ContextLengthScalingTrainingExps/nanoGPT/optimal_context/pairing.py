"""Seeds that vary together: the losses of one seed are high or low at all context lengths of a training size at once.

They are where a seed is a part of the corpus (train.py's --data_seed): parts differ in how hard they are, on text ten
times as much as lengths do, and this says nothing of the lengths. The losses of a size are then a mean for each length,
what a seed adds at all of them, and noise. Of n lengths, noise variance v and a share b of the seeds, the means over S
seeds have the covariance (v I + b J) / S, J being all ones; `root` = I - (1 - k) J / n with k^2 = v / (v + n b) makes
it v / S I. Fits, noise and tests work with losses, seeds and slopes that are multiplied by it (Cells.straight), so that
a shift of a whole curve counts little and a difference between lengths much. Whether seeds vary together is asked of
the table by the F test of a two-way analysis of variance, pooled over the sizes.
"""

from dataclasses import replace

import numpy as np
from scipy.stats import f as f_distribution

from utils import fail

TOGETHER = 0.01  # p of the F test below which seeds are said to vary together


def shared_losses(cells, size):
    """The losses (lengths, seeds) of the seeds that all lengths of a training size have, and the names of these."""
    rows = np.flatnonzero(cells.sizes == size)
    names = sorted(set.intersection(*(set(cells.names[row]) for row in rows)))
    return np.array([[cells.seeds[row][cells.names[row].index(name)] for name in names] for row in rows]), names


def variances(tables):
    """Of (lengths, seeds) losses of each size: the noise v and what seeds share b, and p of the F test of b = 0.

    None, None, 1 where no size has two seeds and two lengths.
    """
    within = between = freedom_within = freedom_between = 0.0
    shares = []
    for losses in tables:
        lengths, seeds = losses.shape
        if lengths < 2 or seeds < 2:
            continue
        deviations = losses - losses.mean(1, keepdims=True)
        common = deviations.mean(0)
        within += ((deviations - common)**2).sum()
        between += lengths * (common**2).sum()
        freedom_within += (seeds - 1) * (lengths - 1)
        freedom_between += seeds - 1
        shares.append((lengths, seeds - 1, lengths * (common**2).sum()))
    if not shares:
        return None, None, 1.0
    noise = within / freedom_within
    share = sum((square - freedom * noise) / lengths for lengths, freedom, square in shares) / freedom_between
    ratio = between / freedom_between / max(noise, 1e-300)
    return noise, max(share, 0.0), float(f_distribution.sf(ratio, freedom_between, freedom_within))


def paired(cells):
    """The cells with their `root`, and of each size the seeds alone that all its lengths have, if seeds vary together.

    Else the cells as they are, as without names of the seeds. Exits with code 2 if seeds vary together and a size has
    no seed at all of its lengths: its curve is then one of the seeds.
    """
    if cells.names is None:
        return cells
    sizes = np.unique(cells.sizes)
    tables, names = zip(*(shared_losses(cells, size) for size in sizes))
    noise, share, p = variances(table for table in tables if table.size)
    if p > TOGETHER or not share:
        return cells
    if not all(map(len, names)):
        alone = sizes[[not found for found in names]][0]
        fail(f"the losses of one seed are high or low together at all lengths, and no seed has all context lengths of "
             f"the size {alone:g}; train these of one seed, or leave the size out")
    root, rows = np.eye(len(cells.sizes)), [np.flatnonzero(cells.sizes == size) for size in sizes]
    for own in rows:
        root[np.ix_(own, own)] -= (1 - np.sqrt(noise / (noise + len(own) * share))) / len(own)
    seeds = {index: losses for own, table in zip(rows, tables) for index, losses in zip(own, table)}
    seeds = tuple(seeds[index] for index in range(len(cells.sizes)))
    left_out = sum(map(len, cells.seeds)) - sum(map(len, seeds))
    kept = {index: tuple(found) for own, found in zip(rows, names) for index in own}
    return replace(cells, losses=np.array([losses.mean() for losses in seeds]), seeds=seeds, root=root,
                   names=tuple(kept[index] for index in range(len(cells.sizes))), left_out=left_out)
