"""Which law to keep: each candidate on sizes that it was not fitted to, and what it leaves of the whole table."""

from dataclasses import dataclass, replace

import numpy as np

from optimal_context.lack_of_fit import lack_of_fit, prediction_test, seed_noise
from optimal_context.law import Fit, Law, optimum, predict
from optimal_context.pairing import pair
from optimal_context.readings import with_both
from optimal_context.solver import fit_law
from optimal_context.table import BASELINES, LEAST_SIZES, compared

PREDICTED = 0.05   # p of the test of extrapolation below which it has failed
LEAST_WEIGHT = 0.04
REACH = 4  # optima are looked for up to so many times beyond the table's lengths
# p below which a law is inadequate
LEVELS = {"pooled": 0.03, "smooth": 0.05, "lean": 0.03, "square": 0.03, "outlier": 0.01}


@dataclass(frozen=True)
class Candidate:
    """A law fitted to all cells, its rows on left-out sizes (`evaluate`; None: too few cells), its `lack_of_fit`."""
    law: Law
    fit: Fit | None
    rows: list | None
    lack: dict | None

    @property
    def errors(self):
        """The mean square error (sizes,) near the optimum of each size, which was left out."""
        return np.array([row["near_square"] for row in self.rows])

    @property
    def failed(self):
        """The names of the tests of lack of fit that it fails."""
        return [name for name, level in LEVELS.items() if self.lack[name] is not None and self.lack[name] < level]


def span(cells):
    """The shortest and the longest length at which optima are looked for."""
    return cells.lengths.min() / REACH, cells.lengths.max() * REACH


def evaluate(fit, cells, size):
    """How a fit to other sizes predicts this one (`compared`), with its optimum inside and beyond the lengths."""
    truth = cells.of_size(size)
    row = compared(truth, dict(zip(truth.lengths, predict(fit, truth.lengths, truth.sizes)[1])))
    return {**row, "optimum": float(optimum(fit, [size], *span(cells))[0][0])}


def leave_one_size_out(law, cells, seed):
    """For each training size, what a fit to the others says of it (`evaluate`); None if they are too few cells."""
    sizes = np.unique(cells.sizes)
    masks = [cells.sizes != size for size in sizes]
    if min(mask.sum() for mask in masks) * len(cells.readings) <= len(law.parameters):
        return None
    return [evaluate(fit, cells, size) for size, fit in zip(sizes, fit_law(law, cells, masks, seed))]


def baselines(cells):
    """{baseline: its rows on each training size, given the others (`compared`)}."""
    return {name: [compared(cells.of_size(size), baseline(cells.part(cells.sizes != size), size))
                   for size in np.unique(cells.sizes)] for name, baseline in BASELINES.items()}


def examine(law, cells, seed):
    """The Candidate of a law, as yet without rows."""
    if len(cells.targets) <= len(law.parameters):
        return Candidate(law, None, None, None)
    fit = fit_law(law, cells, seed=seed)
    return Candidate(law, fit, None, lack_of_fit(fit, cells))


def reached(candidate, cells):
    """Whether the losses come near a fitted bound: it is no further above them than they are apart."""
    value = dict(zip(candidate.law.parameters, candidate.fit.theta))
    shift = value.get("shift", 0.0) if cells.reading == "full" else 0.0
    return value.get("ceiling", -np.inf) + shift <= cells.losses.max() + np.ptp(cells.losses)


def near_best(candidates):
    """Of candidates those whose held-out error, a mean square over sizes, is within a standard error of the lowest."""
    best = min((candidate.errors for candidate in candidates), key=np.mean)
    limit = best.mean() + best.std(ddof=1) / np.sqrt(len(best))
    return [candidate for candidate in candidates if candidate.errors.mean() <= limit]


def choose(laws, cells, seed, compare_all=True):
    """The Candidate to keep (None if none can be compared), and the Candidates of all laws.

    Those that leave more than noise of the table are put aside, unless all do, and so is a bounded law whose bound was
    not reached. Of the rest, those near the lowest held-out error (`near_best`), the one with the fewest parameters is
    kept (the usual rule of cross-validation; of two with as many, the one with the lower error). Without compare_all
    those put aside are not compared on left-out sizes either, which the choice does not need.
    """
    candidates = [examine(law, cells, seed) for law in laws]
    able = [candidate.law for candidate in candidates if candidate.fit and reached(candidate, cells)]
    fitting = [candidate.law for candidate in candidates if candidate.law in able and not candidate.failed]

    def compare(subset):
        return [replace(candidate, rows=leave_one_size_out(candidate.law, cells, seed))
                if candidate.law in subset and not candidate.rows else candidate for candidate in candidates]

    candidates = compare(laws if compare_all else fitting)
    for subset in (fitting, able):
        candidates = compare(subset)
        comparable = [candidate for candidate in candidates if candidate.law in subset and candidate.rows]
        if comparable:
            near = near_best(comparable)
            return min(near, key=lambda candidate: (len(candidate.law.parameters), candidate.errors.mean())), candidates
    return None, candidates


def weights(candidates, cells):
    """The share of each candidate in the answer, exp(-BIC / 2) of its residuals and number of parameters, sum 1.

    Those under LEAST_WEIGHT, and so hardly more than noise of the bootstrap, get none.
    """
    noise, count = seed_noise(cells).variance, len(cells.losses)
    squares = np.array([(cells.straight(cells.losses - predict(candidate.fit, cells.lengths, cells.sizes)[1])**2).sum()
                        for candidate in candidates])
    misfit = count * np.log(squares / count + 1e-30) if noise is None else squares / noise.mean()
    criterion = misfit + np.log(count) * np.array([len(candidate.law.parameters) for candidate in candidates])
    shares = np.exp(-(criterion - criterion.min()) / 2)
    shares[shares < LEAST_WEIGHT * shares.sum()] = 0
    return shares / shares.sum()


def supported_factor(law, cells, seed, upwards):
    """How many times beyond its sizes a fit of this law is known to predict: it is fitted to half of the sizes.

    The other half, the larger sizes (upwards) or the smaller ones, must be predicted as well as the noise lets it
    (`prediction_test`); else, or if the half has too few cells for the law, the factor is 1.
    """
    sizes = np.unique(cells.sizes)
    count = (len(sizes) + 1) // 2
    edge = sizes[count - 1] if upwards else sizes[-count]
    fitted = cells.sizes <= edge if upwards else cells.sizes >= edge
    if count < 2 or fitted.sum() * len(cells.readings) <= len(law.parameters):
        return 1.0
    p = prediction_test(fit_law(law, cells, [fitted], seed)[0], cells, fitted)
    return 1.0 if p is None or p < PREDICTED else float(sizes[-1] / edge if upwards else edge / sizes[0])


def anew(cells):
    """These cells, their noise (pairing, scales) estimated from them alone."""
    alone = pair(replace(cells, pairing=None, beside=None, scale=1.0))
    return alone if cells.beside is None else with_both(alone, pair(replace(cells.beside, pairing=None)))


def nested(laws, cells, seed):
    """Nested cross-validation: of each training size what the law says of it (`evaluate`) that the others choose.

    The errors of the law kept are those that it was chosen by, and so too low; these are not. A row's `law` is the name
    of the chosen one. None where the other sizes cannot choose.
    """
    sizes, rows = np.unique(cells.sizes), []
    if len(sizes) <= LEAST_SIZES:
        return None
    for size in sizes:
        kept, _ = choose(laws, anew(cells.part(cells.sizes != size)), seed, compare_all=False)
        if kept is None:
            return None
        rows.append({**evaluate(kept.fit, cells, size), "law": kept.law.name})
    return rows


def check_larger_half(laws, cells, seed):
    """How laws and baselines, given the smaller half of the sizes (rounded up), predict each size of the rest."""
    sizes = np.unique(cells.sizes)
    count = (len(sizes) + 1) // 2
    small = cells.part(cells.sizes <= sizes[count - 1])
    kept = choose(laws, small, seed)[0] if count > 2 else None
    found = {}
    for law in laws:
        if len(small.targets) > len(law.parameters):
            fit = fit_law(law, small, seed=seed)
            found[law.name] = [evaluate(fit, cells, size) for size in sizes[count:]]
    for name, baseline in BASELINES.items():
        found[name] = [compared(cells.of_size(size), baseline(small, size)) for size in sizes[count:]]
    return {"fitted_sizes": sizes[:count].tolist(), "chosen_by_them": kept and kept.law.name, "rows": found}
