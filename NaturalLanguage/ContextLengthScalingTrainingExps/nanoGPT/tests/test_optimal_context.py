"""The law of loss against context length and training size: its fit, its intervals, its checks, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from fit_optimal_context import choose
from measure_recovery import measure
from helpers import FOLDER
from optimal_context_law import LAWS, Fit, described, fit_law, optimum, parts, predict, with_ceiling
from optimal_context_table import from_losses, interpolated, nearest_size

SYNTHETIC = FOLDER.parents[2] / "SyntheticDataset" / "results" / "small" / "sweep.csv"
LENGTHS, SIZES = np.array([16, 32, 64, 128, 256, 512]), np.array([1e5, 2e5, 4e5, 8e5, 1.6e6])
BY_NAME = {law.name: law for law in LAWS}
TRUTH = {"C0": 2.0, "log_gain": np.log(0.5), "log_gamma": np.log(0.6), "log_A": np.log(0.25), "a": 0.9,
         "log_alpha": np.log(0.8), "b": 0.15, "ceiling": 4.0}


def true_fit(name):
    """The law with the parameters of TRUTH, around the middle of the grid."""
    law = BY_NAME[name]
    return Fit(law, np.array([TRUTH[one] for one in law.parameters]),
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
    place = np.log(cells.lengths / truth.reference[0]), np.log(cells.sizes / truth.reference[1])
    fit = fit_law(truth.law, cells)

    def residuals(theta):
        return parts(truth.law, theta[None], *place)[1][0] - cells.losses

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
    law, rows = choose(LAWS, cells, seed=0)
    assert law.name == "power_constant" and len(rows) == len(LAWS)
    assert all(row["steps"] == 0 for row in rows["power_constant"])
    few = cells.part((cells.sizes < 3e5) & (cells.lengths < 200))
    assert choose(LAWS, few, seed=0) == (None, dict.fromkeys(BY_NAME))


def test_the_baselines():
    cells = from_losses({(size, length): [length * np.log(size)] for size in (10, 100, 1000) for length in (1, 2)})
    assert nearest_size(cells, 40) == {1: np.log(100), 2: 2 * np.log(100)}
    assert interpolated(cells, 40) == pytest.approx({1: np.log(40), 2: 2 * np.log(40)})
    assert interpolated(cells, 9000) == pytest.approx({1: np.log(9000), 2: 2 * np.log(9000)})


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """The fit of SyntheticDataset's committed sweep, with its checks, twice."""
    from script_process import run_script
    folder = tmp_path_factory.mktemp("synthetic")
    for name in ("fit.json", "again.json"):
        done = run_script(FOLDER / "fit_optimal_context.py", "--results", SYNTHETIC, "--check", "--out", name,
                          "--predict_train_tokens", 50000, 120000, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_sweep_is_fitted_and_checked(synthetic):
    folder, printed = synthetic
    assert (folder / "fit.json").read_bytes() == (folder / "again.json").read_bytes()
    found = json.loads((folder / "fit.json").read_text())
    assert found["bounded"] and found["r_squared"] > 0.99 and len(found["cells"]) == 15
    for row in found["optima"] + found["predictions"]:
        assert row["optimum"]["low"] <= row["optimum"]["value"] <= row["optimum"]["high"]
        assert min(entry["cost"]["low"] for entry in row["lengths"]) >= 0
    assert [row["beyond_the_sizes"] for row in found["predictions"]] == [1, pytest.approx(120 / 85)]
    held_out = found["candidates"][found["law"]]
    assert all(abs(row["steps"]) <= 1 for row in held_out)
    mean_square = np.mean([row["near_square"] for row in held_out])
    for rows in found["check"]["baselines"].values():
        assert mean_square < np.mean([row["near_square"] for row in rows])
    assert found["check"]["larger_half"]["fitted_sizes"] == [40000, 60000]
    assert f"law kept: {found['law']}" in printed
    cell = found["cells"][0]
    assert cell["bayes_risk"] + cell["approximation_loss"] == pytest.approx(cell["fitted"])
    assert cell["loss"] - cell["fitted"] == pytest.approx(cell["residual"])


def test_the_figure_is_drawn_from_the_fit(synthetic, nanogpt, tmp_path):
    done = nanogpt("draw_optimal_context.py", "--fit", synthetic[0] / "fit.json", "--out_dir", "figures")
    assert "D = 60000: l* " in done.stdout and "held out" in done.stdout and "l* ~ D^" in done.stdout
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == \
        ["optimal_context.pdf", "optimal_context.png"]
    done = nanogpt("draw_optimal_context.py", "--fit", synthetic[0] / "fit.json", "--train_tokens", 7, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no training size 7" in done.stderr
    (tmp_path / "other.json").write_text("{}")
    assert nanogpt("draw_optimal_context.py", "--fit", "other.json", check=False).returncode == 2


def test_parts_that_a_table_does_not_tell_apart_are_called_so(nanogpt, tmp_path):
    """Losses that fall like log D hold no Bayes risk."""
    write_csv(tmp_path / "straight.csv", from_losses({
        (size, length): [9 - np.log(size / 1000) + 0.05 * np.log(length / 60)**2]
        for size in SIZES for length in LENGTHS}))
    done = nanogpt("fit_optimal_context.py", "--results", "straight.csv", "--out", "fit.json", "--draws", 20)
    assert "the fitted Bayes risk is below 0" in done.stdout
    nanogpt("draw_optimal_context.py", "--fit", "fit.json", "--out_dir", "figures")


def test_own_columns_one_seed_and_a_given_law(nanogpt, tmp_path):
    cells = table(true_fit("power_constant"), noise=0.004, seeds=1)
    write_csv(tmp_path / "own.csv", cells, ("window", "words", "nats", "run"))
    nanogpt("fit_optimal_context.py", "--results", "own.csv", "--length_column", "window", "--size_column", "words",
            "--loss_column", "nats", "--seed_column", "run", "--law", "power_constant", "--out", "own.json",
            "--draws", 50)
    write_csv(tmp_path / "usual.csv", cells)
    nanogpt("fit_optimal_context.py", "--results", "usual.csv", "--law", "power_constant", "--out", "usual.json",
            "--draws", 50)
    own, usual = (json.loads((tmp_path / name).read_text()) for name in ("own.json", "usual.json"))
    assert own["parameters"] == usual["parameters"] and own["law"] == "power_constant"
    assert own["parameters"]["alpha_ref"]["value"] == pytest.approx(0.8, rel=0.15)


def test_what_cannot_carry_a_fit_is_refused_in_one_line(nanogpt, tmp_path):
    truth = true_fit("power_constant")
    full = table(truth)
    write_csv(tmp_path / "full.csv", full)
    text = (tmp_path / "full.csv").read_text()
    write_csv(tmp_path / "sizes.csv", table(truth, sizes=SIZES[:2]))
    write_csv(tmp_path / "lengths.csv", table(truth, lengths=LENGTHS[:3]))
    write_csv(tmp_path / "edge.csv", table(truth, lengths=LENGTHS[2:], sizes=SIZES[:3] / 1000))
    (tmp_path / "words.csv").write_text(text.replace("512,", "long,", 1))
    (tmp_path / "twice.csv").write_text(text + text.splitlines()[1] + "\n")
    (tmp_path / "infinite.csv").write_text(text + "16,100000,nan,9\n")
    (tmp_path / "empty.csv").write_text("")
    for name, words in {"sizes": "2 training sizes, the fit needs 3", "lengths": "3 context lengths, the fit needs 4",
                        "edge": "no training size has its lowest loss inside",
                        "words": "is not a number", "twice": "came before", "infinite": "losses finite",
                        "empty": "has no column", "absent": "cannot read"}.items():
        done = nanogpt("fit_optimal_context.py", "--results", f"{name}.csv", check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, (name, done.stderr)
    done = nanogpt("fit_optimal_context.py", "--results", "full.csv", "--loss_column", "nats", check=False)
    assert done.returncode == 2 and "no column nats" in done.stderr and "best_valid_loss" in done.stderr
    done = nanogpt("measure_recovery.py", "--results", "one.csv", check=False)
    assert done.returncode == 2
    write_csv(tmp_path / "one.csv", table(truth, noise=0.01, seeds=1))
    done = nanogpt("measure_recovery.py", "--results", "one.csv", check=False)
    assert done.returncode == 2 and "only one" in done.stderr


def test_recovery_is_measured_on_the_noise_of_a_sweep(nanogpt, tmp_path):
    done = nanogpt("measure_recovery.py", "--results", SYNTHETIC, "--tables", 2, "--draws", 40, "--law",
                   "bounded_constant", "--out", "recovery.json")
    found = json.loads(Path(tmp_path / "recovery.json").read_text())
    assert set(found["coverage"]) == {"C0", "C", "gamma", "A_ref", "a", "alpha_ref", "ceiling", "exponent",
                                      *(f"optimum at {size}" for size in (40000, 60000, 85000))}
    assert found["parameters"]["ceiling"]["truth"] == pytest.approx(np.log(2), abs=0.01)
    assert "losses of the 15 cells" in done.stdout
