"""How often the intervals of fit_optimal_context.py hold the truth, on tables drawn from a law that is known.

    python measure_recovery.py --results results/small/sweep.csv --tables 200 --out outputs/recovery.json

The truth is the law fitted to a sweep; a table has its cells, with as many seeds, whose noise is normal and has in each
cell the standard deviation that the sweep's seeds have there (so at least two seeds a cell). Every table is fitted from
nothing, with the bootstrap. Writes the share of tables whose 95% interval holds the truth: for each parameter (with the
median of the fits beside the truth), for the optimum of each training size and their exponent in the size, and, as
lowest and mean over the cells, for the loss of a cell and the cost of its length against the optimum. The law itself is
given to each fit: whether it would be chosen is not asked.
"""

from pathlib import Path

import numpy as np

from utils import Parser, fail, make_directory, non_negative_int, positive_int, save_json
from fit_optimal_context import REACH, choose
from optimal_context_law import DRAWS, LAWS, LEVEL, bootstrap, described, fit_law, intervals, optimum, predict
from optimal_context_table import Cells, read_losses, refuse_what_cannot_carry_a_fit


def quantities(fit, cells, draws=False):
    """{name: value, or with draws (draws, ...)}: parameters, optima and their exponent, losses and costs of cells."""
    sizes, lengths = np.unique(cells.sizes), np.unique(cells.lengths)
    optima, lowest = optimum(fit, sizes, lengths[0], REACH * lengths[-1], draws)
    found = described(fit, fit.draws if draws else fit.theta)
    found.update({f"optimum at {size:g}": optima[..., place] for place, size in enumerate(sizes)})
    found["exponent"] = np.polyfit(np.log(sizes), np.log(optima).T, 1)[0]
    found["losses"] = predict(fit, cells.lengths, cells.sizes, draws)[1]
    found["costs"] = np.maximum(found["losses"] - lowest[..., np.searchsorted(sizes, cells.sizes)], 0)
    return found


def recovered(truth, cells, draws, generator, seed):
    """One table: {name: whether its interval holds the truth}, and {name: its estimate}."""
    _, losses = predict(truth, cells.lengths, cells.sizes)
    seeds = tuple(loss + one.std(ddof=1) * generator.standard_normal(len(one))
                  for loss, one in zip(losses, cells.seeds))
    table = Cells(cells.lengths, cells.sizes, np.array([one.mean() for one in seeds]), seeds)
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
    found = [recovered(truth, cells, draws, generator, seed + place) for place in range(tables)]
    coverage = {name: np.mean([inside[name] for inside, _ in found], axis=0) for name in found[0][0]}
    return coverage, {name: float(np.median([estimate[name] for _, estimate in found]))
                      for name in described(truth, truth.theta)}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="CSVs, a row a run")
    parser.add_argument("--law", choices=[law.name for law in LAWS], help="the truth; default: the best held out")
    parser.add_argument("--tables", type=positive_int, default=200, help="drawn from the truth")
    parser.add_argument("--draws", type=positive_int, default=DRAWS, help="of the bootstrap of each")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of tables, starts and bootstrap")
    parser.add_argument("--out", default="outputs/recovery.json", help="file to write")
    args = parser.parse_args()
    cells = read_losses(args.results, "context_length", None, "best_valid_loss", None)
    refuse_what_cannot_carry_a_fit(cells)
    if min(map(len, cells.seeds)) < 2:
        fail("the noise of a cell is that of its seeds, and a cell of the table has only one; train another seed")
    law = next((law for law in LAWS if law.name == args.law), None) or choose(LAWS, cells, args.seed)[0]
    if law is None or len(law.parameters) >= len(cells.losses):
        fail(f"the table's {len(cells.losses)} cells are too few for a law; train more cells of the grid")
    make_directory(Path(args.out).parent)
    truth = fit_law(law, cells, seed=args.seed)
    coverage, medians = measure(truth, cells, args.tables, args.draws, args.seed)
    of_cells = {name: {"lowest": float(coverage[name].min()), "mean": float(coverage[name].mean())}
                for name in ("losses", "costs")}
    coverage = {name: float(share) for name, share in coverage.items() if name not in of_cells}
    true = {name: float(value) for name, value in described(truth, truth.theta).items()}
    save_json(args.out, {
        "results": args.results, "law": law.name, "tables": args.tables, "draws": args.draws, "seed": args.seed,
        "level": LEVEL, "coverage": coverage, "coverage_over_cells": of_cells,
        "parameters": {name: {"truth": true[name], "median_estimate": medians[name]} for name in true}})
    print(f"law {law.name}, {args.tables} tables, 95% intervals hold the truth in a share of:")
    for name, share in coverage.items():
        fitted = f" (truth {true[name]:.4g}, median of the fits {medians[name]:.4g})" if name in true else ""
        print(f"  {name}: {share:.3f}{fitted}")
    for name, shares in of_cells.items():
        print(f"  {name} of the {len(cells.losses)} cells: {shares['mean']:.3f}, lowest {shares['lowest']:.3f}")
    print(f"-> {args.out}")


if __name__ == "__main__":
    main()
