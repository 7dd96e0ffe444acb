"""The window mean of the law and the fit of both readings: sums by brute force, recovery, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import zeta

from law_tables import BY_NAME, SIZES, table, true_fit, write_csv
from optimal_context.bootstrap import bootstrap
from optimal_context.lack_of_fit import lack_of_fit
from optimal_context.law import described, fitted, optimum, parts, predict, read_as, residuals
from optimal_context.readings import carry_over, laws_of, other_reading, with_both
from optimal_context.selection import LEVELS
from optimal_context.solver import fit_law
from optimal_context.window_mean import log_power_mean


def tables(name, noise=0.0, seeds=3):
    """A joint law, and its cells of both readings: full context has five times the noise of the window mean."""
    truth = true_fit(name, "mean", joint=True)
    full = replace(truth, law=replace(truth.law, reading="full"))
    return truth, with_both(table(truth, noise, seeds), table(full, 5 * noise, seeds, seed=6))


def test_the_window_mean_is_the_sum_by_brute_force():
    gamma = np.array([1e-6, 0.05, 0.3, 0.7, 0.999, 1 - 1e-9, 1, 1 + 1e-9, 1.001, 1.6, 3, 12, 148])[:, None]
    lengths = np.array([1, 2, 3, 7, 16, 100, 1024, 15360, 16])
    found = np.exp(log_power_mean(lengths.astype(float), gamma)[0])
    truth = [[np.mean(np.arange(1, length + 1)**-exponent) for length in lengths] for exponent in gamma[:, 0]]
    assert np.allclose(found, truth, rtol=1e-9, atol=0)
    between = np.array([0.3, 1.5, 20.25, 700.7])
    steep = np.array([[1.2], [2.5]])
    assert np.allclose(np.exp(log_power_mean(between, steep)[0]), (zeta(steep) - zeta(steep, between + 1)) / between,
                       rtol=1e-8)


def test_the_slopes_of_the_window_mean_are_those_of_finite_differences():
    gamma, lengths = np.array([[0.05], [0.6], [0.99], [1.0], [1.003], [2.2], [9.0]]), np.array([1.5, 16, 333.3, 15360])
    step = 1e-5
    above, below = (log_power_mean(lengths, gamma + sign * step)[0] for sign in (1, -1))
    assert np.allclose(log_power_mean(lengths, gamma)[1], (above - below) / (2 * step), atol=1e-7)
    fine = np.linspace(0.9, 1.1, 2001)[:, None]  # through gamma = 1, where the integral is a logarithm
    assert np.abs(np.diff(log_power_mean(lengths, fine)[1], 2, axis=0)).max() < 1e-5


def test_the_bayes_risk_of_a_window_is_the_mean_over_its_positions():
    truth = true_fit("power", "mean")
    full = replace(truth, law=replace(truth.law, reading="full"))
    curve = predict(full, np.arange(1, 65), np.full(64, 1e5))[0]
    assert predict(truth, [64.0], [1e5])[0][0] == pytest.approx(curve.mean(), rel=1e-8)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_slopes_of_both_readings_are_those_of_finite_differences(name):
    truth, cells = tables(name, noise=0.004)
    loss, slopes = fitted(truth.law, truth.theta[None], truth.reference, cells)
    assert np.allclose(loss[0], cells.targets, atol=0.2) and np.ptp(loss[0]) > 0.1
    for index, step in enumerate(1e-6 * np.eye(len(truth.theta))):
        above, below = (fitted(truth.law, truth.theta[None] + sign * step, truth.reference, cells)[0][0]
                        for sign in (1, -1))
        assert np.allclose(slopes[0, :, index], (above - below) / 2e-6, atol=1e-6), truth.law.parameters[index]


@pytest.mark.parametrize("name", ["power", "power_two_exponents", "bounded"])
@pytest.mark.parametrize("joint", [False, True])
def test_a_table_without_noise_gives_its_law_back(name, joint):
    alone = true_fit(name, "mean")
    truth, cells = tables(name) if joint else (alone, table(alone))
    fit = fit_law(truth.law, cells)
    assert np.abs(residuals(fit, cells)).max() < 1e-4
    for parameter, value in described(truth, truth.theta).items():
        assert described(fit, fit.theta)[parameter] == pytest.approx(value, rel=0.05, abs=0.03), parameter
    for reading in cells.readings:
        found, wanted = (optimum(read_as(law, reading), SIZES, 16, 512) for law in (fit, truth))
        assert np.allclose(found, wanted, rtol=0.02)


@pytest.mark.parametrize("reading", ["full", "mean", "both"])
def test_a_noisy_table_gives_its_parameters_back_within_their_spread(reading):
    truth, both = tables("power_constant", noise=0.004)
    cells = {"full": other_reading(both), "mean": both, "both": both}[reading]
    law = truth.law
    if reading != "both":
        cells = replace(cells, beside=None)
        law, = laws_of([BY_NAME["power_constant"]], cells)
    fit = bootstrap(fit_law(law, cells), cells, 200, 0)
    estimate, drawn = described(fit, fit.theta), described(fit, fit.draws)
    for name, value in described(truth, truth.theta).items():
        if name in estimate and (name, reading) != ("C0", "full"):  # which has the shift in it
            assert abs(estimate[name] - value) < 3.5 * drawn[name].std() + 1e-3, name
    assert min(lack_of_fit(fit, cells)[name] for name in LEVELS) > 1e-3


def test_each_reading_counts_by_its_noise_and_both_analyses_are_one_fit():
    truth, cells = tables("power_constant", noise=0.004)
    assert cells.scale / cells.beside.scale == pytest.approx(5, rel=0.3) and cells.scale * cells.beside.scale == 1
    assert tables("power_constant", noise=0.004, seeds=1)[1].scale == 1
    other = other_reading(cells)
    one, two = (bootstrap(fit_law(law, these), these, 100, 0) for law, these in
                ((truth.law, cells), (replace(truth.law, reading="full"), other)))
    assert np.array_equal(one.theta, two.theta) and np.array_equal(one.draws, two.draws)
    assert np.array_equal(other_reading(other).losses, cells.losses)
    full = predict(two, other.lengths, other.sizes)[1]
    assert np.allclose(full, parts(replace(truth.law, reading="full"), one.theta[None], one.reference, cells.lengths,
                                   cells.sizes)[1][0])


def test_readings_that_contradict_each_other_are_a_lack_of_fit():
    truth, cells = tables("power_constant", noise=0.004)
    tilted = cells.beside.losses + 0.1 * np.log(cells.lengths / 64) * np.log(cells.sizes / 4e5)
    changed = replace(cells, beside=replace(cells.beside, losses=tilted))
    assert lack_of_fit(fit_law(truth.law, cells), cells)["pooled"] > 0.01
    assert lack_of_fit(fit_law(truth.law, changed), changed)["pooled"] < 1e-4


def test_one_reading_tells_the_other_where_the_law_is_true():
    truth, cells = tables("power_constant", noise=0.001)
    for row in carry_over(truth.law, cells, 0).values():
        for free in ("one_constant", "constant_a_size"):
            assert row["own_fit"][free] - 1e-3 < row["error"][free] < 0.02 < row["same_curve"][free]
    assert row["flat"]["one_constant"] == pytest.approx(cells.losses.std())
    moved = replace(cells, beside=replace(cells.beside, losses=cells.beside.losses + np.sqrt(cells.sizes) / 1000))
    error = carry_over(truth.law, moved, 0)["mean to full"]["error"]
    assert error["constant_a_size"] < 0.02 and error["one_constant"] > 0.1


def test_the_script_reads_either_or_both(nanogpt, tmp_path):
    cells = tables("power_constant", noise=0.004)[1]
    write_csv(tmp_path / "sweep.csv", cells.part(cells.sizes < 5e5))
    flags = ("fit_optimal_context.py", "--results", "sweep.csv", "--draws", 100)
    found = {}
    for reading in ("mean", "both"):
        printed = nanogpt(*flags, "--reading", reading, "--law", "power_constant", "--out", f"{reading}.json").stdout
        found[reading] = json.loads((tmp_path / f"{reading}.json").read_text())
        assert "reading: mean over the window" in printed
        assert found[reading]["parameters"]["gamma"]["value"] == pytest.approx(0.6, abs=0.25)
    assert ("shift" in found["both"]["parameters"], "other_reading" in found["mean"]) == (True, False)
    other = found["both"]["other_reading"]
    assert (found["both"]["reading"], other["reading"], other["joint"]) == ("mean", "full", True)
    assert other["parameters"] == found["both"]["parameters"] and other["law"] == found["both"]["law"]
    assert all(len(rows["optima"]) == 3 for rows in (found["both"], other))
    assert set(found["both"]["carry_over"]) == {"mean to full", "full to mean"}
    assert "full context only, fitted together" in printed


def test_both_readings_need_both_columns(nanogpt, tmp_path):
    names = ("context_length", "train_tokens", "seed", "best_valid_loss", "nats")
    write_csv(tmp_path / "one.csv", tables("power_constant")[1], names)
    for flags, words in ((("--reading", "both"), "no column full_context_loss; name yours with"),
                         (("--reading", "both", "--full_context_column", "bits"), "--full_context_column and"),
                         (("--reading", "mean", "--full_context_column", "nats"), "is for --reading both"),
                         (("--reading", "half"), "invalid choice")):
        done = nanogpt("fit_optimal_context.py", "--results", "one.csv", *flags, check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("**/*.json"))
