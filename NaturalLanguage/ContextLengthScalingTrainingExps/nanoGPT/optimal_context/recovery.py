"""How often the bootstrap's intervals of a law hold the truth, on tables drawn from that law with a sweep's noise."""

import numpy as np

from optimal_context.bootstrap import bootstrap, intervals
from optimal_context.law import described, optimum, predict
from optimal_context.selection import span
from optimal_context.solver import fit_law
from optimal_context.table import from_losses
from utils import progress


def quantities(fit, cells, draws=False):
    """{name: value, or with draws (draws, ...)}: parameters, optima and their exponent, losses and costs of cells."""
    sizes = np.unique(cells.sizes)
    optima, lowest = optimum(fit, sizes, *span(cells), draws)
    found = described(fit, fit.draws if draws else fit.theta)
    found.update({f"optimum at {size:g}": optima[..., index] for index, size in enumerate(sizes)})
    found["exponent"] = np.polyfit(np.log(sizes), np.log(optima).T, 1)[0]
    found["losses"] = predict(fit, cells.lengths, cells.sizes, draws)[1]
    found["costs"] = np.maximum(found["losses"] - lowest[..., np.searchsorted(sizes, cells.sizes)], 0)
    return found


def noise_like(cells, generator):
    """Noise of each cell's seeds (n arrays), drawn with the variances that they have there (pairing.py: together)."""
    if cells.pairing is None:
        return [seeds.std(ddof=1) * generator.standard_normal(len(seeds)) for seeds in cells.seeds]
    runs = dict.fromkeys((size, name) for size, names in zip(cells.sizes, cells.names) for name in names)
    added = dict(zip(runs, generator.standard_normal(len(runs))))
    return [np.sqrt(share) * np.array([added[size, name] for name in names])
            + np.sqrt(cells.pairing.noise) * generator.standard_normal(len(names))
            for share, size, names in zip(cells.pairing.shares, cells.sizes, cells.names)]


def recovered(truth, cells, draws, generator, seed):
    """One table: {name: whether its interval holds the truth}, and {name: its estimate}."""
    losses = predict(truth, cells.lengths, cells.sizes)[1]
    seeds = [loss + noise for loss, noise in zip(losses, noise_like(cells, generator))]
    if cells.names is not None:
        seeds = [dict(zip(names, own)) for names, own in zip(cells.names, seeds)]
    table = from_losses(dict(zip(zip(cells.sizes, cells.lengths), seeds)))
    fit = bootstrap(fit_law(truth.law, table, seed=seed), table, draws, seed)
    true, estimate, drawn = quantities(truth, cells), quantities(fit, cells), quantities(fit, cells, draws=True)
    inside = {}
    for name, values in drawn.items():
        low, high = intervals(estimate[name], values, corrected=name != "costs")
        inside[name] = (low <= true[name]) & (true[name] <= high)
    return inside, estimate


def measure(truth, cells, tables, draws, seed):
    """Coverage over many tables: {name: share of tables, (n,) of losses and costs}, and {name: median estimate}."""
    generator = np.random.default_rng(seed)
    found = [recovered(truth, cells, draws, generator, seed + index)
             for index in progress(range(tables), unit="table", leave=False)]
    coverage = {name: np.mean([inside[name] for inside, _ in found], axis=0) for name in found[0][0]}
    return coverage, {name: float(np.median([estimate[name] for _, estimate in found]))
                      for name in described(truth, truth.theta)}
