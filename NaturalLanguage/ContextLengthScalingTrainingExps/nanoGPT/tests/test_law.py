"""The law of loss against length and size: its slopes and limits, and its fit to tables that it made."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from law_tables import BY_NAME, LENGTHS, SIZES, TRUTH, table, true_fit
from optimal_context.law import described, optimum, parts, predict, with_ceiling
from optimal_context.solver import fit_law


@pytest.mark.parametrize("name", BY_NAME)
def test_a_table_without_noise_gives_its_law_back(name):
    truth = true_fit(name)
    cells = table(truth)
    fit = fit_law(truth.law, cells)
    assert np.allclose(predict(fit, cells.lengths, cells.sizes)[1], cells.losses, atol=1e-4)
    assert np.allclose(optimum(fit, SIZES, 16, 512), optimum(truth, SIZES, 16, 512), rtol=0.02)
    for parameter, value in described(truth, truth.theta).items():
        assert described(fit, fit.theta)[parameter] == pytest.approx(value, rel=0.05, abs=0.03), parameter


def test_the_fit_is_that_of_scipy():
    truth = true_fit("bounded")
    cells = table(truth, noise=0.01)
    inputs = truth.reference, cells.lengths, cells.sizes
    fit = fit_law(truth.law, cells)

    def residuals(theta):
        return parts(truth.law, theta[None], *inputs)[1][0] - cells.losses

    scale = np.sqrt((least_squares(residuals, truth.theta).fun**2).sum() / (len(cells.losses) - len(truth.theta)))
    other = least_squares(residuals, truth.theta, loss="soft_l1", f_scale=scale)
    assert np.allclose(residuals(fit.theta), other.fun, atol=2e-4)


def test_the_bounded_law_is_the_power_law_for_much_data_and_the_ceiling_for_little():
    bounded, power = true_fit("bounded"), true_fit("power")
    much, little = np.full(6, 1e12), np.full(6, 1e-3)
    assert np.allclose(predict(bounded, LENGTHS, much), predict(power, LENGTHS, much), rtol=1e-6)
    assert np.allclose(predict(bounded, LENGTHS, little)[1], TRUTH["ceiling"])
    assert np.allclose(predict(bounded, LENGTHS, SIZES[:1])[0], predict(power, LENGTHS, SIZES[:1])[0])
    given = with_ceiling(BY_NAME["bounded"], 4.0)
    assert "ceiling" not in given.parameters and with_ceiling(BY_NAME["power"], 4.0) == BY_NAME["power"]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_slopes_are_those_of_finite_differences(name):
    truth = true_fit(name)
    cells = table(truth)
    inputs = truth.reference, cells.lengths, cells.sizes
    loss, slopes = parts(truth.law, truth.theta[None], *inputs, slopes=True)
    assert np.allclose(loss, parts(truth.law, truth.theta[None], *inputs)[1])
    for index, step in enumerate(1e-6 * np.eye(len(truth.theta))):
        above, below = (parts(truth.law, truth.theta[None] + sign * step, *inputs)[1][0] for sign in (1, -1))
        assert np.allclose(slopes[0, :, index], (above - below) / 2e-6, atol=1e-6), truth.law.parameters[index]
