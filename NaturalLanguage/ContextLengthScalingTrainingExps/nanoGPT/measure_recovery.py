"""How often the intervals of fit_optimal_context.py hold the truth, on tables drawn from laws that are known.

    python measure_recovery.py --results results/small/sweep.csv --tables 200 --out outputs/recovery.json
    python measure_recovery.py --outside --tables 200 --out outputs/coverage.json

By default the truth is the law fitted to a sweep; a table has its cells, with as many seeds, whose noise is normal and
has in each cell the standard deviation that the sweep's seeds have there (so at least two seeds a cell). Every table is
fitted from nothing, with the bootstrap. Writes the share of tables whose 95% interval holds the truth: for each
parameter (with the median of the fits beside the truth), for the optimum of each training size and their exponent in
the size, and, as lowest and mean over the cells, for the loss of a cell and the cost of its length against the optimum.
The law itself is given to each fit: whether it would be chosen is not asked.

With --outside the truths are laws that no candidate is (optimal_context/coverage.py), or those of them that are named,
and everything is asked that fit_optimal_context.py does: the share of tables where the interval of a size's optimum
holds the true one, or the answer is not trusted, and the same of the exponent in the size. What --out holds already of
the same request is not measured again; of another one, it is refused, or with --overwrite replaced.
"""

from utils import Parser, fail, positive_int, run_main

from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np

from files import difference, load_json, make_directory, save_json
from optimal_context.bootstrap import DRAWS, LEAST_DRAWS, LEVEL, number_of_draws
from optimal_context.coverage import TRUTHS, coverage
from optimal_context.law import LAWS, described
from optimal_context.recovery import measure
from optimal_context.selection import choose
from optimal_context.solver import fit_law
from optimal_context.table import read_losses, refuse_what_cannot_carry_a_fit
from utils import seed as seed_number


def measure_outside(args):
    """The coverage of each named truth, written after each; prints the lowest and the mean share over the sizes."""
    request = {"tables": args.tables, "draws": args.draws, "seed": args.seed}
    found = {"request": request, "level": LEVEL, "laws": {}, "exponents": {}}
    if Path(args.out).exists() and not args.overwrite:
        found = load_json(args.out, "the coverage")
        other = difference(found["request"], request)
        if other:
            fail(f"{args.out} holds a coverage with {other}; add --overwrite to replace it, or choose another --out")
    for name in args.outside or TRUTHS:
        if name not in found["laws"]:
            found["laws"][name], found["exponents"][name] = coverage(TRUTHS[name], **request)
            save_json(args.out, found)
        for title, beyond in (("sizes of the table", False), ("sizes beyond", True)):
            rows = [row for row in found["laws"][name] if (row["beyond_the_sizes"] > 1) == beyond]
            right, holds, trusted = ([row[key] for row in rows] for key in ("holds_or_not_trusted", "holds", "trusted"))
            print(f"{name}, {title}: holds or is not trusted {np.mean(right):.3f} (lowest {min(right):.3f}), "
                  f"holds {np.mean(holds):.3f}, trusted {np.mean(trusted):.3f}", flush=True)


def measure_inside(args):
    """The coverage of the law that is fitted to a sweep: a dictionary for JSON, printed."""
    cells = read_losses(args.results)
    refuse_what_cannot_carry_a_fit(cells)
    if min(map(len, cells.seeds)) < 2:
        fail("the noise of a cell is that of its seeds, and a cell of the table has only one; train another seed")
    law = next((law for law in LAWS if law.name == args.law), None)
    if law is None:
        kept = choose(LAWS, cells, args.seed)[0]
        law = kept and kept.law
    if law is None or len(law.parameters) >= len(cells.losses):
        fail(f"the table's {len(cells.losses)} cells are too few for a law; train more cells of the grid")
    truth = fit_law(law, cells, seed=args.seed)
    coverage, medians = measure(truth, cells, args.tables, args.draws, args.seed)
    of_cells = {name: {"lowest": float(coverage[name].min()), "mean": float(coverage[name].mean())}
                for name in ("losses", "costs")}
    coverage = {name: float(share) for name, share in coverage.items() if name not in of_cells}
    true = {name: float(value) for name, value in described(truth, truth.theta).items()}
    print(f"law {law.name}, {args.tables} tables, 95% intervals hold the truth in a share of:")
    for name, share in coverage.items():
        fitted = f" (truth {true[name]:.4g}, median of the fits {medians[name]:.4g})" if name in true else ""
        print(f"  {name}: {share:.3f}{fitted}")
    for name, shares in of_cells.items():
        print(f"  {name} of the {len(cells.losses)} cells: {shares['mean']:.3f}, lowest {shares['lowest']:.3f}")
    return {"results": args.results, "law": law.name, "tables": args.tables, "draws": args.draws, "seed": args.seed,
            "level": LEVEL, "coverage": coverage, "coverage_over_cells": of_cells,
            "parameters": {name: {"truth": true[name], "median_estimate": medians[name]} for name in true}}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="CSVs, a row a run")
    parser.add_argument("--law", choices=[law.name for law in LAWS], help="the truth; default: the best held out")
    parser.add_argument("--outside", nargs="*", choices=list(TRUTHS), metavar="LAW",
                        help=f"truths outside the family instead: {', '.join(TRUTHS)}; without a name all of them")
    parser.add_argument("--tables", type=positive_int, default=200, help="drawn from the truth")
    parser.add_argument("--draws", type=number_of_draws, default=DRAWS,
                        help=f"of the bootstrap of each, at least {LEAST_DRAWS}")
    parser.add_argument("--seed", type=seed_number, default=0, help="of tables, starts and bootstrap")
    parser.add_argument("--out", default="outputs/recovery.json", help="file to write")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False,
                        help="measure again what --out holds of --outside")
    args = parser.parse_args()
    if args.outside is not None:
        make_directory(Path(args.out).parent)
        measure_outside(args)
    else:
        found = measure_inside(args)
        make_directory(Path(args.out).parent)
        save_json(args.out, found)
    print(f"-> {args.out}")


if __name__ == "__main__":
    run_main(main)
