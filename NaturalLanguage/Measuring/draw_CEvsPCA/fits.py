"""The two fits of the paper: C0 + C / l^gamma (Eq. 3) and a straight line (Eq. 2), with 95% intervals."""

from typing import NamedTuple

import numpy as np
from scipy import special

PAPER_FROM = 8  # the shortest context length of the paper's Fig. 2
GAMMAS = np.geomspace(0.01, 10, 3001)


def interval(parameter, form):
    """(value, low, high) as text, each in this format: "1.963 [1.95, 1.976]" in ".4g"."""
    value, low, high = (format(number, form) for number in parameter)
    return f"{value} [{low}, {high}]"


class PowerLaw(NamedTuple):
    """y = c0 + c / l^gamma: each parameter (value, low, high), R^2, and residuals (n,) in the order given."""
    c0: tuple
    c: tuple
    gamma: tuple
    r_squared: float
    residuals: np.ndarray

    def __call__(self, lengths):
        return self.c0[0] + self.c[0] * np.asarray(lengths, dtype=float) ** -self.gamma[0]


class Line(NamedTuple):
    """y = slope x + intercept: slope (value, low, high), intercept, correlation R, R^2; as text without intercept."""
    slope: tuple
    intercept: float
    r: float
    r_squared: float

    def __call__(self, x):
        return self.slope[0] * np.asarray(x, dtype=float) + self.intercept

    def __str__(self):
        return f"slope {interval(self.slope, '.5f')}, R {self.r:.4f}, R^2 {self.r_squared:.4f}"


def linear_parts(lengths, y, gammas):
    """For each gamma (m,): the best c0 and c (2, m), their sum of squares (m,), their variances over sigma^2 (2, m)."""
    powers = lengths[None, :] ** -gammas[:, None]
    centre = powers.mean(axis=1, keepdims=True)
    spread = ((powers - centre) ** 2).sum(axis=1)
    c = ((powers - centre) * y).sum(axis=1) / spread
    c0 = y.mean() - c * centre[:, 0]
    squares = ((y - c0[:, None] - c[:, None] * powers) ** 2).sum(axis=1)
    return np.stack((c0, c)), squares, np.stack((1 / len(y) + centre[:, 0] ** 2 / spread, 1 / spread))


def fit_power_law(lengths, y):
    """Least squares of y = c0 + c / l^gamma over at least 4 context lengths l; gamma is looked for in 0.01 to 10.

    c0 and c follow linearly from gamma, so the search has one dimension and no local traps. Intervals are those of the
    profile likelihood: all values for which the best other parameters leave a sum of squares within the F quantile. An
    end of the interval at 0.01 or 10 means that the data do not bound gamma there. Raises ValueError for fewer lengths.
    """
    lengths, y = np.asarray(lengths, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(lengths)) < 4:
        raise ValueError("a power law needs at least 4 context lengths")
    gammas = GAMMAS
    for _ in range(3):  # finer and finer around the best
        best = int(linear_parts(lengths, y, gammas)[1].argmin())
        gammas = np.geomspace(gammas[max(best - 1, 0)], gammas[min(best + 1, len(gammas) - 1)], 3001)
    gammas = np.sort(np.append(GAMMAS, gammas[linear_parts(lengths, y, gammas)[1].argmin()]))
    parts, squares, variances = linear_parts(lengths, y, gammas)
    best = int(squares.argmin())
    limit = squares[best] * (1 + special.fdtri(1, len(y) - 3, 0.95) / (len(y) - 3))
    inside = squares <= limit
    reach = np.sqrt(np.clip(limit - squares, 0, None) * variances)
    intervals = [(part[best], (part - width)[inside].min(), (part + width)[inside].max())
                 for part, width in zip(parts, reach)]
    total = ((y - y.mean()) ** 2).sum()
    residuals = y - parts[0, best] - parts[1, best] * lengths ** -gammas[best]
    return PowerLaw(*(tuple(map(float, part)) for part in intervals),
                    (float(gammas[best]), float(gammas[inside].min()), float(gammas[inside].max())),
                    float(1 - squares[best] / total) if total > 0 else float("nan"), residuals)


def fit_line(x, y):
    """Least squares of y = slope x + intercept over at least 3 points that differ in x; raises ValueError for fewer."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0:
        raise ValueError("a straight line needs at least 3 points that differ")
    from scipy.stats import linregress  # slow to import, and the power law does without
    fit = linregress(x, y)
    reach = special.stdtrit(len(x) - 2, 0.975) * fit.stderr
    return Line((float(fit.slope), float(fit.slope - reach), float(fit.slope + reach)), float(fit.intercept),
                float(fit.rvalue), float(fit.rvalue) ** 2)


def fit_draws(draws, x, y):
    """The Line of column y against column x in each draw, from the draws of each context length (lists of rows).

    A draw takes the same documents at every context length. Their spread is the standard error of the line.
    """
    return [fit_line([row[x] for row in rows], [row[y] for row in rows]) for rows in zip(*draws)]


def line_from(measures, least):
    """The Line of cross entropy against KDE entropy over context lengths from `least` on, and the standard error of R
    over draws (NaN without); raises ValueError for fewer than 3 lengths."""
    lengths = [length for length in measures.lengths() if length >= least]
    names = "kde_entropy", "cross_entropy"
    fit = fit_line(*([measures.rows[length][name] for length in lengths] for name in names))
    drawn = fit_draws([measures.draws.get(length, []) for length in lengths], *names)
    return fit, float(np.std([line.r for line in drawn], ddof=1)) if len(drawn) > 1 else float("nan")
