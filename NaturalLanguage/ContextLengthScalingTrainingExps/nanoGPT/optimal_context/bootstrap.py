"""The bootstrap of a fit, and the intervals of its draws."""

from dataclasses import replace

import numpy as np
from scipy.stats import norm as normal, t as student_t

from optimal_context.lack_of_fit import orthonormal, seed_noise
from optimal_context.law import predict, read_as, residuals, tangents
from optimal_context.solver import solve
from utils import argument_type

DRAWS, LEAST_DRAWS, LEVEL = 500, 100, 0.95
number_of_draws = argument_type(int, lambda value: value >= LEAST_DRAWS, f"an integer of at least {LEAST_DRAWS}")


def widening(freedom):
    """Student's t over the normal quantile, for the degrees of freedom that the size of a deviation rests on."""
    quantile = (1 + LEVEL) / 2
    return student_t.ppf(quantile, max(freedom, 2)) / normal.ppf(quantile)


def standardized_residual(fit, cells):
    """The straight residuals (n,) in nats, each scaled for what the fit has taken of it (its leverage)."""
    residual = cells.straight(cells.losses - predict(fit, cells.lengths, cells.sizes)[1])
    leverage = (orthonormal(tangents(fit, cells))**2).sum(1)
    return residual / np.sqrt(1 - np.minimum(leverage, 0.95))


def moved_residuals(residual, cells, draws, generator):
    """Residuals (draws, n) that are no noise: drawn again from all cells, or as whole curves from another size.

    The first half of the draws takes each cell's from any cell, the second half each size's curve over the lengths,
    with a random sign, from any size that has these lengths, so that what is smooth in l stays so.
    """
    moved = generator.choice(residual, size=(draws, len(residual))) * generator.choice((-1.0, 1.0), (draws, 1))
    sizes, half = np.unique(cells.sizes), draws // 2
    for size in sizes:
        rows = np.flatnonzero(cells.sizes == size)
        curves = [residual[cells.sizes == other] for other in sizes
                  if np.array_equal(cells.lengths[cells.sizes == other], cells.lengths[rows])]
        signs = generator.choice((-1.0, 1.0), (draws - half, 1))
        moved[half:, rows] = np.array(curves)[generator.integers(len(curves), size=draws - half)] * signs
    return moved


def noise_of_seeds(cells, alike):
    """For each cell what the straight noise of its seeds is drawn from: that of all cells, or its own (n arrays)."""
    if cells.pairing is not None:
        return [cells.pairing.deviations] * len(cells.losses)
    deviations = [(seeds - seeds.mean()) * np.sqrt(len(seeds) / max(len(seeds) - 1, 1)) for seeds in cells.seeds]
    of_all = np.concatenate([own for own in deviations if len(own) > 1])
    return [of_all if alike or len(own) == 1 else own for own in deviations]


def resampled_losses(fit, cells, noise, alike, draws, generator, misfit=False):
    """Straight losses (draws, n) as another experiment might have found them, if the fit were the truth.

    noise: that of the cells; alike: whether the seeds of all cells vary alike, in all their readings.
    Seeds: each cell's are drawn again (deviations from their mean, scaled for the mean's degree of freedom): from those
    of all cells if these vary alike, or the cell has one seed, else from its own. Two seeds drawn from themselves
    have a mean that half the time is theirs: noise with such tails a robust fit sees through better than that of the
    table, and intervals would be too narrow. Cells: what the seeds do not explain of a residual returns with a random
    sign, or, if the law misfits, comes from other cells (`moved_residuals`). One share, of all squared residuals
    together, is not explained; with one seed a cell it is 1. Both are widened (`widening`) for their degrees of
    freedom: those between seeds, and the n - p of the residuals.
    """
    residual, seeded = standardized_residual(fit, cells), noise.variance is not None
    unexplained = max(0.0, 1 - noise.variance.sum() / max((residual**2).sum(), 1e-30)) if seeded else 1.0
    if misfit:
        moved = moved_residuals(residual, cells, draws, generator)
    else:
        moved = generator.choice((-1.0, 1.0), size=(draws, len(residual))) * residual
    wide = widening(len(cells.losses) - len(fit.theta))
    losses = cells.straight(predict(fit, cells.lengths, cells.sizes)[1]) + wide * np.sqrt(unexplained) * moved
    if not seeded:
        return losses
    wide = widening(noise.freedom)
    for index, source in enumerate(noise_of_seeds(cells, alike)):
        losses[:, index] += wide * generator.choice(source, size=(draws, len(cells.seeds[index]))).mean(1)
    return losses


def bootstrap(fit, cells, draws=DRAWS, seed=0, misfit=False):
    """The Fit with its `draws`: the law fitted again, from where it is, to losses that are resampled.

    Two readings of a cell are of the same runs, so that the same seeds and signs are drawn for both.
    """
    noises = [seed_noise(reading) for reading in cells.readings]
    alike = all(noise.alike for noise in noises)
    losses = np.concatenate([
        reading.scale * resampled_losses(read_as(fit, reading), reading, noise, alike, draws,
                                         np.random.default_rng(seed), misfit)
        for reading, noise in zip(cells.readings, noises)], 1)
    scale = np.sqrt((residuals(fit, cells)**2).sum() / max(losses.shape[1] - len(fit.theta), 1)) + 1e-9
    theta, _ = solve(fit.law, np.repeat(fit.theta[None], draws, 0), fit.reference, cells, losses,
                     np.ones((1, losses.shape[1])), np.full((draws, 1), scale), tolerance=1e-5)
    return replace(fit, draws=theta)


def intervals(values, draws, corrected=True):
    """The 95% intervals, low and high (...,), of values (...,) with their draws (draws, ...).

    Quantiles of the draws (between two of them a straight line), corrected for the bias that shows in where the value
    lies among them (Efron's BC interval); not corrected for what cannot be negative and may be 0, whose draws lie above
    it without any bias to correct.
    """
    share = ((draws < values).mean(0) + (draws <= values).mean(0)) / 2 if corrected else np.full(np.shape(values), 0.5)
    shift, ordered, found = 2 * normal.ppf(np.clip(share, 0.03, 0.97)), np.sort(draws, 0), []
    for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        rank = np.clip(normal.cdf(shift + normal.ppf(level)) * (len(draws) + 1), 1, len(draws)) - 1
        below = np.floor(rank).astype(int)
        low, high = (np.take_along_axis(ordered, np.minimum(below + step, len(draws) - 1)[None], 0)[0]
                     for step in (0, 1))
        found.append(low + (rank - below) * (high - low))
    return found


def interval(value, draws):
    """A number with its interval from its draws (draws,), for JSON."""
    low, high = intervals(np.asarray(value), draws)
    return {"value": float(value), "low": float(low), "high": float(high)}
