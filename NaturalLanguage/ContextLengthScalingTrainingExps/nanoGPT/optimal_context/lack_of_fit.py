"""Tests of what a law leaves of a table: is it more than the noise, has it a shape, does it lean near the optimum?

The residuals of the cells' means, projected off the law's tangents, are held against the pure error, the variance over
seeds; where seeds vary together (pairing.py), off a constant for each size too, so that the shape in the length is
tested. With one seed a cell there is none: then what a few smooth shapes explain of the residuals is held against what
they leave. Every test is an F test.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from scipy.stats import bartlett, f as f_distribution, t as student_t

from optimal_context.law import optimum, predict, residuals, tangents

SHAPES = 8          # smooth shapes that are tested at most
DEGREE = 5          # of them in log l and log D together
OWN = 0.1           # share of a shape that must be no combination of tangents and earlier shapes,
OWN_SQUARE = 1e-4   # and of the square of L_approx, which is nearly one and all the same tells the laws apart
UNEQUAL = 0.01      # below this p of Bartlett's test each cell's noise is that of its own seeds, else the pooled one


@dataclass(frozen=True)
class Noise:
    """The variance (n,) of the cells' means over seeds, and its degrees of freedom; variance None: one seed a cell.

    alike: whether the seeds of all cells vary alike, so that the variance is pooled over the cells.
    cautious (n,): no cell's below the mean one, since two seeds may agree by chance.
    """
    variance: np.ndarray | None
    freedom: float
    alike: bool = False

    @property
    def cautious(self):
        return np.maximum(self.variance, self.variance.mean())


def seed_noise(cells):
    """The Noise of a table's straight means, pooled over its cells unless these differ."""
    if cells.pairing is not None:
        return Noise(cells.pairing.alone, cells.pairing.freedom, alike=True)
    groups = [seeds for seeds in cells.seeds if len(seeds) > 1]
    if not groups:
        return Noise(None, 0)
    counts = np.array([len(seeds) for seeds in cells.seeds])
    own = np.array([seeds.var(ddof=1) if len(seeds) > 1 else np.nan for seeds in cells.seeds])
    freedom = sum(len(seeds) - 1 for seeds in groups)
    pooled = np.nansum(own * (counts - 1)) / freedom
    positive = [seeds for seeds in groups if np.ptp(seeds) > 0]
    if pooled == 0 or len(positive) < 2 or (len(positive) == len(groups) and bartlett(*positive).pvalue > UNEQUAL):
        return Noise(np.maximum(pooled, 1e-18) / counts, freedom, alike=True)
    variance = np.maximum(np.where(np.isnan(own), pooled, own), 1e-3 * pooled) / counts
    known = variance[counts > 1]
    return Noise(variance, known.sum()**2 / (known**2 / (counts[counts > 1] - 1)).sum())


def noise_of_all(cells):
    """The Noise of all readings of the cells, in units of their scales: they are of the same runs, so that the other
    reading adds no degrees of freedom."""
    noises = [seed_noise(reading) for reading in cells.readings]
    if any(noise.variance is None for noise in noises):
        return Noise(None, 0)
    return Noise(np.concatenate([reading.scale**2 * noise.variance for reading, noise in zip(cells.readings, noises)]),
                 min(noise.freedom for noise in noises))


def in_rows(cells, shapes, name=None):
    """Shapes (n, k) of the cells in the reading of this name, None: their own, as straight columns (N, k); else 0."""
    return np.concatenate([reading.scale * reading.straight(shapes.T).T * (reading.reading == (name or cells.reading))
                           for reading in cells.readings])


def constants(cells):
    """For each training size a column (n, sizes) that is 1 in its cells."""
    return (cells.sizes[:, None] == np.unique(cells.sizes)).astype(float)


def levels(cells):
    """Straight columns (N, k), a constant for each size of a reading whose seeds vary together.

    What seeds add to a whole size is known from few seeds, too badly to hold a residual against.
    """
    columns = [in_rows(cells, constants(cells), reading.reading) for reading in cells.readings
               if reading.pairing is not None]
    return np.concatenate([np.zeros((len(cells.targets), 0)), *columns], 1)


def orthonormal(columns):
    """An orthonormal basis (n, rank) of columns (n, p), each of which counts the same."""
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, singular > 1e-8 * singular[0]]


def scaled(values):
    """Logarithms, put on [-1, 1]."""
    values = np.log(values)
    return 2 * (values - values.min()) / max(np.ptp(values), 1e-12) - 1


def smooth_shapes(cells):
    """Products of Legendre polynomials in log l and log D (n, shapes), the smoother ones first."""
    length, size = scaled(cells.lengths), scaled(cells.sizes)
    degrees = sorted(((i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)),
                     key=lambda degree: (sum(degree), -degree[0]))
    return np.stack([legendre.Legendre.basis(i)(length) * legendre.Legendre.basis(j)(size) for i, j in degrees], 1)


def leaning_shapes(fit, cells):
    """A slope in log l around the optimum of each size, the same at all sizes and growing with the size (n, 2)."""
    sizes, lengths = np.unique(cells.sizes), np.unique(cells.lengths)
    best = optimum(fit, sizes, lengths[0], lengths[-1])[0][np.searchsorted(sizes, cells.sizes)]
    distance = np.log(cells.lengths / best)
    width = 2 * np.median(np.diff(np.log(lengths)))
    lean = distance * np.exp(-(distance / width)**2 / 2)
    return np.stack([lean, lean * scaled(cells.sizes)], 1)


def squared_approximation(fit, cells):
    """The square of the fitted L_approx (n, 1): the shape of Ramsey's specification test (RESET, 1969).

    A law whose loss saturates or accelerates otherwise than the table's differs from it by this to the lowest order.
    """
    bayes, loss = predict(fit, cells.lengths, cells.sizes)
    return (((loss - bayes) / max(np.abs(loss - bayes).max(), 1e-12))**2)[:, None]


def beside(shapes, basis, most, least=OWN):
    """Of shapes (n, k), orthonormal, what is beside a basis (n, p) and the earlier shapes: at most `most` columns."""
    found = basis
    for shape in shapes.T:
        if found.shape[1] - basis.shape[1] == most:
            break
        own = shape - found @ (found.T @ shape)
        own -= found @ (found.T @ own)
        if np.linalg.norm(own) > least * np.linalg.norm(shape):
            found = np.hstack([found, own[:, None] / np.linalg.norm(own)])
    return found[:, basis.shape[1]:]


def explained(shapes, residual, noise, freedom):
    """F and p of the shapes (n, k) in the residual (n,), which has `freedom`; None, None if it cannot be tested."""
    count, square = shapes.shape[1], ((shapes.T @ residual)**2).sum()
    if count and noise.variance is not None:
        ratio, rest = square / (shapes**2 * noise.variance[:, None]).sum(), noise.freedom
    elif count and freedom - count >= 3:
        rest = freedom - count
        ratio = square / count / max(((residual**2).sum() - square) / rest, 1e-30)
    else:
        return None, None
    return float(ratio), float(f_distribution.sf(ratio, count, rest))


def pooled_test(basis, residual, noise, freedom):
    """F and p of the mean square of all residuals against the pure error; None, None with one seed a cell."""
    if noise.variance is None:
        return None, None
    expected = (noise.variance * (1 - (basis**2).sum(1))).sum()
    effective = freedom * noise.variance.sum()**2 / (len(residual) * (noise.variance**2).sum())
    ratio = (residual**2).sum() / expected
    return float(ratio), float(f_distribution.sf(ratio, max(effective, 1), noise.freedom))


def outlier_test(basis, residual, noise, freedom):
    """p of the largest standardized residual, for as many cells as there are, and the index of its cell."""
    left = np.maximum(1 - (basis**2).sum(1), 0.05)
    if noise.variance is not None:
        score, freedom = np.abs(residual) / np.sqrt(noise.cautious * left), noise.freedom
    else:
        rest = np.maximum((residual**2).sum() - residual**2 / left, 1e-30) / max(freedom - 1, 1)
        score, freedom = np.abs(residual) / np.sqrt(rest * left), freedom - 1
    worst = int(score.argmax())
    return float(min(1, 2 * len(residual) * student_t.sf(score[worst], max(freedom, 1)))), worst


def lack_of_fit(fit, cells):
    """What a fitted law leaves of its table: a dictionary.

    p of the tests `pooled` (the mean square of all residuals against the pure error; None with one seed a cell),
    `smooth`, `lean`, `square` and `outlier` (None: too few cells to say), the index `worst` of the cell of the largest
    residual, `residual_error` and `seed_error` (root mean squares in nats, each for its degrees of freedom; seed_error
    None with one seed a cell), and `excess`: how many times larger the error of the shape that is found is than that of
    noise of the same mean square, at least 1.
    """
    noise, basis = noise_of_all(cells), orthonormal(np.c_[tangents(fit, cells), levels(cells)])
    residual = residuals(fit, cells)
    residual = residual - basis @ (basis.T @ residual)
    freedom = len(residual) - basis.shape[1]
    if freedom < 1:
        return {**dict.fromkeys(("pooled", "smooth", "lean", "square", "outlier", "worst", "residual_error",
                                "seed_error")),
                "excess": 1.0}
    pooled_ratio, pooled = pooled_test(basis, residual, noise, freedom)
    most = int(np.clip(freedom // 4, 1, SHAPES))
    smooth_ratio, smooth = explained(beside(in_rows(cells, smooth_shapes(cells)), basis, most), residual, noise,
                                     freedom)
    lean_ratio, lean = explained(beside(in_rows(cells, leaning_shapes(fit, cells)), basis, 2), residual, noise, freedom)
    square_ratio, square = explained(beside(in_rows(cells, squared_approximation(fit, cells)), basis, 1, OWN_SQUARE),
                                     residual, noise, freedom)
    outlier, worst = outlier_test(basis, residual, noise, freedom)
    excess = np.sqrt(max(smooth_ratio or 1, lean_ratio or 1, square_ratio or 1) / max(pooled_ratio or 1, 1))
    return {"pooled": pooled, "smooth": smooth, "lean": lean, "square": square, "outlier": outlier,
            "worst": worst % len(cells.losses),
            "residual_error": float(np.sqrt((residual**2).sum() / freedom)) / cells.scale,
            "seed_error": None if noise.variance is None else float(np.sqrt(noise.variance.mean())) / cells.scale,
            "excess": float(max(excess, 1))}


def effect_of_length(cells):
    """p of the F test that the loss depends on the length at all: a parabola in log l that turns with the size."""
    length, size = scaled(cells.lengths), scaled(cells.sizes)
    means = cells.straight(constants(cells).T).T
    basis, losses = means / np.linalg.norm(means, axis=0), cells.straight(cells.losses)
    residual = losses - basis @ (basis.T @ losses)
    shapes = cells.straight(np.stack([length, length**2, length * size, length**2 * size])).T
    return explained(beside(shapes, basis, 4), residual, seed_noise(cells), len(residual) - basis.shape[1])[1]


def prediction_test(fit, cells, fitted):
    """p of Chow's test: whether the fit to the cells of the mask `fitted` (n,) predicts the others but for noise.

    Their errors are held against the noise of their cells and that of the parameters, by the law's tangents. None: the
    fitted cells are too few to tell the noise.
    """
    slopes, noise, fitted = tangents(fit, cells), noise_of_all(cells), np.tile(fitted, len(cells.readings))
    inverse = np.linalg.pinv(slopes[fitted], rcond=1e-8)
    error = residuals(fit, cells)
    if noise.variance is not None:
        variance, freedom = noise.variance, noise.freedom
    else:
        freedom = int(fitted.sum()) - slopes.shape[1]
        if freedom < 2:
            return None
        variance = np.full(len(error), max((error[fitted]**2).sum(), 1e-30) / freedom)
    slope = slopes[~fitted] @ inverse
    covariance = np.diag(variance[~fitted]) + (slope * variance[fitted]) @ slope.T
    rest = error[~fitted]
    if not np.isfinite(covariance).all():  # parameters that the fitted cells do not tell predict nothing
        return 0.0
    values, vectors = np.linalg.eigh(covariance)
    ratio = ((vectors.T @ rest)**2 / np.maximum(values, variance[~fitted].min())).sum() / len(rest)
    return float(f_distribution.sf(ratio, len(rest), freedom))
