"""The fit of a law to cells: Levenberg and Marquardt's method on many problems at once, from many random starts."""

import numpy as np

from optimal_context.law import Fit, fitted

STARTS = 24            # random starts of a fit to all cells
KEPT_STARTS = 3        # its best ones, which are refined, and from which the fits to a part of the cells start
ROUGH, FINE = 1e-2, 1e-6  # a problem is solved when its cost has fallen by no such share
PATIENCE = 5           # in so many iterations
ITERATIONS = 150       # at most


def robust_cost(residual, weights, scale):
    """The cost (batch,) of residuals (batch, n): their squares, or with a scale (batch, 1) in nats their soft_l1."""
    square = residual**2 if scale is None else 2 * scale**2 * (np.sqrt(1 + (residual / scale)**2) - 1)
    return (weights * square).sum(1)


def steps(slopes, residual, weights, scale, damping, limits):
    """The damped steps (batch, p) of Gauss and Newton's method, at most limits (p,) in each parameter."""
    robust = weights if scale is None else weights / np.sqrt(1 + (residual / scale)**2)
    weighted = np.swapaxes(slopes * (robust * np.ones_like(residual))[..., None], 1, 2)
    curvature, gradient = weighted @ slopes, weighted @ residual[..., None]
    identity = np.eye(slopes.shape[2])
    diagonal = np.einsum("bii->bi", curvature)[..., None] * identity + 1e-10 * identity
    return np.clip(np.linalg.solve(curvature + damping[:, None, None] * diagonal, -gradient)[..., 0], -limits, limits)


def solve(law, theta, reference, cells, losses, weights, scale=None, tolerance=FINE):
    """Minimize the cost of many problems, theta (batch, p) -> minimum (batch, p), cost (batch,).

    losses and weights are (batch, n) or (1, n), of all readings of the cells, in units of their scales. With `scale`,
    (batch, 1) in these units, the cost is soft_l1 of residual / scale, else the squared residual. A problem that is
    solved takes no more time.
    """
    batch, n = len(theta), losses.shape[1]
    losses, weights = np.broadcast_to(losses, (batch, n)), np.broadcast_to(weights, (batch, n))
    theta, damping, still = theta.copy(), np.full(batch, 1e-2), np.zeros(batch, int)
    limits = np.array([max(np.ptp(losses), 1) if name in ("C0", "shift", "ceiling") else 1.0
                       for name in law.parameters])
    loss, slopes = fitted(law, theta, reference, cells)
    residual = loss - losses
    best = robust_cost(residual, weights, scale)
    for _ in range(ITERATIONS):
        active = np.flatnonzero(still < PATIENCE)
        if not len(active):
            break
        own = None if scale is None else scale[active]
        trial = theta[active] + steps(slopes[active], residual[active], weights[active], own, damping[active],
                                      limits)
        trial_loss, trial_slopes = fitted(law, trial, reference, cells)
        trial_residual = trial_loss - losses[active]
        cost = robust_cost(trial_residual, weights[active], own)
        better = cost < best[active]
        gained = better & (best[active] - cost > tolerance * best[active] + 1e-300)
        still[active] = np.where(gained, 0, still[active] + 1)
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 4), 1e-9, 1e9)
        taken = active[better]
        theta[taken], residual[taken], slopes[taken], best[taken] = (
            trial[better], trial_residual[better], trial_slopes[better], cost[better])
    return theta, best


def first_guesses(law, cells, generator):
    """Random places to start from, (STARTS, p), from the range of the losses alone."""
    losses, other = cells.readings[0].losses, cells.readings[-1].losses
    low, span = losses.min(), np.ptp(losses) + 1e-9
    draw = {"C0": low - span * generator.uniform(0, 0.5, STARTS), "ceiling": np.full(STARTS, losses.max()),
            "log_gain": np.log(span * generator.uniform(0.1, 1, STARTS)),
            "log_gamma": np.log(generator.uniform(0.3, 1.5, STARTS)),
            "log_A": np.log(span * generator.uniform(0.05, 1, STARTS)), "a": generator.uniform(0, 4, STARTS),
            "log_alpha": np.log(generator.uniform(0.3, 4, STARTS)), "b": generator.uniform(-0.2, 0.5, STARTS),
            "shift": np.full(STARTS, other.mean() - losses.mean())}
    if law.offset:
        draw["log_B"] = np.log(span * generator.uniform(0.02, 1, STARTS))
        draw["log_beta"] = np.log(generator.uniform(0.1, 2, STARTS))
    return np.stack([draw[name] for name in law.parameters], 1)


def robust_fits(law, starts, reference, cells, folds):
    """Fits of each fold (folds, p) from starts (folds, starts, p): least squares, then soft_l1 at their scale."""
    count = starts.shape[1]
    theta, cost = solve(law, starts.reshape(-1, starts.shape[2]), reference, cells, cells.targets[None],
                        np.repeat(folds, count, 0))
    best = np.arange(len(folds)) * count + cost.reshape(len(folds), count).argmin(1)
    scale = np.sqrt(cost[best] / np.maximum(folds.sum(1) - len(law.parameters), 1))[:, None] + 1e-9
    return solve(law, theta[best], reference, cells, cells.targets[None], folds, scale)[0]


def fit_law(law, cells, keep=None, seed=0):
    """Fit a law robustly to cells: least squares from STARTS random starts, then soft_l1 at the scale of its residuals.

    Cells of two readings are fitted in both at once. keep (folds, n): a mask of the cells to fit for each of several
    fits made at once; then a list of Fits is returned, all around the same reference. All start from the best rough
    solutions of the whole table, from random starts; the best one is that of the lowest cost.
    """
    reference = np.exp(np.log(cells.lengths).mean()), np.exp(np.log(cells.sizes).mean())
    guesses = first_guesses(law, cells, np.random.default_rng(seed))
    rough, cost = solve(law, guesses, reference, cells, cells.targets[None], np.ones((1, 1)), tolerance=ROUGH)
    starts = rough[cost.argsort()[:KEPT_STARTS]]
    folds = np.ones((1, len(cells.losses))) if keep is None else np.asarray(keep, float)
    folds = np.tile(folds, len(cells.readings))
    theta = robust_fits(law, np.repeat(starts[None], len(folds), 0), reference, cells, folds)
    fits = [Fit(law, row, reference) for row in theta]
    return fits[0] if keep is None else fits
