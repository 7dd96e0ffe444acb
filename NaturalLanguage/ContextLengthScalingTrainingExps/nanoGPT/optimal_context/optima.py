"""The optimal length of a training size with its interval, from the kept law and those that are nearly as good."""

from dataclasses import dataclass

import numpy as np

from optimal_context.bootstrap import bootstrap, intervals
from optimal_context.law import Fit, optimum, predict
from optimal_context.selection import near_best, reached, span, weights

STRETCH = {False: (1.0, 1.06), True: (1.3, 1.6)}  # of an interval's halves, least and most; True: of laws with offset
WORSE = 4            # a held-out mean square error so many times the lowest: that law has no say
DISAGREEMENT = 2.5   # an interval of all laws that is so many times the kept law's: they disagree


@dataclass(frozen=True)
class Answer:
    """The kept law with its bootstrap, the other laws that are nearly as good with theirs, each with its share of the
    draws, and whether the kept law leaves more than noise of the table (then by how much intervals are to grow)."""
    fit: Fit
    others: tuple
    failed: bool
    excess: float

    @property
    def all_fits(self):
        """The kept law and the others, all with draws."""
        return (self.fit, *self.others)


def answer(kept, candidates, cells, draws, seed):
    """The Answer of a kept Candidate: the others are weighted (`weights`) if the kept one fits, else they count alike.

    Only laws that fit, and whose held-out error is not WORSE times the lowest one, count beside one that fits; beside
    one that does not, those near the lowest held-out error.
    """
    failed = bool(kept.failed)
    comparable = [candidate for candidate in candidates
                  if candidate is kept or (candidate.rows and reached(candidate, cells))]
    if failed:
        near = [kept] + [candidate for candidate in near_best(comparable) if candidate is not kept]
        shares = np.ones(len(near))
    else:
        least = min((candidate.errors.mean() for candidate in comparable if candidate.rows), default=np.inf)
        limit = WORSE * least if kept.rows else np.inf
        near = [candidate for candidate in comparable
                if candidate is kept or (not candidate.failed and candidate.errors.mean() <= limit)]
        shares = weights(near, cells)
    others = tuple(bootstrap(candidate.fit, cells, max(int(round(draws * share)), 2), seed, misfit=failed)
                   for candidate, share in zip(near, shares) if candidate is not kept and share > 0)
    own = bootstrap(kept.fit, cells, draws, seed, misfit=failed)
    return Answer(own, others, failed, kept.lack["excess"] if failed else 1.0)


def mixture(answer, function):
    """The draws of all laws, function(fit, draws=True) -> (draws, ...): of the kept law those that are its share."""
    total = len(answer.fit.draws)
    left = total if answer.failed else max(total - sum(len(fit.draws) for fit in answer.others), 1)
    return np.concatenate([function(answer.fit)[:left], *(function(fit) for fit in answer.others)])


def stretched(answer, value, draws, all_draws):
    """The interval (low, high) of a value, and whether the laws disagree about it: arrays (...,).

    A half of the kept law's interval is stretched to that of all laws, by STRETCH at least and at most: more for laws
    with an offset, which are kept where simpler ones fail, a choice that the bootstrap does not repeat. Without the
    upper limit if the kept law does not fit, and then by its excess too.
    """
    low, high = intervals(value, draws)
    halves, disagree = [], np.zeros(np.shape(value), bool)
    all_low, all_high = np.quantile(all_draws, (0.025, 0.975), axis=0)
    for half, wide in ((value - low, value - all_low), (high - value, all_high - value)):
        half = np.maximum(half, (high - low) / 4)
        ratio = wide / np.maximum(half, 1e-12)
        disagree |= ratio > DISAGREEMENT
        least, most = STRETCH[answer.fit.law.offset]
        most = np.inf if answer.failed else most
        halves.append(np.maximum(half, 1e-12) * np.clip(ratio, least, most) * answer.excess)
    return value - halves[0], value + halves[1], disagree


def bounded(value, low, high, shortest, longest):
    """{"value", "low", "high", "bound", "estimate"} of an optimum, of which only what lies in the grid is known.

    bound "at least": it may lie beyond the longest length, so high and value are None; "at most": beyond the shortest
    one, so low and value are None; None: inside, or, with value None, anywhere. estimate is the law's, None beyond.
    """
    tolerance = 1 + 1e-9
    below, above = low < shortest / tolerance, high > longest * tolerance
    estimate = float(value) if shortest <= value <= longest else None
    found = {"value": None, "low": float(np.clip(low, shortest, longest)),
             "high": float(np.clip(high, shortest, longest)), "bound": None, "estimate": estimate}
    if below and above:
        return found
    if above:
        return {**found, "high": None, "bound": "at least"}
    if below:
        return {**found, "low": None, "bound": "at most"}
    return {**found, "value": float(value)}


def find_optima(answer, cells, sizes):
    """Of each size its optimum (`bounded`), and whether the laws disagree about it: two lists."""
    shortest, longest = cells.lengths.min(), cells.lengths.max()
    value = optimum(answer.fit, sizes, *span(cells))[0]
    draws = {id(fit): optimum(fit, sizes, *span(cells), draws=True)[0] for fit in answer.all_fits}
    low, high, disagree = stretched(answer, np.log(value), np.log(draws[id(answer.fit)]),
                                    np.log(mixture(answer, lambda fit: draws[id(fit)])))
    return [bounded(*row, shortest, longest) for row in zip(value, np.exp(low), np.exp(high))], disagree.tolist()


def find_losses(answer, lengths, sizes):
    """The loss at lengths and sizes (n,), and its interval: loss, low and high (n,)."""
    loss = predict(answer.fit, lengths, sizes)[1]
    draws = predict(answer.fit, lengths, sizes, draws=True)[1]
    everything = mixture(answer, lambda fit: predict(fit, lengths, sizes, draws=True)[1])
    low, high, _ = stretched(answer, loss, draws, everything)
    return loss, low, high
