"""Seeds that vary together: the analysis of variance, the root of the covariance, and what a fit makes of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from law_tables import BY_NAME, LENGTHS, SIZES, fitted, true_fit, write_csv
from optimal_context.analysis import analyse, describe
from optimal_context.bootstrap import bootstrap
from optimal_context.lack_of_fit import effect_of_length, seed_noise
from optimal_context.law import LAWS, optimum, predict, residuals
from optimal_context.pairing import shared_losses, variances
from optimal_context.readings import read_as_asked
from optimal_context.recovery import measure
from optimal_context.solver import fit_law
from optimal_context.table import Columns, from_losses

PARTS, NOISE = 0.1, 0.01


def tables_with_parts(seed, loss, seeds=4, sizes=SIZES, noise=NOISE, parts=PARTS):
    """{(size, length): {seed: loss}}: a mean, what the seed adds to the whole curve of its size, and noise."""
    generator = np.random.default_rng(seed)
    added = parts * generator.standard_normal((len(sizes), seeds))
    return {(size, length): dict(enumerate(loss(length, size) + of_size + noise * generator.standard_normal(seeds)))
            for size, of_size in zip(sizes, added) for length in LENGTHS}


def of_law(length, size):
    return predict(true_fit("power_constant"), [length], [size])[1]


def test_the_analysis_of_variance_is_that_of_two_regressions():
    """F of seeds beside lengths within sizes, from the residual sums of squares of least squares on dummy columns."""
    losses = [np.random.default_rng(size).standard_normal((lengths, seeds)) for size, (lengths, seeds) in
              enumerate(((4, 3), (6, 2), (3, 5), (4, 1)))]
    length_columns, seed_columns, values = [], [], np.concatenate([losses.ravel() for losses in losses])
    for size, of_size in enumerate(losses):
        for kind, columns in ((0, length_columns), (1, seed_columns)):
            for level in range(of_size.shape[kind]):
                columns.append(np.concatenate([((np.indices(other.shape)[kind] == level) & (size == index)).ravel()
                                               for index, other in enumerate(losses)]))

    def squares(columns):
        columns = np.array(columns, float).T
        rest = values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]
        return (rest**2).sum(), len(values) - np.linalg.matrix_rank(columns)

    (with_seeds, free), (without, more) = squares(length_columns + seed_columns), squares(length_columns)
    noise, _, p = variances(losses)
    ratio = (without - with_seeds) / (more - free) / (with_seeds / free)
    assert noise == pytest.approx(with_seeds / free) and p == pytest.approx(f_distribution.sf(ratio, more - free, free))
    assert variances(losses[3:]) == (None, None, 1.0)


def test_the_variances_are_found():
    found = [variances([shared_losses(cells, size)[0] for size in SIZES]) for cells in (
        from_losses(tables_with_parts(seed, of_law)) for seed in range(40))]
    assert np.mean([noise for noise, _, _ in found]) == pytest.approx(NOISE**2, rel=0.1)  # its standard error is 2.6%
    assert np.mean([share for _, share, _ in found]) == pytest.approx(PARTS**2, rel=0.2)


def test_the_root_makes_the_noise_of_the_means_alike_and_independent():
    cells = from_losses(tables_with_parts(0, of_law))
    noise, share, _ = variances([shared_losses(cells, size)[0] for size in SIZES])
    count = len(LENGTHS)
    covariance = np.kron(np.eye(len(SIZES)), noise * np.eye(count) + share * np.ones((count, count))) / 4
    assert np.allclose(cells.root @ covariance @ cells.root, noise / 4 * np.eye(len(covariance)))
    rest = residuals(true_fit("power_constant"), cells)
    plain = cells.losses - predict(true_fit("power_constant"), cells.lengths, cells.sizes)[1]
    assert (rest**2).sum() == pytest.approx(noise / 4 * plain @ np.linalg.inv(covariance) @ plain)
    assert seed_noise(cells).variance.mean() == pytest.approx(noise / 4, rel=0.4)


def test_seeds_that_do_not_vary_together_or_have_no_names_change_nothing():
    losses = tables_with_parts(0, of_law, parts=0)
    cells, nameless = from_losses(losses), from_losses({key: list(cell.values()) for key, cell in losses.items()})
    assert cells.root is None and np.array_equal(cells.losses, nameless.losses)
    together = tables_with_parts(0, of_law)
    assert from_losses({key: list(cell.values()) for key, cell in together.items()}).root is None
    alone = [from_losses(tables_with_parts(seed, of_law, parts=0)).root is None for seed in range(200)]
    assert np.mean(alone) > 0.97  # the test's level is 0.01


def test_an_effect_of_the_length_is_seen_beside_parts_that_differ_more():
    paired = from_losses(tables_with_parts(0, lambda length, size: 4 + 0.004 * np.log2(length / 64)**2))
    assert effect_of_length(paired) < 1e-6 < 0.05 < effect_of_length(replace(paired, root=None))
    flat = [effect_of_length(from_losses(tables_with_parts(seed, lambda length, size: 4 - np.log(size) / 20)))
            for seed in range(200)]
    assert np.mean(np.array(flat) < 0.05) < 0.11 and np.median(flat) == pytest.approx(0.5, abs=0.15)


def test_optima_are_as_sharp_as_the_differences_within_a_seed_and_losses_as_wide_as_the_parts():
    truth, widths = true_fit("power_constant"), {}
    for name, parts in (("parts", PARTS), ("alike", 0)):
        cells = from_losses(tables_with_parts(1, of_law, parts=parts))
        fit = bootstrap(fit_law(truth.law, cells), cells, 200)
        losses = predict(fit, cells.lengths, cells.sizes, draws=True)[1]
        widths[name] = np.log(optimum(fit, SIZES[2:3], 4, 2048, draws=True)[0]).std(), losses.std(0).mean()
    assert widths["parts"][0] < 2 * widths["alike"][0]
    assert widths["parts"][1] > 3 * widths["alike"][1]


def test_the_intervals_of_paired_tables_hold_the_truth():
    truth = true_fit("power_constant")
    coverage, _ = measure(truth, from_losses(tables_with_parts(0, of_law)), tables=30, draws=200, seed=0)
    shares = {name: np.mean(share) for name, share in coverage.items()}
    assert np.mean(list(shares.values())) >= 0.9 and min(shares.values()) >= 0.8, shares


def test_seeds_that_some_lengths_lack_are_left_out_and_a_size_without_a_shared_one_is_refused(nanogpt, tmp_path):
    losses = tables_with_parts(0, of_law)
    del losses[SIZES[1], LENGTHS[2]][3]
    cells = from_losses(losses)
    assert cells.left_out == len(LENGTHS) - 1 and set(map(len, cells.seeds)) == {3, 4}
    assert cells.part(cells.sizes != SIZES[0]).root.shape == 2 * (len(cells.sizes) - len(LENGTHS),)
    found = describe(analyse(LAWS, cells, 100, 0), [], 0)
    assert found["paired"] and found["runs_left_out"] == cells.left_out
    write_csv(tmp_path / "sweep.csv", from_losses(tables_with_parts(0, of_law)))
    lines, found = fitted(nanogpt, tmp_path, "sweep.csv")
    assert found["paired"] and any("lengths are compared by seed" in line for line in lines)
    rows = (tmp_path / "sweep.csv").read_text().splitlines()
    rows = [row.replace(",0,", ",9,") if row.startswith(f"16,{SIZES[0]:g},") else row for row in rows]
    rows = [row for row in rows if not (row.startswith(f"16,{SIZES[0]:g},") and ",9," not in row)]
    (tmp_path / "sweep.csv").write_text("\n".join(rows))
    done = nanogpt("fit_optimal_context.py", "--results", "sweep.csv", "--out", "other.json", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and f"{SIZES[0]:g}" in done.stderr
    assert not (tmp_path / "other.json").exists()


def test_curves_that_differ_by_constants_alone_are_no_error():
    losses = {(size, length): {seed: float(of_law(length, size)[0] + 0.1 * seed) for seed in range(3)}
              for size in SIZES for length in LENGTHS}
    cells = from_losses(losses)
    assert cells.root is not None
    json.dumps(describe(analyse([BY_NAME["power_constant"]], cells, 100, 0), [], 0), allow_nan=False)


def test_both_readings_are_paired(tmp_path):
    mean, full = (from_losses(tables_with_parts(seed, of_law)) for seed in (0, 1))
    write_csv(tmp_path / "sweep.csv", replace(mean, beside=full))
    cells = read_as_asked("both", [tmp_path / "sweep.csv"], Columns(full_context="full_context_loss"))
    assert np.allclose(cells.root, mean.root) and np.allclose(cells.beside.root, full.root)
    targets = [reading.scale * (reading.root @ reading.losses) for reading in (cells, cells.beside)]
    assert np.allclose(cells.targets, np.concatenate(targets))
