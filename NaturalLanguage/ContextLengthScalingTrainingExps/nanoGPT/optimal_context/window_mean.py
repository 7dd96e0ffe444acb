"""The mean of p^-gamma over the positions p = 1..l of a window, for any l > 0, with its slope in gamma.

A window's loss is a mean over its positions, and at position p a model sees p tokens: where the risk with exactly l
tokens is C0 + C / l^gamma (Eq. 3), the mean over a window of l tokens is C0 + C M(l, gamma), M = (1/l) sum p^-gamma.
Between whole l it is continued smoothly, as the Hurwitz zeta function continues it: the sum up to l is that of
p^-gamma - (l + p)^-gamma over the first TERMS p, and of m^-gamma from TERMS + 1 to TERMS + l by Euler and Maclaurin.
"""

import numpy as np

TERMS = 10
EULER_MACLAURIN = (1 / 12, -1 / 720, 1 / 30240)  # B_2k / (2k)! of the derivatives of order 2k - 1


def integral(gamma, end):
    """The integral (batch, n) of x^-gamma from TERMS to end (n,), with its slope in gamma (batch, 1)."""
    span = np.log(end / TERMS)
    t = (1 - gamma) * span
    near = np.abs(t) < 1e-2  # here the quotients lose their digits
    safe = np.where(near, 1.0, t)
    ratio = np.where(near, 1 + t / 2 + t**2 / 6 + t**3 / 24 + t**4 / 120 + t**5 / 720, np.expm1(safe) / safe)
    of_t = np.where(near, 1 / 2 + t / 3 + t**2 / 8 + t**3 / 30 + t**4 / 144,
                    (safe * np.exp(safe) - np.expm1(safe)) / safe**2)
    scale = TERMS**(1 - gamma) * span
    return scale * ratio, -scale * (np.log(TERMS) * ratio + span * of_t)


def corrections(gamma, x):
    """What Euler and Maclaurin add to the integral at its end x (n,), with its slope in gamma (batch, 1)."""
    power = x**-gamma
    total, slope = power / 2, -np.log(x) * power / 2
    factor, of_factor = gamma, np.ones_like(gamma)  # gamma (gamma + 1) ... of the derivative, and its slope
    for k, coefficient in enumerate(EULER_MACLAURIN):
        term = -coefficient * power / x**(2 * k + 1)
        total, slope = total + term * factor, slope + term * (of_factor - factor * np.log(x))
        for more in (gamma + 2 * k + 1, gamma + 2 * k + 2):
            factor, of_factor = factor * more, of_factor * more + factor
    return total, slope


def log_power_mean(lengths, gamma):
    """log M(l, gamma) and its slope in gamma, (batch, n) each, at lengths (n,) and gamma (batch, 1), all above 0."""
    lengths, where = np.unique(lengths, return_inverse=True)  # a table has each length at many sizes
    first = np.arange(1.0, TERMS + 1)
    logs = np.log(first), np.log(lengths[:, None] + first)
    begin, end = (np.exp(-gamma[..., None] * log) for log in logs)
    total, slope = (begin - end).sum(-1), (logs[1] * end - logs[0] * begin).sum(-1)
    area, above, below = (np.array(found) for found in (
        integral(gamma, lengths + TERMS), corrections(gamma, lengths + TERMS), corrections(gamma, 1.0 * TERMS)))
    total, slope = np.array((total, slope)) + area + above - below
    return np.log(total / lengths)[:, where], (slope / total)[:, where]
