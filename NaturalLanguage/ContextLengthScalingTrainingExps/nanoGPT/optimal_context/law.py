"""The candidate laws of the loss against a length l and a training size D: their forms, slopes and optima.

The paper's form (sections 1 and 3, Eqs. 1, 3 to 5), in nats, l being the context length:

    loss(l, D) = R_Bayes(l) + L_approx(l, D),  R_Bayes = C0 + C / l^gamma,  L_approx = A(l) / D^alpha(l)

The paper leaves A and alpha open, but that alpha falls with l. Ours: A(l) D_ref^-alpha(l) = A_ref (l / l_ref)^a, and
alpha(l) one of constant, alpha_ref (l / l_ref)^-b and alpha_ref - b log(l / l_ref); the sign of b is free, so that a
fit can contradict the paper. With an offset, a part of L_approx does not depend on l, as where a model of any length
has to learn the same things first: B (D_ref / D)^beta is added to it, where beta is alpha or free. l_ref and D_ref are
geometric means of the table: there the parameters are least entangled. Ours too are the bounded laws: a model that
learns nothing keeps the loss H of one without context, so only K(l) = H - R_Bayes(l) can be gained, and of that the
share exp(-L_approx / K) is:

    loss(l, D) = H - K exp(-L_approx / K)  ->  R_Bayes + L_approx  for large D

A loss is read in one of two ways. "full": of targets with exactly l tokens before them, as above. "mean": a mean over
the positions of a window, of which position p has p tokens; then R_Bayes = C0 + C M(l, gamma) (window_mean.py), and
L_approx, a mean too, is given the same form. Where both readings are fitted with the same parameters (joint), their
targets may be different tokens, so the loss with full context has a constant more, the shift.
"""

from dataclasses import dataclass, replace

import numpy as np

from optimal_context.window_mean import log_power_mean

BAYES, APPROXIMATION = ("C0", "log_gain", "log_gamma"), ("log_A", "a", "log_alpha")


@dataclass(frozen=True)
class Law:
    """A candidate: how alpha depends on l, whether the loss is bounded by H, whether L_approx has an offset B.

    own_exponent: the offset's exponent beta is not alpha. ceiling is H in nats, where it is given; None: it is fitted.
    reading: "full" or "mean", of the losses it gives; joint: its parameters are those of both readings.
    """
    name: str
    exponent: str
    bounded: bool
    offset: bool = False
    own_exponent: bool = False
    ceiling: float | None = None
    reading: str = "full"
    joint: bool = False

    @property
    def parameters(self):
        """The names of the fitted parameters; logarithms of what must be positive."""
        return (*BAYES, *APPROXIMATION, *(["b"] if self.exponent != "constant" else []),
                *(["log_B"] if self.offset else []), *(["log_beta"] if self.own_exponent else []),
                *(["shift"] if self.joint else []),
                *(["ceiling"] if self.bounded and self.ceiling is None else []))


LAWS = [Law("power", "ratio", False), Law("power_linear", "linear", False), Law("power_constant", "constant", False),
        Law("power_offset", "constant", False, offset=True),
        Law("power_two_exponents", "constant", False, offset=True, own_exponent=True),
        Law("bounded", "ratio", True), Law("bounded_linear", "linear", True), Law("bounded_constant", "constant", True),
        Law("bounded_offset", "constant", True, offset=True)]


@dataclass(frozen=True)
class Fit:
    """A law, its parameters theta (p,) around the reference (l_ref, D_ref), and theta (draws, p) of the bootstrap."""
    law: Law
    theta: np.ndarray
    reference: tuple
    draws: np.ndarray | None = None


def approximation_slopes(law, value, log_length, log_size):
    """L_approx (batch, n) and {parameter: its slope (batch, n)}."""
    alpha_ref = np.exp(np.minimum(value["log_alpha"], 5))
    if law.exponent == "ratio":
        alpha = np.exp(np.clip(value["log_alpha"] - value["b"] * log_length, -50, 5))
        of_log_alpha, of_b = alpha, -log_length * alpha
    else:
        alpha = alpha_ref - value.get("b", 0.0) * log_length
        of_log_alpha, of_b = alpha_ref, -log_length
    growing = np.exp(np.clip(value["log_A"] + value["a"] * log_length - alpha * log_size, -50, 50))
    slopes = {"log_A": growing, "a": growing * log_length, "log_alpha": -growing * log_size * of_log_alpha}
    if law.exponent != "constant":
        slopes["b"] = -growing * log_size * of_b
    if not law.offset:
        return growing, slopes
    beta = np.exp(np.minimum(value["log_beta"], 5)) if law.own_exponent else alpha_ref
    constant = np.exp(np.clip(value["log_B"] - beta * log_size, -50, 50))
    slopes["log_B"], of_log_beta = constant, -constant * log_size * beta
    if law.own_exponent:
        slopes["log_beta"] = of_log_beta
    else:
        slopes["log_alpha"] = slopes["log_alpha"] + of_log_beta
    return growing + constant, slopes


def bayes_slopes(law, value, lengths, length_ref):
    """R_Bayes (batch, n) in the law's reading at lengths (n,), without the shift, and {parameter: its slope}."""
    gamma = np.exp(np.minimum(value["log_gamma"], 5))
    log_length = np.log(lengths / length_ref)
    if law.reading == "mean":
        log_mean, of_gamma = log_power_mean(lengths, gamma)
        log_share, of_gamma = log_mean + gamma * np.log(length_ref), of_gamma + np.log(length_ref)
    else:
        log_share, of_gamma = -gamma * log_length, -log_length
    gain = np.exp(np.clip(value["log_gain"] + log_share, -50, 50))
    bayes = value["C0"] + gain
    return bayes, {"C0": np.ones_like(bayes), "log_gain": gain, "log_gamma": gain * gamma * of_gamma}


def parts(law, theta, reference, lengths, sizes, slopes=False):
    """R_Bayes and loss, (batch, n) each, of theta (batch, p) around a reference, at lengths and sizes (n,).

    With slopes, the loss and its derivatives by the parameters (batch, n, p) instead.
    """
    value = dict(zip(law.parameters, np.moveaxis(theta, -1, 0)[..., None]))
    bayes, of_bayes = bayes_slopes(law, value, lengths, reference[0])
    approximation, of_approximation = approximation_slopes(law, value, np.log(lengths / reference[0]),
                                                           np.log(sizes / reference[1]))
    if law.joint:
        shifted = float(law.reading == "full")
        bayes, of_bayes["shift"] = bayes + shifted * value["shift"], shifted * np.ones_like(bayes)
    if not law.bounded:
        if not slopes:
            return bayes, bayes + approximation
        columns = {**of_bayes, **of_approximation}
        return bayes + approximation, np.stack([columns[name] for name in law.parameters], -1)
    ceiling = value.get("ceiling", law.ceiling) + (shifted * value["shift"] if law.joint else 0)
    possible = np.maximum(ceiling - bayes, 1e-9)
    ratio = np.minimum(approximation / possible, 50)
    missing = np.exp(-ratio)
    loss = ceiling - possible * missing
    if not slopes:
        return np.minimum(bayes, ceiling), loss
    by_bayes = missing * (1 + ratio)
    columns = {**{name: by_bayes * slope for name, slope in of_bayes.items()}, "shift": of_bayes.get("shift"),
               **{name: missing * slope for name, slope in of_approximation.items()}, "ceiling": 1 - by_bayes}
    return loss, np.stack([columns[name] for name in law.parameters], -1)


def predict(fit, lengths, sizes, draws=False):
    """R_Bayes and loss in nats, (n,) each, or with draws (draws, n), at lengths and sizes (n,)."""
    theta = fit.draws if draws else fit.theta[None]
    bayes, loss = parts(fit.law, theta, fit.reference, np.asarray(lengths), np.asarray(sizes))
    return (bayes, loss) if draws else (bayes[0], loss[0])


def read_as(fit, cells):
    """The Fit in the reading of the cells."""
    return replace(fit, law=replace(fit.law, reading=cells.reading))


def fitted(law, theta, reference, cells):
    """The losses (batch, N) of all readings of cells and their slopes (batch, N, p), as in Cells.targets."""
    losses, slopes = [], []
    for reading in cells.readings:
        loss, slope = parts(replace(law, reading=reading.reading), theta, reference, reading.lengths, reading.sizes,
                            True)
        losses.append(reading.scale * reading.straight(loss))
        slopes.append(reading.scale * np.swapaxes(reading.straight(np.swapaxes(slope, 1, 2)), 1, 2))
    return np.concatenate(losses, 1), np.concatenate(slopes, 1)


def tangents(fit, cells):
    """The slopes (N, p) of the fitted targets of the cells by the parameters."""
    return fitted(fit.law, fit.theta[None], fit.reference, cells)[1][0]


def residuals(fit, cells):
    """What a fit leaves of the targets (N,) of the cells."""
    return cells.targets - fitted(fit.law, fit.theta[None], fit.reference, cells)[0][0]


def optimum(fit, sizes, shortest, longest, draws=False, points=240):
    """The length with the lowest loss between two lengths, and that loss: (sizes,) each, or (draws, sizes).

    Inside a grid of lengths it is the minimum of the parabola in log l through the lowest loss and its neighbours.
    """
    lengths = np.geomspace(shortest, longest, points)
    step, best, lowest = np.log(lengths[1] / lengths[0]), [], []
    for size in sizes:
        losses = np.atleast_2d(predict(fit, lengths, np.full(points, size), draws)[1])
        index = losses.argmin(-1)
        inside = np.clip(index, 1, points - 2)
        left, middle, right = (np.take_along_axis(losses, inside[:, None] + shift, 1)[:, 0] for shift in (-1, 0, 1))
        curvature = np.maximum(left - 2 * middle + right, 1e-300)
        shift = np.where(index == inside, np.clip((left - right) / (2 * curvature), -0.5, 0.5), 0)
        best.append(lengths[index] * np.exp(step * shift))
        lowest.append(losses.min(-1) - np.where(index == inside, curvature * shift**2 / 2, 0))
    best, lowest = np.stack(best, -1), np.stack(lowest, -1)
    return (best, lowest) if draws else (best[0], lowest[0])


def described(fit, theta):
    """The parameters of theta (..., p) in the paper's names and units, each (...,): C in nats x length^gamma."""
    value = dict(zip(fit.law.parameters, np.moveaxis(theta, -1, 0)))
    gamma = np.exp(value["log_gamma"])
    log_c = np.minimum(value["log_gain"] + gamma * np.log(fit.reference[0]), 700)  # beyond are no floats
    return {"C0": value["C0"], "C": np.exp(log_c), "gamma": gamma,
            "A_ref": np.exp(value["log_A"]), "a": value["a"], "alpha_ref": np.exp(value["log_alpha"]),
            **{name: np.exp(value[f"log_{name.removesuffix('_ref')}"]) for name in ("B_ref", "beta")
               if f"log_{name.removesuffix('_ref')}" in value},
            **{name: value[name] for name in ("b", "shift", "ceiling") if name in value}}


def with_ceiling(law, ceiling):
    """The law with a given H, if it is bounded."""
    return replace(law, ceiling=ceiling) if law.bounded else law
