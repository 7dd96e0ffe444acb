"""The tests of what a law leaves of a table and of an effect of the length, against textbooks and by simulation."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution

from law_tables import BY_NAME, LENGTHS, SIZES, noisy, table, true_fit
from optimal_context.analysis import analyse, describe
from optimal_context.coverage import TRUTHS
from optimal_context.lack_of_fit import effect_of_length, lack_of_fit, prediction_test, seed_noise
from optimal_context.law import LAWS, parts, predict, residuals, tangents
from optimal_context.selection import supported_factor
from optimal_context.solver import fit_law
from optimal_context.table import from_losses


def test_the_pooled_test_is_that_of_the_textbook():
    """The lack-of-fit F test of a regression with repeats: sums of squares by hand, with all seeds as rows."""
    truth = true_fit("power_constant")
    cells = table(truth, noise=0.01)
    fit = fit_law(truth.law, cells)
    lack = lack_of_fit(fit, cells)
    within = sum(((seeds - seeds.mean())**2).sum() for seeds in cells.seeds)
    inputs = fit.reference, cells.lengths, cells.sizes
    least = least_squares(lambda theta: parts(fit.law, theta[None], *inputs)[1][0] - cells.losses, fit.theta).fun
    freedom, rest = len(cells.losses) - len(fit.theta), sum(len(seeds) - 1 for seeds in cells.seeds)
    ratio = 3 * (least**2).sum() / freedom / (within / rest)
    assert lack["pooled"] == pytest.approx(f_distribution.sf(ratio, freedom, rest), rel=0.02)
    assert lack["seed_error"] == pytest.approx(np.sqrt(within / rest / 3))
    assert seed_noise(cells).freedom == rest and seed_noise(table(truth, noise=0.01, seeds=1)).variance is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_tests_of_lack_of_fit_keep_their_level_and_see_a_shape(seeds):
    truth = true_fit("power_constant")

    def shares(extra):
        found = []
        for seed in range(60):
            cells = noisy(lambda length, size: predict(truth, [length], [size])[1] + extra(length), 0.01, seeds, seed)
            found.append(lack_of_fit(fit_law(truth.law, cells), cells))
        return {name: np.mean([lack[name] < 0.05 for lack in found])
                for name in ("smooth", "lean", "square", "outlier")}

    assert max(shares(lambda length: 0).values()) <= 0.17  # 3.5 standard errors above 0.05
    assert shares(lambda length: 0.03 * np.sin(2 * np.log(length)))["smooth"] > 0.9


def test_the_square_of_the_approximation_loss_is_tested_as_ramsey_does():
    """F of one regressor more, its residual sums of squares by least squares; a saturation that others miss is seen."""
    truth = TRUTHS["saturating"]
    seen, law = [], BY_NAME["bounded_linear"]
    for seed in range(1000, 1008):
        cells = truth.table(seed)
        fit = fit_law(law, cells)
        lack, slopes, rest = lack_of_fit(fit, cells), tangents(fit, cells), residuals(fit, cells)
        bayes, loss = predict(fit, cells.lengths, cells.sizes)
        squares = [((rest - columns @ np.linalg.lstsq(columns, rest, rcond=1e-13)[0])**2).sum() for columns in (
            slopes / np.linalg.norm(slopes, axis=0),
            np.c_[slopes / np.linalg.norm(slopes, axis=0), (loss - bayes)**2])]
        noise = seed_noise(cells)
        p = f_distribution.sf((squares[0] - squares[1]) / noise.variance[0], 1, noise.freedom)
        assert lack["square"] == pytest.approx(p, rel=1e-3)
        seen.append(lack["square"] < 0.03)
    assert np.mean(seen) > 0.8


def test_one_outlier_among_the_cells_is_named():
    truth = true_fit("power_constant")
    losses = {(size, length): predict(truth, [length], [size])[1] + 0.005 * np.random.default_rng(
        int(size + length)).standard_normal(3) for size in SIZES for length in LENGTHS}
    losses[SIZES[2], LENGTHS[3]] += 0.1
    analysis = analyse(LAWS, from_losses(losses), 100, 0)
    found = describe(analysis, [], 0)
    assert not found["trusted"] and any("length 128 and size 400000" in reason for reason in found["reasons"])


def test_the_effect_of_the_length_is_seen_or_not():
    flat = [effect_of_length(noisy(lambda length, size: 4 - np.log(size) / 20, 0.02, seeds, seed))
            for seed in range(100) for seeds in (1, 2)]
    assert np.mean(np.array(flat) < 0.05) < 0.12 and np.median(flat) == pytest.approx(0.5, abs=0.15)
    assert effect_of_length(table(true_fit("power_constant"), noise=0.02)) < 1e-6


def test_the_test_of_extrapolation_sees_a_law_that_changes_beyond_the_smaller_half():
    truth = true_fit("power_constant")
    fitted = table(truth).sizes <= SIZES[2]
    p = []
    for seed in range(40):
        cells = noisy(lambda length, size: predict(truth, [length], [size])[1], 0.01, 3, seed)
        p.append(prediction_test(fit_law(truth.law, cells, [fitted])[0], cells, fitted))
    assert np.mean(np.array(p) < 0.05) < 0.2
    broken = noisy(lambda length, size: predict(truth, [length], [size])[1] + 0.05 * (size > SIZES[2]), 0.01, 3, 0)
    assert supported_factor(truth.law, broken, 0, upwards=True) == 1
    assert supported_factor(truth.law, table(truth, noise=0.01), 0, upwards=True) == SIZES[4] / SIZES[2]


def test_tables_that_tell_nothing_end_neither_in_an_error_nor_in_trust():
    """No variance at all, parameters that the cells do not tell, fewer cells than three for each parameter."""
    truth = true_fit("power_constant")
    constant = from_losses({(size, length): [3.0, 3.0] for size in SIZES for length in LENGTHS})
    few = table(truth, noise=0.01, sizes=SIZES[:3], lengths=LENGTHS[:4])
    for cells, words in ((constant, "no effect of the length"), (few, "too few to test")):
        found = describe(analyse(LAWS, cells, 100, 0), [2 * SIZES[-1]], 0)
        json.dumps(found, allow_nan=False)
        assert not found["trusted"] and words in found["reasons"][0]
    fitted = table(truth).sizes <= SIZES[2]
    useless = replace(truth, theta=truth.theta + np.array([0, -60, 3, 0, 0, 3]))  # slopes of all sizes: 0, 1e-20, 1e10
    assert prediction_test(useless, table(truth, noise=0.01), fitted) < 0.05
