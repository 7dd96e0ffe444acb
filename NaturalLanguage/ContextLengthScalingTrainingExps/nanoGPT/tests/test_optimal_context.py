"""The law of loss against length and size: its fit, its intervals, whether it is trusted, and what is refused."""

import csv
import json
import subprocess
import sys
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution

from fit_optimal_context import separator
from helpers import FOLDER
from optimal_context.analysis import analyse, describe
from optimal_context.bootstrap import bootstrap, intervals, resampled_losses
from optimal_context.coverage import TRUTHS, judge
from optimal_context.lack_of_fit import effect_of_length, lack_of_fit, prediction_test, seed_noise
from optimal_context.law import LAWS, Fit, described, optimum, parts, predict, residuals, tangents, with_ceiling
from optimal_context.optima import bounded
from optimal_context.recovery import measure
from optimal_context.report import shown, shown_optimum, verdict
from optimal_context.selection import choose, supported_factor, weights
from optimal_context.solver import fit_law
from optimal_context.table import Columns, from_losses, interpolated, nearest_size, power_laws, read_losses

SYNTHETIC = FOLDER.parents[2] / "SyntheticDataset" / "results" / "small" / "sweep.csv"
LENGTHS, SIZES = np.array([16, 32, 64, 128, 256, 512]), np.array([1e5, 2e5, 4e5, 8e5, 1.6e6])
BY_NAME = {law.name: law for law in LAWS}
TRUTH = {"C0": 2.0, "log_gain": np.log(0.5), "log_gamma": np.log(0.6), "log_A": np.log(0.25), "a": 0.9,
         "log_alpha": np.log(0.8), "b": 0.15, "ceiling": 4.0, "log_B": np.log(0.3), "log_beta": np.log(0.4)}


def true_fit(name):
    """The law with the parameters of TRUTH, around the middle of the grid."""
    law = BY_NAME[name]
    return Fit(law, np.array([TRUTH[parameter] for parameter in law.parameters]),
               (np.exp(np.log(LENGTHS).mean()), np.exp(np.log(SIZES).mean())))


def table(fit, noise=0.0, seeds=3, sizes=SIZES, lengths=LENGTHS):
    """Cells of the grid: the law's losses, with normal noise in nats."""
    generator = np.random.default_rng(5)
    return from_losses({(size, length): predict(fit, [length], [size])[1] + noise * generator.standard_normal(seeds)
                        for size in sizes for length in lengths})


def write_csv(path, cells, names=("context_length", "train_tokens", "best_valid_loss", "seed")):
    """The rows of a sweep as a CSV with these column names."""
    with open(path, "w", newline="") as file:
        rows = [(f"{length:g}", f"{size:g}", loss, seed) for length, size, losses in
                zip(cells.lengths, cells.sizes, cells.seeds) for seed, loss in enumerate(losses)]
        csv.writer(file).writerows([names, *rows])


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


def test_the_intervals_hold_the_truth():
    truth = true_fit("bounded_constant")
    coverage, medians = measure(truth, table(truth, noise=0.01), tables=30, draws=200, seed=0)
    shares = {name: np.mean(share) for name, share in coverage.items()}
    assert np.mean(list(shares.values())) >= 0.9 and min(shares.values()) >= 0.8, shares
    assert medians["alpha_ref"] == pytest.approx(0.8, rel=0.2)


def test_the_simplest_law_that_predicts_is_kept_and_no_bound_that_was_not_reached():
    cells = table(true_fit("power_constant"), noise=0.004)
    kept, candidates = choose(LAWS, cells, seed=0)
    assert kept.law.name == "power_constant" and [one.law.name for one in candidates] == list(BY_NAME)
    assert not kept.failed and all(row["steps"] == 0 for row in kept.rows)
    assert choose(LAWS, cells, seed=0, compare_all=False)[0].law == kept.law
    few = cells.part((cells.sizes < 3e5) & (cells.lengths < 200))
    kept, candidates = choose(LAWS, few, seed=0)
    assert kept is None and not any(one.rows for one in candidates)


def test_a_law_that_leaves_more_than_noise_is_put_aside_for_one_that_does_not():
    cells = table(true_fit("power_offset"), noise=0.004)
    kept, candidates = choose(LAWS, cells, seed=0)
    assert kept.law.offset and not kept.failed
    assert {"power_constant", "power"} <= {one.law.name for one in candidates if one.failed}


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


def noisy(mean, noise, seeds, seed):
    """Cells of the grid with the losses mean(length, size) and normal noise."""
    generator = np.random.default_rng(seed)
    return from_losses({(size, length): mean(length, size) + noise * generator.standard_normal(seeds)
                        for size in SIZES for length in LENGTHS})


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


def test_the_weights_are_those_of_bic():
    cells = table(true_fit("power_constant"), noise=0.01)
    candidates = [one for one in choose(LAWS, cells, 0)[1] if one.law.name in ("power_constant", "power_linear")]
    variance = seed_noise(cells).variance[0]
    criterion = [((cells.losses - predict(one.fit, cells.lengths, cells.sizes)[1])**2).sum() / variance
                 + len(one.law.parameters) * np.log(len(cells.losses)) for one in candidates]
    ratio = np.exp((criterion[1] - criterion[0]) / 2)  # of the weights, first over second
    first, second = weights(candidates, cells)
    assert first + second == pytest.approx(1) and (second == 0 or first / second == pytest.approx(ratio, rel=1e-6))


def test_misfit_widens_the_bootstrap_and_keeps_curves_whole():
    truth = true_fit("power_constant")
    cells = noisy(lambda length, size: predict(truth, [length], [size])[1] + 0.05 * np.sin(2 * np.log(length)), 0.004,
                  3, 0)
    fit = fit_law(truth.law, cells)
    losses = resampled_losses(fit, cells, 400, np.random.default_rng(0), True, misfit=True) - predict(
        fit, cells.lengths, cells.sizes)[1]
    residual = cells.losses - predict(fit, cells.lengths, cells.sizes)[1]
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


@pytest.mark.parametrize("name", ["exponential", "double_descent", "logistic", "outlier"])
def test_laws_outside_the_family_are_right_or_not_trusted(name):
    for seed in (1000, 1001):
        holding, trusted, _ = judge(TRUTHS[name], 100, seed)
        assert np.mean(np.array(holding) | ~np.array(trusted)) >= 0.9


def test_the_baselines():
    cells = from_losses({(size, length): [length * np.log(size)] for size in (10, 100, 1000) for length in (1, 2)})
    assert nearest_size(cells, 40) == {1: np.log(100), 2: 2 * np.log(100)}
    assert interpolated(cells, 40) == pytest.approx({1: np.log(40), 2: 2 * np.log(40)})
    assert interpolated(cells, 9000) == pytest.approx({1: np.log(9000), 2: 2 * np.log(9000)})
    cells = from_losses({(size, length): [length + (3 + length) * size**-0.35] for size in (1e5, 4e5, 1e6, 3e6)
                         for length in (1, 2)})
    assert power_laws(cells, 1e7) == pytest.approx({1: 1 + 4 * 1e7**-0.35, 2: 2 + 5 * 1e7**-0.35}, abs=1e-3)
    for rounding in np.random.default_rng(0).normal(size=(9, 4)) * 1e-15:  # two sizes: all exponents fit, and rounding
        keys = [(size, length) for size in (1e5, 4e5) for length in (1, 2)]  # must not choose between them
        cells = from_losses({(size, length): [5 - length - 0.3 * np.log(size / 1e5) + tiny]
                             for (size, length), tiny in zip(keys, rounding)})
        for size in (2e5, 2e6):
            beta, floor = 0.02, 0.6 * np.log(2) / (1 - 4**-0.02)
            expected = {length: 5 - length - floor * (1 - (size / 1e5)**-beta) for length in (1, 2)}
            assert power_laws(cells, size) == pytest.approx(expected, abs=1e-9)


def test_where_a_baseline_predicts_better_its_length_is_given(nanogpt, tmp_path):
    """A loss that falls with log D, which no law does: a line in log D at each length is exact."""
    write_csv(tmp_path / "line.csv", noisy(lambda length, size: 9 - 0.3 * np.log(size) - 0.02 * np.log(length)
                                           + 0.02 * (np.log(length) - 2 - 0.2 * np.log(size))**2, 0.002, 2, 1))
    lines, found = fitted(nanogpt, tmp_path, "line.csv", "--predict_train_tokens", 1e6)
    assert found["baseline"]["is_better"] and found["baseline"]["error"] < found["baseline"]["error_of_the_law"]
    assert not found["trusted"] and any("plain baseline" in reason for reason in found["reasons"])
    length = found["predictions"][0]["baseline_length"]
    assert any(line.startswith("D = 1e+06") and line.endswith(f": {length:g}") for line in lines)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """The fit of SyntheticDataset's committed sweep, with its checks, twice, as users run it, a space in the path."""
    folder = tmp_path_factory.mktemp("synthetic sweep")
    for name in ("fit.json", "again.json"):
        done = subprocess.run([sys.executable, FOLDER / "fit_optimal_context.py", "--results", SYNTHETIC, "--check",
                               "--out", name, "--predict_train_tokens", "50000", "120000", "--draws", "200"],
                              cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_sweep_is_fitted_and_checked(synthetic):
    folder, printed = synthetic
    assert (folder / "fit.json").read_bytes() == (folder / "again.json").read_bytes()
    found = json.loads((folder / "fit.json").read_text())
    assert found["bounded"] and found["r_squared"] > 0.99 and len(found["cells"]) == 15
    for row in found["optima"] + found["predictions"]:
        entry = row["optimum"]
        if entry["value"] is not None:
            assert entry["low"] <= entry["value"] <= entry["high"] and entry["bound"] is None
    assert all(cost["cost"]["low"] >= 0 for row in found["predictions"] for cost in row["lengths"])
    assert [row["beyond_the_sizes"] for row in found["predictions"]] == [1, pytest.approx(120 / 85)]
    held_out = found["candidates"][found["law"]]
    assert all(abs(row["steps"]) <= 1 for row in held_out)
    mean_square = np.mean([row["near_square"] for row in held_out])
    for rows in found["check"]["baselines"].values():
        assert mean_square < np.mean([row["near_square"] for row in rows])
    assert found["check"]["larger_half"]["fitted_sizes"] == [40000, 60000]
    assert printed.splitlines()[0] == verdict(found)
    assert verdict(found).startswith("trusted" if found["trusted"] else "NOT TRUSTED")
    assert f"law kept: {found['law']}" in printed
    curves = {curve["train_tokens"]: curve for curve in found["curves"]}
    ends = [(cell, curve["context_length"].index(cell["context_length"])) for cell in found["cells"]
            if cell["context_length"] in (curve := curves[cell["train_tokens"]])["context_length"]]
    assert len(ends) >= len(curves)  # the curves begin and end at lengths of the table
    for cell, index in ends:
        assert cell["bayes_risk"] == pytest.approx(curves[cell["train_tokens"]]["bayes_risk"][index])


def test_the_figure_is_drawn_from_the_fit(synthetic, nanogpt, tmp_path):
    done = nanogpt("draw_optimal_context.py", "--fit", synthetic[0] / "fit.json", "--out_dir", "figures")
    assert "D = 60000: l* " in done.stdout and "held out" in done.stdout and "l* ~ D^" in done.stdout
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == \
        ["optimal_context.pdf", "optimal_context.png"]
    done = nanogpt("draw_optimal_context.py", "--fit", synthetic[0] / "fit.json", "--train_tokens", 7, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no training size 7" in done.stderr
    (tmp_path / "other.json").write_text("{}")
    assert nanogpt("draw_optimal_context.py", "--fit", "other.json", check=False).returncode == 2


def fitted(nanogpt, folder, results, *arguments):
    """The printed lines and the JSON of a fit with few draws."""
    done = nanogpt("fit_optimal_context.py", "--results", results, "--out", "fit.json", "--draws", 100, *arguments)
    return done.stdout.splitlines(), json.loads((folder / "fit.json").read_text())


def test_optima_of_a_table_without_a_minimum_are_bounds_and_are_drawn(nanogpt, tmp_path):
    write_csv(tmp_path / "falling.csv", noisy(lambda length, size: 2 + 3 * length**-0.3 + 30 * size**-0.4, 0.02, 2, 0))
    lines, found = fitted(nanogpt, tmp_path, "falling.csv", "--predict_train_tokens", 2e6)
    for row in found["optima"] + found["predictions"]:
        assert row["optimum"] == {"value": None, "low": 512, "high": None, "bound": "at least", "estimate": None}
    assert found["exponent"] is None and sum("optimal context length at least 512" in line for line in lines) == 6
    nanogpt("draw_optimal_context.py", "--fit", "fit.json", "--out_dir", "figures")


def test_no_effect_of_the_length_is_said_first(nanogpt, tmp_path):
    write_csv(tmp_path / "flat.csv", noisy(lambda length, size: 4 - np.log(size) / 20, 0.02, 2, 3))
    lines, found = fitted(nanogpt, tmp_path, "flat.csv")
    assert lines[0].startswith("NOT TRUSTED: no effect of the length") and not found["trusted"]
    assert all(row["optimum"]["value"] is None and row["optimum"]["bound"] is None for row in found["optima"])
    assert found["exponent"] is None


def test_a_table_in_other_units_gives_the_same_and_no_loss_is_below_zero(nanogpt, tmp_path):
    truth = true_fit("power_constant")
    cells = table(truth, noise=0.004)
    write_csv(tmp_path / "one.csv", cells)
    write_csv(tmp_path / "other.csv", replace(cells, sizes=cells.sizes / 1e9))
    _, one = fitted(nanogpt, tmp_path, "one.csv", "--predict_train_tokens", 4e5, 3e6)
    _, other = fitted(nanogpt, tmp_path, "other.csv", "--predict_train_tokens", 4e-4, 3e-3)
    assert one["predictions"][0]["optimum"]["value"] == pytest.approx(other["predictions"][0]["optimum"]["value"], 1e-4)
    assert one["trusted"] and one["predictions"][0]["trusted"] and not one["reasons"]
    _, far = fitted(nanogpt, tmp_path, "one.csv", "--predict_train_tokens", 1e8)
    assert not far["trusted"] and "times beyond the largest size" in far["reasons"][0]
    write_csv(tmp_path / "low.csv", noisy(lambda length, size: 9 - np.log(size / 1000) + 0.05 * np.log(length / 60)**2,
                                          0.001, 2, 0))
    lines, low = fitted(nanogpt, tmp_path, "low.csv", "--predict_train_tokens", 1e13)
    assert low["predictions"][0]["loss"]["value"] is None or low["predictions"][0]["loss"]["low"] >= 0
    assert any("the fitted Bayes risk is below 0" in line for line in lines)
    nanogpt("draw_optimal_context.py", "--fit", "fit.json", "--out_dir", "figures")


def test_own_columns_one_seed_and_a_given_law(nanogpt, tmp_path):
    cells = table(true_fit("power_constant"), noise=0.004, seeds=1)
    write_csv(tmp_path / "own.csv", cells, ("window", "words", "nats", "run"))
    _, own = fitted(nanogpt, tmp_path, "own.csv", "--length_column", "window", "--size_column", "words",
                    "--loss_column", "nats", "--seed_column", "run", "--law", "power_constant")
    write_csv(tmp_path / "usual.csv", cells)
    _, usual = fitted(nanogpt, tmp_path, "usual.csv", "--law", "power_constant")
    assert own["parameters"] == usual["parameters"] and own["law"] == "power_constant"
    assert own["parameters"]["alpha_ref"]["value"] == pytest.approx(0.8, rel=0.15)
    assert own["lack_of_fit"]["power_constant"]["pooled"] is None is not own["lack_of_fit"]["power_constant"]["smooth"]


def test_tables_are_read_as_users_have_them(tmp_path):
    cells = table(true_fit("power_constant"), noise=0.01)
    write_csv(tmp_path / "comma.csv", cells)
    text = (tmp_path / "comma.csv").read_text()
    for name, changed in {"bom": "\ufeff" + text, "semicolon": text.replace(",", ";"), "tab": text.replace(",", "\t"),
                          "windows": text.replace("\n", "\r\n"), "blank": text + "\n\n"}.items():
        (tmp_path / name).write_bytes(changed.encode())
        found = read_losses([tmp_path / name])
        assert np.array_equal(found.losses, cells.losses) and np.array_equal(found.lengths, cells.lengths), name
    (tmp_path / "bars").write_text(text.replace(",", "|"))
    assert np.array_equal(read_losses([tmp_path / "bars"], Columns(separator="|")).losses, cells.losses)
    assert separator(r"\t") == separator("tab") == separator("\t") == "\t" and separator("|") == "|"
    with pytest.raises(ArgumentTypeError, match="not one character"):
        separator(",;")


def test_rows_that_look_like_other_settings_are_not_averaged(tmp_path, capsys):
    cells = table(true_fit("power_constant"), noise=0.01)
    rows = [(length, size, losses) for length, size, losses in zip(cells.lengths, cells.sizes, cells.seeds)]

    def write(name, more, columns):
        text = "".join(",".join(map(str, (length, size, *values))) + "\n" for length, size, losses in rows
                       for index, loss in enumerate(losses) for values in [more(loss, index)])
        (tmp_path / name).write_text(f"context_length,train_tokens,{columns}\n{text}")
        return [tmp_path / name]

    rates = write("rates", lambda loss, index: (loss, 10.0**-index), "best_valid_loss,learning_rate")
    shifted = write("shifted", lambda loss, index: (loss + index / 10,), "best_valid_loss")
    for path, words in ((rates, "differ in learning_rate"), (shifted, "differ alike")):
        with pytest.raises(SystemExit):
            read_losses(path)
        error = capsys.readouterr().err
        assert words in error and "--seed_column none" in error and error.count("\n") == 1
        assert len(read_losses(path, Columns(seed="none")).seeds[0]) == 3
    plain = write("plain", lambda loss, index: (loss,), "best_valid_loss")
    assert np.allclose(read_losses(plain).losses, cells.losses)


def test_what_cannot_carry_a_fit_is_refused_in_one_line(nanogpt, tmp_path):
    truth = true_fit("power_constant")
    full = table(truth, noise=0.01)
    write_csv(tmp_path / "full.csv", full)
    text = (tmp_path / "full.csv").read_text()
    write_csv(tmp_path / "sizes.csv", table(truth, sizes=SIZES[:2]))
    write_csv(tmp_path / "lengths.csv", table(truth, lengths=LENGTHS[:3]))
    (tmp_path / "words.csv").write_text(text.replace("512,", "long,", 1))
    (tmp_path / "twice.csv").write_text(text + text.splitlines()[1] + "\n")
    (tmp_path / "infinite.csv").write_text(text + "16,100000,nan,9\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes(text.replace("seed", "größe").encode("latin-1"))
    for name, words in {"sizes": "2 training sizes, the fit needs 3", "lengths": "3 context lengths, the fit needs 4",
                        "words": "is not a number", "twice": "came before", "infinite": "is 'nan', which",
                        "empty": "has no row", "latin": "UTF-8", "absent": "cannot read"}.items():
        done = nanogpt("fit_optimal_context.py", "--results", f"{name}.csv", check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, (name, done.stderr)
        assert f"{name}.csv" in done.stderr or name in ("sizes", "lengths")
    for flags, words in ((("--loss_column", "nats"), "no column nats"), (("--draws", 2), "at least 100"),
                         (("--predict_train_tokens", 0), "above 0"), (("--ceiling", 1e300), "--ceiling"),
                         (("--predict_train_tokens", 1e300), "above 0"),
                         (("--predict_train_tokens", "nan"), "above 0")):
        done = nanogpt("fit_optimal_context.py", "--results", "full.csv", *flags, check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    write_csv(tmp_path / "one.csv", table(truth, noise=0.01, seeds=1))
    done = nanogpt("measure_recovery.py", "--results", "one.csv", check=False)
    assert done.returncode == 2 and "only one" in done.stderr


@pytest.mark.parametrize("column, factor, rows, fits", [
    ("context_length", 1e-300, 1, False), ("context_length", 1e300, None, False), ("context_length", -1, 1, False),
    ("train_tokens", 1e300, 1, False), ("train_tokens", 1e-300, None, False), ("best_valid_loss", 1e300, 1, False),
    ("best_valid_loss", 1e-300, 1, True), ("train_tokens", 1e-20, len(LENGTHS), True),
    ("best_valid_loss", -1e8, None, True)])
def test_extreme_numbers_are_refused_or_fitted(nanogpt, tmp_path, column, factor, rows, fits):
    """In the first rows (None: in all): one line, or a fit that is written without a word on stderr."""
    write_csv(tmp_path / "full.csv", table(true_fit("power_constant"), noise=0.01, sizes=SIZES[:3], seeds=1))
    header, *lines = (tmp_path / "full.csv").read_text().splitlines()
    at, lines = header.split(",").index(column), [line.split(",") for line in lines]
    for line in lines[:rows]:
        line[at] = repr(float(line[at]) * factor)
    (tmp_path / "extreme.csv").write_text("\n".join([header, *map(",".join, lines)]) + "\n")
    done = nanogpt("fit_optimal_context.py", "--results", "extreme.csv", "--draws", 100, "--out", "fit.json",
                   check=False)
    assert (tmp_path / "fit.json").exists() == fits and done.returncode == (0 if fits else 2), done.stderr
    assert done.stderr.count("\n") == (0 if fits else 1) and (fits or f"extreme.csv: {column} is " in done.stderr)


def test_a_size_that_shares_no_length_with_others_is_refused(nanogpt, tmp_path):
    cells = table(true_fit("power_constant"), noise=0.01, seeds=1)
    write_csv(tmp_path / "apart.csv", cells.part((cells.sizes < SIZES[-1]) == (cells.lengths < LENGTHS[-1])))
    done = nanogpt("fit_optimal_context.py", "--results", "apart.csv", "--draws", 100, check=False)
    assert done.returncode == 2 and f"the training size {SIZES[-1]:g}" in done.stderr and done.stderr.count("\n") == 1


def test_lowest_losses_at_the_edge_of_the_grid_are_said(nanogpt, tmp_path):
    write_csv(tmp_path / "edge.csv", table(true_fit("power_constant"), noise=0.01, lengths=LENGTHS[2:],
                                           sizes=SIZES[:3] / 1000))
    _, found = fitted(nanogpt, tmp_path, "edge.csv")
    assert not found["trusted"] and any("lowest loss inside the grid" in reason for reason in found["reasons"])
    assert {row["optimum"]["bound"] for row in found["optima"]} == {"at most"}


def test_recovery_is_measured_on_the_noise_of_a_sweep(nanogpt, tmp_path):
    done = nanogpt("measure_recovery.py", "--results", SYNTHETIC, "--tables", 2, "--draws", 100, "--law",
                   "bounded_constant", "--out", "recovery.json")
    found = json.loads(Path(tmp_path / "recovery.json").read_text())
    assert set(found["coverage"]) == {"C0", "C", "gamma", "A_ref", "a", "alpha_ref", "ceiling", "exponent",
                                      *(f"optimum at {size}" for size in (40000, 60000, 85000))}
    assert found["parameters"]["ceiling"]["truth"] == pytest.approx(np.log(2), abs=0.01)
    assert "losses of the 15 cells" in done.stdout


def test_the_campaign_outside_the_family_goes_on_where_it_ended(nanogpt, tmp_path):
    flags = ("--tables", 2, "--draws", 100, "--out", "coverage.json")
    nanogpt("measure_recovery.py", "--outside", "logistic", *flags)
    before = json.loads((tmp_path / "coverage.json").read_text())
    nanogpt("measure_recovery.py", "--outside", "logistic", "outlier", *flags)
    after = json.loads((tmp_path / "coverage.json").read_text())
    assert after["laws"]["logistic"] == before["laws"]["logistic"]
    assert set(after["laws"]) == set(after["exponents"]) == {"logistic", "outlier"}
    rows = after["laws"]["outlier"]
    assert len(rows) == len(TRUTHS["outlier"].sizes) + 3 and {row["trusted"] for row in rows} == {0}


@pytest.mark.skipif(not (FOLDER / "results" / "optimal_context" / "coverage.json").exists(),
                    reason="the campaign of coverage outside the family has not been run to its end yet")
def test_the_committed_coverage_keeps_its_aim():
    found = json.loads((FOLDER / "results" / "optimal_context" / "coverage.json").read_text())
    outside = {name: rows for name, rows in found["laws"].items() if not name.startswith("inside")}
    reached = [name for name, rows in outside.items() if min(row["holds_or_not_trusted"] for row in rows) >= 0.9]
    assert found["request"]["tables"] >= 200 and len(reached) >= 5
