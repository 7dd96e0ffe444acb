"""Fit the law of loss against context length and training size to a sweep, and say which context length to train at.

    python fit_optimal_context.py --results results/small/sweep.csv --predict_train_tokens 1000000 --check
    python fit_optimal_context.py --results pilot.csv --length_column window --size_column tokens --loss_column nats

Reads one CSV or several with a row a run. optimal_context_law.py says what is fitted and how. Candidate laws are
compared by leaving one training size out: each is fitted to the other sizes and predicts the losses at the left-out
size's best length and the lengths on either side. Of those within one standard error of the lowest mean square error,
the one with the fewest parameters is kept, unless --law names one. Laws with as many parameters as cells left cannot be
compared, and a bounded law is not kept if the losses do not come near its fitted bound. 95% intervals are those of the
fits to resampled seeds and cells. Writes all that is printed, the fitted curves and the errors of the losing laws as
JSON for draw_optimal_context.py. With --check also two baselines on the left-out sizes (the nearest size; a line in
log size at each length), and how each law, fitted to the smaller half of the sizes, predicts the larger half.
Exits with code 2, and says what is missing, where a table cannot carry the fit.
"""

from pathlib import Path

import numpy as np

from utils import Parser, fail, make_directory, non_negative_int, number, positive_int, save_json
from optimal_context_law import (DRAWS, LAWS, bootstrap, described, fit_law, intervals, optimum, predict,
                                 with_ceiling)
from optimal_context_table import BASELINES, compared, read_losses, refuse_what_cannot_carry_a_fit, summary

REACH = 4  # optima are looked for up to this many times the longest length


def interval(value, draws, corrected=True):
    """A number with its interval from its draws (draws,)."""
    low, high = intervals(np.asarray(value), draws, corrected)
    return {"value": float(value), "low": float(low), "high": float(high)}


def shown(entry, digits=4):
    """"0.12 [0.1, 0.15]" of an interval."""
    return f"{entry['value']:.{digits}g} [{entry['low']:.{digits}g}, {entry['high']:.{digits}g}]"


def met(fit, cells, size):
    """How a fit to other sizes meets this one (`compared`), with its optimum between and beyond the grid's lengths."""
    truth = cells.of_size(size)
    row = compared(truth, dict(zip(truth.lengths, predict(fit, truth.lengths, truth.sizes)[1])))
    return {**row, "optimum": float(optimum(fit, [size], cells.lengths.min(), REACH * cells.lengths.max())[0][0])}


def leave_one_size_out(law, cells, seed):
    """For each training size, what a fit to the others says of it (`met`); None if they are too few cells."""
    sizes = np.unique(cells.sizes)
    masks = [cells.sizes != size for size in sizes]
    if min(mask.sum() for mask in masks) <= len(law.parameters):
        return None
    return [met(fit, cells, size) for size, fit in zip(sizes, fit_law(law, cells, masks, seed))]


def choose(laws, cells, seed):
    """The law to keep (None if none can be compared), and {name: rows of leave_one_size_out or None}.

    Of the laws whose held-out error, a mean square over sizes, is within one standard error of the lowest one, the one
    with the fewest parameters (the usual rule of cross-validation; of two with as many, the one with the lower error).
    Not kept is a bounded law whose fitted bound is further above the losses than these are apart: it was not reached.
    """
    rows = {law.name: leave_one_size_out(law, cells, seed) for law in laws}
    reach = cells.losses.max() + np.ptp(cells.losses)
    errors = {law: np.array([row["near_square"] for row in rows[law.name]]) for law in laws if rows[law.name]
              and ("ceiling" not in law.parameters or fit_law(law, cells, seed=seed).theta[-1] <= reach)}
    if not errors:
        return None, rows
    best = min(errors.values(), key=np.mean)
    limit = best.mean() + best.std(ddof=1) / np.sqrt(len(best))
    near = [law for law, error in errors.items() if error.mean() <= limit]
    return min(near, key=lambda law: (len(law.parameters), errors[law].mean())), rows


def check_larger_half(laws, cells, seed):
    """How laws and baselines, given the smaller half of the sizes (rounded up), predict each size of the rest."""
    sizes = np.unique(cells.sizes)
    count = (len(sizes) + 1) // 2
    small = cells.part(cells.sizes <= sizes[count - 1])
    chosen, _ = choose(laws, small, seed) if count > 2 else (None, None)
    found = {}
    for law in laws:
        if len(small.losses) > len(law.parameters):
            fit = fit_law(law, small, seed=seed)
            found[law.name] = [met(fit, cells, size) for size in sizes[count:]]
    for name, baseline in BASELINES.items():
        found[name] = [compared(cells.of_size(size), baseline(small, size)) for size in sizes[count:]]
    return {"fitted_sizes": sizes[:count].tolist(), "chosen_by_them": chosen and chosen.name, "rows": found}


def predictions(fit, cells, sizes):
    """For each size the optimum with its interval, and the cost in nats of each length of the table against it."""
    lengths, longest, found = np.unique(cells.lengths), cells.lengths.max(), []
    for size in sizes:
        (best, lowest), (draws, lowest_draws) = (
            [values[..., 0] for values in optimum(fit, [size], lengths[0], REACH * longest, drawn)]
            for drawn in (False, True))
        losses, loss_draws = (predict(fit, lengths, np.full(len(lengths), size), drawn)[1] for drawn in (False, True))
        costs, cost_draws = np.maximum(losses - lowest, 0), np.maximum(loss_draws - lowest_draws[:, None], 0)
        found.append({
            "train_tokens": float(size), "optimum": interval(best, draws), "loss": interval(lowest, lowest_draws),
            "beyond_the_lengths": bool(best >= longest) - bool(best <= lengths[0]),
            "beyond_the_sizes": float(max(size / cells.sizes.max(), cells.sizes.min() / size, 1)),
            "lengths": [{"context_length": length, "loss": interval(losses[place], loss_draws[:, place]),
                         "cost": interval(costs[place], cost_draws[:, place], corrected=False)}
                        for place, length in enumerate(lengths.tolist())]})
    return found


def curves(fit, cells, points=60):
    """For drawing: R_Bayes and loss of each size over the lengths, with the interval of the loss."""
    lengths = np.geomspace(cells.lengths.min(), cells.lengths.max(), points)
    found = []
    for size in np.unique(cells.sizes):
        bayes, loss = predict(fit, lengths, np.full(points, size))
        low, high = intervals(loss, predict(fit, lengths, np.full(points, size), draws=True)[1])
        found.append({"train_tokens": float(size), "context_length": lengths.tolist(), "bayes_risk": bayes.tolist(),
                      "loss": loss.tolist(), "low": low.tolist(), "high": high.tolist()})
    return found


def growth(optima, sizes, cells):
    """The exponent of l* against D, a least-squares line in logarithms over the sizes whose l* is inside the lengths.

    optima (draws, sizes); returns (draws,), or None if fewer than two sizes have theirs inside (of the first draw).
    """
    inside = (optima[0] > cells.lengths.min()) & (optima[0] < cells.lengths.max())
    if inside.sum() < 2:
        return None
    return np.polyfit(np.log(sizes[inside]), np.log(optima[:, inside]).T, 1)[0]


def describe(fit, cells, candidates, predict_sizes):
    """All that is known of a bootstrapped fit, for JSON."""
    sizes = np.unique(cells.sizes)
    bayes, fitted = predict(fit, cells.lengths, cells.sizes)
    residual = cells.losses - fitted
    values, draws = described(fit, fit.theta), described(fit, fit.draws)
    span = cells.lengths.min(), REACH * cells.lengths.max()
    optima = np.vstack([optimum(fit, sizes, *span)[0], optimum(fit, sizes, *span, draws=True)[0]])
    exponents = growth(optima, sizes, cells)
    return {
        "law": fit.law.name, "alpha": fit.law.exponent, "bounded": fit.law.bounded, "given_ceiling": fit.law.ceiling,
        "reference": dict(zip(("context_length", "train_tokens"), map(float, fit.reference))),
        "parameters": {name: interval(values[name], draws[name]) for name in values},
        "r_squared": float(1 - (residual**2).sum() / ((cells.losses - cells.losses.mean())**2).sum()),
        "residual_rms": float(np.sqrt((residual**2).mean())), "candidates": candidates,
        "exponent": None if exponents is None else interval(exponents[0], exponents[1:]),
        "optima": predictions(fit, cells, sizes), "predictions": predictions(fit, cells, predict_sizes),
        "cells": [{"context_length": length, "train_tokens": size, "seeds": len(seeds), "loss": loss,
                   "standard_deviation": float(seeds.std(ddof=1)) if len(seeds) > 1 else None, "fitted": fit_loss,
                   "residual": loss - fit_loss, "bayes_risk": risk, "approximation_loss": fit_loss - risk}
                  for length, size, loss, seeds, fit_loss, risk in zip(
                      *(values.tolist() for values in (cells.lengths, cells.sizes, cells.losses)), cells.seeds,
                      fitted.tolist(), bayes.tolist())],
        "curves": curves(fit, cells)}


def print_errors(title, all_rows):
    """A table: how each law and baseline met the sizes that it had not seen, and the noise of what they are held to."""
    print(f"{title}\n  {'':26}{'optimum within':>15}{'same':>8}{'error near it (nats):':>23}{'':18}{'cost of':>12}\n"
          f"  {'':26}{'one step':>15}{'length':>8}{'root mean square':>23}{'largest':>18}{'the choice':>12}")
    for name, rows in all_rows.items():
        if not rows:
            print(f"  {name:26} not compared: too few cells for its parameters")
            continue
        told = summary(rows)
        print(f"  {name:26}{told['within_one_step']:>10} of {told['sizes']}{told['same_length']:>8}"
              f"{told['near_error_rms']:>23.4g}{told['near_error_max']:>18.4g}{told['regret_mean']:>12.4f}")
    noise = [row["near_noise"] for rows in all_rows.values() for row in rows or [] if row["near_noise"] is not None]
    print(f"  (standard error of the measured losses there, over seeds: up to {max(noise):.4f} nats)" if noise else
          "  (the noise of the measured losses is not known from one seed)")


def report(found):
    """Print what was found."""
    names = ", ".join(f"{name} {shown(entry)}" for name, entry in found["parameters"].items())
    check = found.get("check", {"baselines": {}})
    print_errors("held out, one training size at a time:", {**found["candidates"], **check["baselines"]})
    if "larger_half" in check:
        half = check["larger_half"]
        print_errors(f"fitted to the sizes {', '.join(f'{size:g}' for size in half['fitted_sizes'])} (they alone would "
                     f"keep {half['chosen_by_them'] or 'no law, being too few'}), the larger sizes:", half["rows"])
    print(f"law kept: {found['law']} (alpha {found['alpha']}, {'bounded' if found['bounded'] else 'not bounded'})\n"
          f"  {names}\n  l_ref {found['reference']['context_length']:.4g}, D_ref "
          f"{found['reference']['train_tokens']:.4g}; R^2 {found['r_squared']:.4f}, residuals "
          f"{found['residual_rms']:.4f} nats (root mean square)")
    places = {0: "", 1: ", beyond the longest length of the table", -1: ", at the shortest length of the table"}
    for row in found["optima"] + found["predictions"]:
        far = f", D {row['beyond_the_sizes']:.3g} times outside the table" if row["beyond_the_sizes"] > 1 else ""
        print(f"D = {row['train_tokens']:g}: optimal context length {shown(row['optimum'], 3)}"
              f"{places[row['beyond_the_lengths']]}{far}, loss {shown(row['loss'])}")
        if row in found["predictions"]:
            for entry in row["lengths"]:
                print(f"  context {entry['context_length']:g} costs {shown(entry['cost'], 2)} nats more")
    if min(cell["bayes_risk"] for cell in found["cells"]) < 0:
        print("the fitted Bayes risk is below 0: this table tells the sum of the two parts, not the parts; trust the "
              "optimum and its interval, and add larger sizes")
    print(f"the optimum grows as D to the power {shown(found['exponent'], 3)}" if found["exponent"]
          else "fewer than two optima lie inside the lengths of the table, so how they grow is not told")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="CSVs, a row a run")
    parser.add_argument("--length_column", default="context_length", help="column of the context length (tokens)")
    parser.add_argument("--size_column", help="column of the training size; default train_tokens or train_dataset_size")
    parser.add_argument("--loss_column", default="best_valid_loss", help="column of the loss (nats)")
    parser.add_argument("--seed_column", help="column of the seed; default: seed, and without it each row is one")
    parser.add_argument("--law", choices=[law.name for law in LAWS], help="keep this law; default: the best held out")
    parser.add_argument("--ceiling", type=number(float, 1e-9),
                        help="loss of a model without context (nats), for the bounded laws; default: it is fitted")
    parser.add_argument("--predict_train_tokens", type=number(float, 1), nargs="+", default=[],
                        help="training sizes, in the table's unit, to predict the optimum for")
    parser.add_argument("--check", action="store_true", help="add the baselines and the test on the larger sizes")
    parser.add_argument("--draws", type=positive_int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the starts and of the bootstrap")
    parser.add_argument("--out", default="outputs/optimal_context.json", help="file to write")
    args = parser.parse_args()
    cells = read_losses(args.results, args.length_column, args.size_column, args.loss_column, args.seed_column)
    refuse_what_cannot_carry_a_fit(cells)
    laws = [with_ceiling(law, args.ceiling) for law in LAWS]
    kept, candidates = choose(laws, cells, args.seed)
    kept = next((law for law in laws if law.name == args.law), kept)
    if kept is None or len(kept.parameters) >= len(cells.losses):
        least = len(kept.parameters) if kept else min(len(law.parameters) for law in laws)
        fail(f"the table has {len(cells.losses)} cells of length and size, too few for a law of {least} parameters"
             f"{'' if kept else ' with a size left out'}; train more cells of the grid")
    make_directory(Path(args.out).parent)
    fit = bootstrap(fit_law(kept, cells, seed=args.seed), cells, args.draws, args.seed)
    found = {"results": args.results, "seed": args.seed, "draws": args.draws,
             **describe(fit, cells, candidates, args.predict_train_tokens)}
    if args.check:
        baselines = {name: [compared(cells.of_size(size), baseline(cells.part(cells.sizes != size), size))
                            for size in np.unique(cells.sizes)] for name, baseline in BASELINES.items()}
        found["check"] = {"baselines": baselines, "larger_half": check_larger_half(laws, cells, args.seed)}
    report(found)
    save_json(args.out, found)
    print(f"-> {args.out}")


if __name__ == "__main__":
    main()
