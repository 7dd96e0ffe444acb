"""The law of the loss against context length l and training size D: its forms, its fit, its optimum, its bootstrap.

The paper's form (sections 1 and 3, Eqs. 1, 3 to 5), in nats:

    loss(l, D) = R_Bayes(l) + L_approx(l, D),  R_Bayes = C0 + C / l^gamma,  L_approx = A(l) / D^alpha(l)

The paper leaves A and alpha open, but that alpha falls with l. Ours: A(l) D_ref^-alpha(l) = A_ref (l / l_ref)^a, and
alpha(l) one of constant, alpha_ref (l / l_ref)^-b and alpha_ref - b log(l / l_ref); the sign of b is free, so that a
fit can contradict the paper. l_ref and D_ref are geometric means of the table: there the parameters are least
entangled. Ours too are the bounded laws: a model that learns nothing keeps the loss H of one without context, so only
K(l) = H - R_Bayes(l) can be gained, and of that the share exp(-L_approx / K) is:

    loss(l, D) = H - K exp(-A(l) / (K D^alpha(l)))  ->  R_Bayes + A(l) / D^alpha(l)  for large D
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm as normal, t as student_t

BAYES, APPROXIMATION = ("C0", "log_gain", "log_gamma"), ("log_A", "a", "log_alpha")
STARTS, DRAWS, LEVEL = 24, 500, 0.95


@dataclass(frozen=True)
class Law:
    """A candidate: how alpha depends on l, whether the loss is bounded by H, and H in nats (None: it is fitted)."""
    name: str
    exponent: str
    bounded: bool
    ceiling: float | None = None

    @property
    def parameters(self):
        """The names of the fitted parameters; logarithms of what must be positive."""
        return (*BAYES, *APPROXIMATION, *(["b"] if self.exponent != "constant" else []),
                *(["ceiling"] if self.bounded and self.ceiling is None else []))


LAWS = [Law("power", "ratio", False), Law("power_linear", "linear", False), Law("power_constant", "constant", False),
        Law("bounded", "ratio", True), Law("bounded_linear", "linear", True), Law("bounded_constant", "constant", True)]


@dataclass(frozen=True)
class Fit:
    """A law, its parameters theta (p,) around the reference (l_ref, D_ref), and theta of each bootstrap draw."""
    law: Law
    theta: np.ndarray
    reference: tuple
    draws: np.ndarray | None = None


def parts(law, theta, log_length, log_size):
    """R_Bayes and loss, (batch, n) each, of theta (batch, p) at log(l / l_ref) and log(D / D_ref), (n,) each."""
    value = dict(zip(law.parameters, np.moveaxis(theta, -1, 0)[..., None]))
    bayes = value["C0"] + np.exp(np.clip(value["log_gain"] - np.exp(value["log_gamma"]) * log_length, -50, 50))
    if law.exponent == "ratio":
        alpha = np.exp(np.clip(value["log_alpha"] - value["b"] * log_length, -50, 5))
    else:
        alpha = np.exp(value["log_alpha"]) - value.get("b", 0.0) * log_length
    approximation = np.exp(np.clip(value["log_A"] + value["a"] * log_length - alpha * log_size, -50, 50))
    if not law.bounded:
        return bayes, bayes + approximation
    ceiling = value.get("ceiling", law.ceiling)
    gain = np.maximum(ceiling - bayes, 1e-9)
    return np.minimum(bayes, ceiling), ceiling - gain * np.exp(-np.minimum(approximation / gain, 50))


def predict(fit, lengths, sizes, draws=False):
    """R_Bayes and loss in nats, (n,) each, or with draws (draws, n), at lengths and sizes (n,)."""
    theta = fit.draws if draws else fit.theta[None]
    bayes, loss = parts(fit.law, theta, np.log(np.asarray(lengths) / fit.reference[0]),
                        np.log(np.asarray(sizes) / fit.reference[1]))
    return (bayes, loss) if draws else (bayes[0], loss[0])


def solve(law, theta, log_length, log_size, losses, weights, scale=None, iterations=400):
    """Levenberg and Marquardt's method on many problems at once: theta (batch, p) -> minimum (batch, p), cost (batch,).

    losses and weights are (batch, n) or (1, n). With `scale`, in nats and (batch, 1), the cost is soft_l1 of
    residual / scale, else the squared residual.
    """
    def residuals(theta):
        return parts(law, theta, log_length, log_size)[1] - losses

    def cost(residual):
        square = residual**2 if scale is None else 2 * scale**2 * (np.sqrt(1 + (residual / scale)**2) - 1)
        return (weights * square).sum(1)

    damping, residual = np.full((len(theta), 1, 1), 1e-2), residuals(theta)
    best, still = cost(residual), 0
    for _ in range(iterations):
        slopes = np.stack([(residuals(theta + step) - residual) / 1e-6 for step in 1e-6 * np.eye(theta.shape[1])], 2)
        robust = weights if scale is None else weights / np.sqrt(1 + (residual / scale)**2)
        weighted = np.swapaxes(slopes * (robust * np.ones_like(residual))[..., None], 1, 2)
        curvature, gradient = weighted @ slopes, weighted @ residual[..., None]
        diagonal = np.einsum("bii->bi", curvature)[..., None] * np.eye(theta.shape[1]) + 1e-10 * np.eye(theta.shape[1])
        trial = theta + np.clip(np.linalg.solve(curvature + damping * diagonal, -gradient)[..., 0], -1, 1)
        trial_residual = residuals(trial)
        trial_cost = cost(trial_residual)
        better = trial_cost < best
        still = 0 if np.any(better & (best - trial_cost > 1e-8 * best)) else still + 1
        theta, residual = (np.where(better[:, None], new, old)
                           for new, old in ((trial, theta), (trial_residual, residual)))
        best = np.where(better, trial_cost, best)
        damping = np.clip(np.where(better[:, None, None], damping / 5, damping * 4), 1e-9, 1e9)
        if still == 15:
            break
    return theta, best


def first_guesses(law, losses, generator):
    """Random places to start from, (STARTS, p), from the range of the losses alone."""
    low, span = losses.min(), np.ptp(losses)
    draw = {"C0": low - span * generator.uniform(0, 0.5, STARTS), "ceiling": np.full(STARTS, losses.max()),
            "log_gain": np.log(span * generator.uniform(0.1, 1, STARTS)),
            "log_gamma": np.log(generator.uniform(0.3, 1.5, STARTS)),
            "log_A": np.log(span * generator.uniform(0.05, 1, STARTS)), "a": generator.uniform(0, 4, STARTS),
            "log_alpha": np.log(generator.uniform(0.3, 4, STARTS)), "b": generator.uniform(-0.2, 0.5, STARTS)}
    return np.stack([draw[name] for name in law.parameters], 1)


def fit_law(law, cells, keep=None, seed=0):
    """Fit a law robustly to cells: least squares from STARTS places, then soft_l1 at the scale of its residuals.

    keep (folds, n): a mask of the cells to fit for each of several fits made at once; then a list of Fits is returned,
    all around the same reference. The best start is that of the lowest cost.
    """
    folds = np.ones((1, len(cells.losses))) if keep is None else np.asarray(keep, float)
    reference = np.exp(np.log(cells.lengths).mean()), np.exp(np.log(cells.sizes).mean())
    log_length, log_size = np.log(cells.lengths / reference[0]), np.log(cells.sizes / reference[1])
    generator = np.random.default_rng(seed)
    guesses = np.concatenate([first_guesses(law, cells.losses[fold > 0], generator) for fold in folds])
    theta, cost = solve(law, guesses, log_length, log_size, cells.losses[None], np.repeat(folds, STARTS, 0))
    best = np.arange(len(folds)) * STARTS + cost.reshape(len(folds), STARTS).argmin(1)
    scale = np.sqrt(cost[best] / np.maximum(folds.sum(1) - len(law.parameters), 1))[:, None] + 1e-9
    theta, _ = solve(law, theta[best], log_length, log_size, cells.losses[None], folds, scale)
    fits = [Fit(law, one, reference) for one in theta]
    return fits[0] if keep is None else fits


def resampled_losses(fit, cells, draws, generator):
    """Losses (draws, n) as another experiment might have found them, if the fit were the truth.

    Seeds: those of each cell are drawn again (deviations from their mean, scaled for the mean's degree of freedom).
    Cells: what the seeds do not explain of a residual, the misfit of the law, returns with a random sign. One share,
    of all squared residuals together, is the misfit's; with one seed a cell it is 1. All deviations are widened by
    Student's t over the normal quantile for the degrees of freedom: the n - p that few cells leave, or, if they are
    fewer, those that few seeds give their variances, together (Welch and Satterthwaite).
    """
    noise = np.array([seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0 for seeds in cells.seeds])
    freedom = len(cells.losses) - len(fit.theta)
    if noise.any():
        freedom = min(freedom, noise.sum()**2 / sum(one**2 / (len(seeds) - 1)
                                                    for one, seeds in zip(noise, cells.seeds) if one))
    quantile = (1 + LEVEL) / 2
    widening = student_t.ppf(quantile, max(freedom, 2)) / normal.ppf(quantile)
    log_length, log_size = np.log(cells.lengths / fit.reference[0]), np.log(cells.sizes / fit.reference[1])
    fitted = parts(fit.law, fit.theta[None], log_length, log_size)[1][0]
    slopes = np.stack([(parts(fit.law, fit.theta[None] + step, log_length, log_size)[1][0] - fitted) / 1e-6
                       for step in 1e-6 * np.eye(len(fit.theta))], 1)
    left = np.linalg.svd(slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-12), full_matrices=False)
    leverage = (left[0][:, left[1] > 1e-8 * left[1][0]]**2).sum(1)
    residual = (cells.losses - fitted) / np.sqrt(1 - np.minimum(leverage, 0.95))
    misfit = max(0.0, 1 - noise.sum() / max((residual**2).sum(), 1e-30))
    signs = generator.choice((-1.0, 1.0), size=(draws, len(residual)))
    losses = fitted + widening * np.sqrt(misfit) * signs * residual
    for place, seeds in enumerate(cells.seeds):
        if len(seeds) > 1:
            deviation = widening * (seeds - seeds.mean()) * np.sqrt(len(seeds) / (len(seeds) - 1))
            losses[:, place] += deviation[generator.integers(len(seeds), size=(draws, len(seeds)))].mean(1)
    return losses


def bootstrap(fit, cells, draws=DRAWS, seed=0):
    """The Fit with its `draws`: the law fitted again, from where it is, to losses that are resampled."""
    losses = resampled_losses(fit, cells, draws, np.random.default_rng(seed))
    scale = np.sqrt(((cells.losses - predict(fit, cells.lengths, cells.sizes)[1])**2).sum()
                    / max(len(cells.losses) - len(fit.theta), 1)) + 1e-9
    theta, _ = solve(fit.law, np.repeat(fit.theta[None], draws, 0), np.log(cells.lengths / fit.reference[0]),
                     np.log(cells.sizes / fit.reference[1]), losses, np.ones((1, len(cells.losses))),
                     np.full((draws, 1), scale))
    return replace(fit, draws=theta)


def optimum(fit, sizes, shortest, longest, draws=False, points=600):
    """The context length with the lowest loss between two lengths, and that loss: (sizes,) each, or (draws, sizes)."""
    lengths = np.geomspace(shortest, longest, points)
    losses = [predict(fit, lengths, np.full(points, size), draws)[1] for size in sizes]
    return (np.stack([lengths[loss.argmin(-1)] for loss in losses], -1),
            np.stack([loss.min(-1) for loss in losses], -1))


def intervals(values, draws, corrected=True):
    """The 95% intervals, low and high (...,), of values (...,) with their draws (draws, ...).

    Quantiles of the draws, corrected for the bias that shows in where the value lies among them (Efron's BC interval);
    not corrected for what cannot be negative and may be 0, whose draws lie above it without any bias to correct.
    """
    share = ((draws < values).mean(0) + (draws <= values).mean(0)) / 2 if corrected else np.full(np.shape(values), 0.5)
    shift, ordered = 2 * normal.ppf(np.clip(share, 0.03, 0.97)), np.sort(draws, 0)
    places = [np.rint(normal.cdf(shift + normal.ppf(level)) * (len(draws) - 1)).astype(int)
              for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    return [np.take_along_axis(ordered, place[None], 0)[0] for place in places]


def described(fit, theta):
    """The parameters of theta (..., p) in the paper's names and units, each (...,): C in nats x tokens^gamma."""
    value = dict(zip(fit.law.parameters, np.moveaxis(theta, -1, 0)))
    gamma = np.exp(value["log_gamma"])
    return {"C0": value["C0"], "C": np.exp(value["log_gain"] + gamma * np.log(fit.reference[0])), "gamma": gamma,
            "A_ref": np.exp(value["log_A"]), "a": value["a"], "alpha_ref": np.exp(value["log_alpha"]),
            **{name: value[name] for name in ("b", "ceiling") if name in value}}


def with_ceiling(law, ceiling):
    """The law with a given H, if it is bounded."""
    return replace(law, ceiling=ceiling) if law.bounded else law
