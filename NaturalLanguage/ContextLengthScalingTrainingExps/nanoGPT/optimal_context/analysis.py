"""All that is known of a fitted table, for JSON: the law, the optima, their growth, and whether to trust them."""

from dataclasses import dataclass

import numpy as np

from optimal_context.bootstrap import interval, intervals
from optimal_context.law import described, optimum, predict
from optimal_context.lack_of_fit import effect_of_length
from optimal_context.optima import Answer, answer, bounded, find_losses, find_optima
from optimal_context.selection import Candidate, baselines, choose, nested, span, supported_factor
from optimal_context.table import BASELINES, best_baseline, sizes_with_their_lowest_loss_inside, summary

LEAST_CELLS = 3   # for each parameter, for a fit to be trusted
NO_EFFECT = 0.01  # p above which the loss is said not to depend on the length


@dataclass(frozen=True)
class Analysis:
    """A table with its kept Candidate, all candidates, the Answer, and p of an effect of the length (None: unknown).

    baselines: of each its rows on left-out sizes (selection.baselines). nested: the rows of selection.nested, or None.
    """
    cells: object
    kept: Candidate
    candidates: list
    answer: Answer
    effect: float | None
    baselines: dict
    nested: list | None = None

    @property
    def no_effect(self):
        """Whether the loss is not seen to depend on the length."""
        return self.effect is not None and self.effect > NO_EFFECT

    @property
    def baseline(self):
        """The name of the baseline that predicts left-out sizes best."""
        return best_baseline(self.baselines)

    @property
    def baseline_error(self):
        """Its root mean square error near the optima, in nats."""
        return summary(self.baselines[self.baseline])["near_error_rms"]

    @property
    def law_error(self):
        """The same of laws chosen without the size, else of the kept law; None where it cannot be compared."""
        rows = self.nested or self.kept.rows
        return summary(rows)["near_error_rms"] if rows else None

    @property
    def is_beaten(self):
        """Whether the best baseline predicts left-out sizes better than the law."""
        return self.law_error is not None and self.baseline_error < self.law_error


def analyse(laws, cells, draws, seed, name=None, compare_all=True, with_nested=False):
    """The Analysis of a table, by the best law of laws (`choose`), or by the one of this name; None if none fits.

    with_nested: also by nested cross-validation, which takes several times as long, unless the law is named.
    """
    kept, candidates = choose(laws, cells, seed, compare_all)
    if name:
        kept = next(candidate for candidate in candidates if candidate.law.name == name)
    if kept is None or kept.fit is None:
        return None
    return Analysis(cells, kept, candidates, answer(kept, candidates, cells, draws, seed), effect_of_length(cells),
                    baselines(cells), nested(laws, cells, seed) if with_nested and not name else None)


def misfit_reasons(kept, cells):
    """Why the kept law is not trusted on this table: sentences."""
    lack, failed = kept.lack, kept.failed
    count, least = len(cells.losses), LEAST_CELLS * len(kept.law.parameters)
    if lack["smooth"] is None or count < least:
        return [f"the table has {count} cells, too few to test whether a law of {len(kept.law.parameters)} parameters "
                f"fits it; train {max(least - count, 1)} more cells of the grid, at other sizes too"]
    against = (f"residuals {lack['residual_error']:.3g} nats beside {lack['seed_error']:.3g} from seeds"
               if lack["seed_error"] else f"residuals {lack['residual_error']:.3g} nats, one seed a cell")
    reasons = []
    general = ("pooled", "smooth", "square")
    if set(general) & set(failed):
        p = min(lack[name] for name in general if lack[name] is not None)
        reasons.append(f"no candidate law fits the table: the kept one leaves more than noise ({against}; lack of fit, "
                       f"p = {p:.2g})")
    if "lean" in failed:
        reasons.append(f"what the law leaves leans to one side near the optimum, so the optimum may be shifted "
                       f"(p = {lack['lean']:.2g}; {against})")
    if "outlier" in failed:
        length, size = cells.lengths[lack["worst"]], cells.sizes[lack["worst"]]
        reasons.append(f"the cell of length {length:g} and size {size:g} lies too far off the law (p = "
                       f"{lack['outlier']:.2g}): look at its runs")
    return reasons


def too_far(size, cells, supported):
    """How far a size is beyond the table's, a sentence, if they do not support that; else None.

    supported: factors downwards and upwards.
    """
    for beyond, factor, end in ((cells.sizes.min() / size, supported[0], "smallest"),
                                (size / cells.sizes.max(), supported[1], "largest")):
        if beyond > max(factor, 1) * (1 + 1e-9):
            tested = (f"held-out sizes support extrapolation {factor:.3g} times" if factor > 1
                      else "held-out sizes do not support extrapolation")
            return f"{beyond:.3g} times beyond the {end} size, {tested}"
    return None


def loss_entry(value, low, high, floor):
    """A loss with its interval, for JSON: below `floor` (0 if the table's losses are positive) there is none."""
    if value <= floor:
        return {"value": None, "low": None, "high": None}
    return {"value": float(value), "low": float(max(low, floor)), "high": float(high)}


def predictions(analysis, sizes, supported):
    """For each size a row: the optimum, the loss there and the cost in nats of each length, reasons not to trust it."""
    cells, kept = analysis.cells, analysis.answer
    lengths, found = np.unique(cells.lengths), []
    floor = 0.0 if cells.losses.min() > 0 else -np.inf
    if not len(sizes):
        return []
    entries, disagree = find_optima(kept, cells, sizes)
    for size, entry, differ in zip(sizes, entries, disagree):
        if analysis.no_effect:
            entry, differ = {**bounded(lengths[0], 0, np.inf, lengths[0], lengths[-1]), "estimate": None}, False
        (best, _), (_, lowest) = (
            [values[..., 0] for values in optimum(kept.fit, [size], lengths[0], lengths[-1], draws)]
            for draws in (False, True))
        at = np.append(lengths, best)
        losses, low, high = find_losses(kept, at, np.full(len(at), size))
        costs = np.maximum(losses[:-1] - losses[-1], 0)
        drawn = predict(kept.fit, lengths, np.full(len(lengths), size), draws=True)[1] - lowest[:, None]
        entries_of_costs = cost_entries(costs, drawn, kept.excess)
        far, loss = too_far(size, cells, supported), loss_entry(losses[-1], low[-1], high[-1], floor)
        plain = BASELINES[analysis.baseline](cells, size)
        reasons = [reason for reason, holds in (
            (far, far),
            ("laws that fit about as well disagree about the optimum", differ),
            ("the optimum cannot be told within the lengths of the table",
             entry["value"] is None and entry["bound"] is None and not analysis.no_effect),
            ("the law predicts a loss below 0 there", loss["value"] is None)) if holds]
        found.append({
            "train_tokens": float(size), "trusted": not reasons, "optimum": entry, "loss": loss, "reasons": reasons,
            "too_far": far is not None,
            "baseline_length": float(min(plain, key=plain.get)),
            "beyond_the_sizes": float(max(size / cells.sizes.max(), cells.sizes.min() / size, 1)),
            "lengths": [{"context_length": length, "loss": loss_entry(*row, floor), "cost": cost}
                        for length, row, cost in zip(lengths.tolist(), zip(losses, low, high), entries_of_costs)]})
    return found


def cost_entries(costs, drawn, excess):
    """Costs (n,) in nats of lengths against the best one, with their intervals from drawn (draws, n), for JSON."""
    low, high = intervals(costs, np.maximum(drawn, 0), corrected=False)
    low, high = np.minimum(low, costs), np.maximum(high, costs)
    return [{"value": float(cost), "low": float(max(cost - excess * (cost - bottom), 0)),
             "high": float(cost + excess * (top - cost))} for cost, bottom, top in zip(costs, low, high)]


def curves(analysis):
    """For drawing: R_Bayes and loss of each size over the lengths, with the interval of the loss."""
    cells, found = analysis.cells, []
    lengths = np.geomspace(cells.lengths.min(), cells.lengths.max(), 60)
    for size in np.unique(cells.sizes):
        loss, low, high = find_losses(analysis.answer, lengths, np.full(len(lengths), size))
        bayes = predict(analysis.answer.fit, lengths, np.full(len(lengths), size))[0]
        found.append({"train_tokens": float(size), "context_length": lengths.tolist(), "bayes_risk": bayes.tolist(),
                      "loss": loss.tolist(), "low": low.tolist(), "high": high.tolist()})
    return found


def growth(analysis, optima):
    """The exponent of l* against D with its interval: a least-squares line in logarithms through the optima that are
    known inside the lengths (rows of `predictions`); None if they are fewer than two."""
    sizes = np.array([row["train_tokens"] for row in optima if row["optimum"]["value"] is not None])
    if len(sizes) < 2:
        return None
    fit, excess = analysis.answer.fit, analysis.answer.excess
    values, draws = (np.polyfit(np.log(sizes), np.log(np.atleast_2d(optimum(fit, sizes, *span(analysis.cells),
                                                                            drawn)[0])).T, 1)[0]
                     for drawn in (False, True))
    found = interval(values[0], draws)
    return {"value": found["value"], "low": found["value"] - excess * (found["value"] - found["low"]),
            "high": found["value"] + excess * (found["high"] - found["value"])}


def describe_cells(analysis):
    """Of each cell the mean loss, its spread over seeds, and the fitted Bayes risk."""
    cells = analysis.cells
    bayes = predict(analysis.answer.fit, cells.lengths, cells.sizes)[0]
    columns = (values.tolist() for values in (cells.lengths, cells.sizes, cells.balanced, bayes))
    return [{"context_length": length, "train_tokens": size, "loss": loss,
             "standard_deviation": float(seeds.std(ddof=1)) if len(seeds) > 1 else None, "bayes_risk": risk}
            for length, size, loss, risk, seeds in zip(*columns, cells.seeds)]


def table_reasons(analysis):
    """Why nothing of the table is trusted: sentences."""
    cells, reasons = analysis.cells, []
    if analysis.no_effect:
        reasons.append(f"no effect of the length is seen (p = {analysis.effect:.2g}): no optimum can be named")
    elif not sizes_with_their_lowest_loss_inside(cells):
        reasons.append("no training size has its lowest loss inside the grid of context lengths; add longer or shorter "
                       "contexts, or other sizes")
    if analysis.is_beaten:
        reasons.append(f"on left-out sizes the plain baseline ({analysis.baseline}) predicts better than the law "
                       f"({analysis.baseline_error:.3g} against {analysis.law_error:.3g} nats): take its length")
    return reasons + misfit_reasons(analysis.kept, cells)


def describe(analysis, predict_sizes, seed):
    """All that is known, for JSON."""
    cells, fit, law = analysis.cells, analysis.answer.fit, analysis.kept.law
    residual = cells.balanced - predict(fit, cells.lengths, cells.sizes)[1]
    values, draws = described(fit, fit.theta), described(fit, fit.draws)
    supported = [supported_factor(law, cells, seed, upwards) for upwards in (False, True)]
    optima = predictions(analysis, np.unique(cells.sizes), supported)
    asked = predictions(analysis, np.array(predict_sizes), supported)
    reasons = table_reasons(analysis)
    for row in optima + asked:
        row["trusted"] = row["trusted"] and not reasons
    return {
        "trusted": not reasons and all(row["trusted"] for row in optima + asked), "reasons": reasons,
        "no_effect": analysis.no_effect, "reading": law.reading, "joint": law.joint, "law": law.name,
        "alpha": law.exponent, "bounded": law.bounded, "offset": law.offset, "given_ceiling": law.ceiling,
        "paired": cells.pairing is not None,
        "near_laws": [fit.law.name for fit in analysis.answer.others],
        "reference": dict(zip(("context_length", "train_tokens"), map(float, fit.reference))),
        "parameters": {name: interval(values[name], draws[name]) for name in values},
        "r_squared": float(1 - (residual**2).sum() / max(((cells.balanced - cells.balanced.mean())**2).sum(), 1e-300)),
        "residual_rms": float(np.sqrt((residual**2).mean())),
        "effect_of_length": analysis.effect,
        "baseline": {"name": analysis.baseline, "error": analysis.baseline_error,
                     "error_of_the_law": analysis.law_error, "is_better": analysis.is_beaten},
        "lack_of_fit": {candidate.law.name: candidate.lack for candidate in analysis.candidates},
        "supported_extrapolation": dict(zip(("below", "above"), supported)),
        "candidates": {candidate.law.name: candidate.rows for candidate in analysis.candidates},
        "exponent": None if analysis.no_effect else growth(analysis, optima),
        "optima": [{name: value for name, value in row.items() if name != "lengths"} for row in optima],
        "predictions": asked, "cells": describe_cells(analysis), "curves": curves(analysis)}
