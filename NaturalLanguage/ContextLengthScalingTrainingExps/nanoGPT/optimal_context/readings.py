"""The two readings of a loss (law.py): tables of either or both, and whether one reading's fit tells the other.

A fit of both has one set of parameters, and a shift, since the targets of the readings may be different tokens. The
losses of each reading count by its own noise: they are divided by their standard deviation over seeds, pooled over the
cells, in units of the geometric mean of the two; they count alike where there is one seed a cell.
"""

from dataclasses import replace

import numpy as np

from optimal_context.law import predict, read_as
from optimal_context.solver import fit_law
from optimal_context.table import read_losses

READINGS = ("full", "mean", "both")


def seed_variance(cells):
    """The variance of a straight loss over seeds, pooled over the cells; None with one seed a cell."""
    if cells.pairing is not None:
        return cells.pairing.noise
    groups = [seeds for seeds in cells.seeds if len(seeds) > 1]
    freedom = sum(len(seeds) - 1 for seeds in groups)
    return sum(((seeds - seeds.mean())**2).sum() for seeds in groups) / freedom if groups else None


def with_both(mean, full):
    """Cells of the window mean with the same cells of full context beside them, and the scale of each."""
    noise = [seed_variance(mean), seed_variance(full)]
    ratio = (noise[1] / noise[0])**0.25 if all(noise) else 1.0
    return replace(mean, reading="mean", scale=ratio, beside=replace(full, reading="full", scale=1 / ratio))


def other_reading(cells):
    """The cells beside these, with these beside them."""
    return replace(cells.beside, beside=replace(cells, beside=None))


def read_as_asked(reading, paths, columns):
    """Cells of tables in one of READINGS; of "both" the window mean, with full context beside it."""
    cells = read_losses(paths, columns)
    if reading == "both":
        return with_both(cells, read_losses(paths, replace(columns, loss=columns.full_context)))
    return replace(cells, reading=reading)


def laws_of(laws, cells):
    """The laws in the reading of the cells, joint where they have both."""
    return [replace(law, reading=cells.reading, joint=cells.beside is not None) for law in laws]


def spread(values, groups):
    """The root mean square of values (n,) about the mean of their group."""
    means = {group: values[groups == group].mean() for group in np.unique(groups)}
    return float(np.sqrt(np.mean([(value - means[group])**2 for value, group in zip(values, groups)])))


def carry_over(law, cells, seed):
    """Whether a law fitted to one reading alone tells the other with constants alone free: a dictionary for JSON.

    Of each direction, in nats, root mean squares over the cells about one constant, and about a constant a size: error,
    of the carried fit; own_fit, of the law fitted to the other reading itself; same_curve, of the first reading's
    losses taken for the other's; flat, of the other's losses themselves.
    """
    alone, found = cells.readings, {}
    fits = [fit_law(replace(law, reading=reading.reading, joint=False), reading, seed=seed) for reading in alone]
    for source, target, carried, own in zip(alone, alone[::-1], fits, fits[::-1]):
        left = {"error": target.balanced - predict(read_as(carried, target), target.lengths, target.sizes)[1],
                "own_fit": target.balanced - predict(own, target.lengths, target.sizes)[1],
                "same_curve": target.balanced - source.balanced, "flat": target.balanced}
        found[f"{source.reading} to {target.reading}"] = {
            name: {"one_constant": spread(values, np.zeros(len(values))),
                   "constant_a_size": spread(values, target.sizes)} for name, values in left.items()}
    return found
