"""The intervals of a fit: the bootstrap, bounds where there is no number, and how often they hold the truth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import FOLDER, start_script
from law_tables import BY_NAME, SIZES, SYNTHETIC, noisy, table, true_fit
from optimal_context.bootstrap import bootstrap, intervals, resampled_losses
from optimal_context.coverage import TRUTHS, judge
from optimal_context.lack_of_fit import seed_noise
from optimal_context.law import optimum, predict, tangents
from optimal_context.optima import bounded
from optimal_context.recovery import measure
from optimal_context.report import shown, shown_optimum
from optimal_context.solver import fit_law


def test_the_intervals_hold_the_truth():
    truth = true_fit("bounded_constant")
    coverage, medians = measure(truth, table(truth, noise=0.01), tables=30, draws=200, seed=0)
    shares = {name: np.mean(share) for name, share in coverage.items()}
    assert np.mean(list(shares.values())) >= 0.9 and min(shares.values()) >= 0.8, shares
    assert medians["alpha_ref"] == pytest.approx(0.8, rel=0.2)


def test_the_bootstrap_of_two_seeds_spreads_as_wide_as_the_errors_of_least_squares():
    """Of optima: their gradient by the parameters, times the covariance of least squares of noise that is known."""
    truth, ratios = TRUTHS["product"], []
    for seed in range(1000, 1008):
        cells = truth.table(seed)
        fit = fit_law(BY_NAME["power_constant"], cells)
        best = [np.log(optimum(replace(fit, theta=fit.theta + step), truth.sizes, 100, 20000, points=4000)[0])
                for sign in (1, -1) for step in sign * 1e-3 * np.eye(len(fit.theta))]
        gradient, slopes = (np.array(best[:6]) - np.array(best[6:])) / 2e-3, tangents(fit, cells)
        covariance = truth.noise**2 / truth.seeds * np.linalg.inv(slopes.T @ slopes)
        drawn = optimum(bootstrap(fit, cells, 200), truth.sizes, 100, 20000, draws=True)[0]
        ratios.append(np.log(drawn).std(0) / np.sqrt(np.einsum("is,ij,js->s", gradient, covariance, gradient)))
    assert 0.95 < np.mean(ratios) < 1.2


def test_the_ends_of_an_interval_lie_between_the_draws_next_to_them():
    draws = np.random.default_rng(0).standard_normal((100, 3))
    ends = intervals(np.zeros(3), draws, corrected=False)
    assert np.allclose(ends, np.quantile(draws, (0.025, 0.975), axis=0, method="weibull"))


def test_misfit_widens_the_bootstrap_and_keeps_curves_whole():
    truth = true_fit("power_constant")
    cells = noisy(lambda length, size: predict(truth, [length], [size])[1] + 0.05 * np.sin(2 * np.log(length)), 0.004,
                  3, 0)
    fit = fit_law(truth.law, cells)
    expected, generator = predict(fit, cells.lengths, cells.sizes)[1], np.random.default_rng(0)
    losses = resampled_losses(fit, cells, seed_noise(cells), True, 400, generator, misfit=True) - expected
    residual = cells.losses - expected
    assert 1 < losses.std() / residual.std() < 2
    rows = losses[200:, cells.sizes == SIZES[1]]
    alike = np.abs([np.corrcoef(row, residual[cells.sizes == SIZES[1]])[0, 1] for row in rows])
    assert np.median(alike) > 0.8 > np.median(np.abs([np.corrcoef(row, residual[cells.sizes == SIZES[1]])[0, 1]
                                                      for row in losses[:200, cells.sizes == SIZES[1]]]))


def test_an_optimum_beyond_the_lengths_is_no_number():
    assert bounded(100, 90, 120, 16, 512) == {"value": 100, "low": 90, "high": 120, "bound": None, "estimate": 100}
    beyond = bounded(900, 700, 2048, 16, 512)
    assert beyond == {"value": None, "low": 512, "high": None, "bound": "at least", "estimate": None}
    assert shown_optimum(beyond) == "at least 512"
    assert shown_optimum(bounded(500, 300, 700, 16, 512)) == "at least 300 (best estimate 500)"
    assert bounded(5, 4, 30, 16, 512) == {"value": None, "low": None, "high": 30, "bound": "at most", "estimate": None}
    assert shown_optimum(bounded(100, 4, 2000, 16, 512)) == "cannot be told between 16 and 512 (best estimate 100)"
    assert shown({"value": None, "low": None, "high": None}) == "cannot be told"


@pytest.mark.parametrize("name", ["exponential", "double_descent", "logistic", "outlier", "parts"])
def test_laws_outside_the_family_are_right_or_not_trusted(name):
    for seed in (1000, 1001):
        holding, trusted, _ = judge(TRUTHS[name], 100, seed)
        assert np.mean(np.array(holding) | ~np.array(trusted)) >= 0.9


def test_recovery_is_measured_on_the_noise_of_a_sweep(nanogpt, tmp_path):
    done = nanogpt("measure_recovery.py", "--results", SYNTHETIC, "--tables", 2, "--draws", 100, "--law",
                   "bounded_constant", "--out", "recovery.json")
    found = json.loads(Path(tmp_path / "recovery.json").read_text())
    assert set(found["coverage"]) == {"C0", "C", "gamma", "A_ref", "a", "alpha_ref", "ceiling", "exponent",
                                      *(f"optimum at {size}" for size in (40000, 60000, 85000))}
    assert found["parameters"]["ceiling"]["truth"] == pytest.approx(np.log(2), abs=0.01)
    assert "losses of the 15 cells" in done.stdout


def test_the_campaign_outside_the_family_goes_on_where_it_ended(nanogpt, tmp_path, monkeypatch):
    """Begun as users run it, with made-up shares for the laws that follow."""
    flags = ("--tables", 1, "--draws", 100, "--out", "coverage.json")
    process = start_script("measure_recovery.py", "--outside", "outlier", *flags, cwd=tmp_path)
    _, error = process.communicate()
    assert process.returncode == 0, error

    def found():
        return json.loads((tmp_path / "coverage.json").read_text())

    before = found()
    rows = before["laws"]["outlier"]
    assert len(rows) == len(TRUTHS["outlier"].sizes) + 3 and {row["trusted"] for row in rows} == {0}
    monkeypatch.setattr("optimal_context.coverage.coverage", lambda truth, tables, draws, seed: (
        [{**row, "holds": tables} for row in rows], {"holds": tables}))
    nanogpt("measure_recovery.py", "--outside", "logistic", "outlier", *flags)
    after = found()
    assert after["laws"]["outlier"] == rows and set(after["laws"]) == {"outlier", "logistic"}
    assert after["exponents"] == {**before["exponents"], "logistic": {"holds": 1}}
    more = ("measure_recovery.py", "--outside", "logistic", *flags, "--tables", 2)
    done = nanogpt(*more, check=False)
    assert done.returncode == 2 and "tables 1, not 2; add --overwrite" in done.stderr and done.stderr.count("\n") == 1
    assert found() == after
    nanogpt(*more, "--overwrite")
    assert found()["request"]["tables"] == 2 and found()["exponents"] == {"logistic": {"holds": 2}}


def test_the_committed_coverage_keeps_its_aim():
    found = json.loads((FOLDER / "results" / "optimal_context" / "coverage.json").read_text())
    outside = {name: rows for name, rows in found["laws"].items() if not name.startswith("inside")}
    assert found["request"]["tables"] >= 200 and len(outside) == 14
    assert min(row["holds_or_not_trusted"] for rows in outside.values() for row in rows) >= 0.9
