"""fit_optimal_context.py on sweeps and tables: what it finds, says and does not trust, and the figure of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers import run_script, start_script
from law_tables import LENGTHS, SIZES, SYNTHETIC, fitted, noisy, table, true_fit, write_csv
from optimal_context.report import verdict


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """A committed sweep of SyntheticDataset, fitted with checks as users run it (a space in the path), and again."""
    folder = tmp_path_factory.mktemp("synthetic sweep")
    command = ("fit_optimal_context.py", "--results", SYNTHETIC, "--check", "--predict_train_tokens", 50000, 120000,
               "--draws", 100, "--out")
    process = start_script(*command, "fit.json", cwd=folder)
    printed, error = process.communicate()
    assert process.returncode == 0, error
    assert run_script(*command, "again.json", cwd=folder).returncode == 0
    return folder, printed


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


def test_a_table_in_other_units_gives_the_same(nanogpt, tmp_path):
    truth = true_fit("power_constant")
    cells = table(truth, noise=0.004)
    write_csv(tmp_path / "one.csv", cells)
    write_csv(tmp_path / "other.csv", replace(cells, sizes=cells.sizes / 1e9))
    _, one = fitted(nanogpt, tmp_path, "one.csv", "--predict_train_tokens", 4e5, 3e6)
    _, other = fitted(nanogpt, tmp_path, "other.csv", "--predict_train_tokens", 4e-4, 0.1)
    assert one["predictions"][0]["optimum"]["value"] == pytest.approx(other["predictions"][0]["optimum"]["value"], 1e-4)
    assert one["trusted"] and one["predictions"][0]["trusted"] and not one["reasons"]
    far = other["predictions"][1]
    assert not other["trusted"] and far["too_far"] and "times beyond the largest size" in far["reasons"][0]


def test_no_loss_is_predicted_below_zero(nanogpt, tmp_path):
    write_csv(tmp_path / "low.csv", noisy(lambda length, size: 9 - np.log(size / 1000) + 0.05 * np.log(length / 60)**2,
                                          0.001, 2, 0))
    lines, low = fitted(nanogpt, tmp_path, "low.csv", "--predict_train_tokens", 1e13)
    row = low["predictions"][0]
    assert row["loss"]["value"] is None and "the law predicts a loss below 0 there" in row["reasons"]
    assert any("the fitted Bayes risk is below 0" in line for line in lines)
    nanogpt("draw_optimal_context.py", "--fit", "fit.json", "--out_dir", "figures")


def test_lowest_losses_at_the_edge_of_the_grid_are_said(nanogpt, tmp_path):
    write_csv(tmp_path / "edge.csv", table(true_fit("power_constant"), noise=0.01, lengths=LENGTHS[2:],
                                           sizes=SIZES[:3] / 1000))
    _, found = fitted(nanogpt, tmp_path, "edge.csv")
    assert not found["trusted"] and any("lowest loss inside the grid" in reason for reason in found["reasons"])
    assert {row["optimum"]["bound"] for row in found["optima"]} == {"at most"}
