"""Seeds that vary together: the analysis of variance, the covariance of the means, and what a fit makes of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from law_tables import BY_NAME, LENGTHS, SIZES, fitted, true_fit, write_csv
from optimal_context.analysis import analyse, describe
from optimal_context.bootstrap import bootstrap, intervals
from optimal_context.lack_of_fit import effect_of_length, lack_of_fit, seed_noise
from optimal_context.law import optimum, predict, residuals
from optimal_context.pairing import two_way
from optimal_context.readings import read_as_asked
from optimal_context.recovery import measure
from optimal_context.selection import LEVELS, baselines, leave_one_size_out
from optimal_context.solver import fit_law
from optimal_context.table import Columns, from_losses, summary
from sweep_table import adjusted_means

PARTS, NOISE = 0.1, 0.01


def tables_with_parts(seed, loss, seeds=4, parts=PARTS, missing=()):
    """{(size, length): {seed: loss}}: a mean, what the seed adds to the whole curve of its size, and noise.

    parts: the standard deviation of what seeds add, or one for each size. missing: (length, seed) that were not run.
    """
    generator = np.random.default_rng(seed)
    added = np.broadcast_to(parts, len(SIZES))[:, None] * generator.standard_normal((len(SIZES), seeds))
    losses = {(size, length): dict(enumerate(loss(length, size) + of_size + NOISE * generator.standard_normal(seeds)))
              for size, of_size in zip(SIZES, added) for length in LENGTHS}
    return {(size, length): {name: value for name, value in cell.items() if (length, name) not in missing}
            for (size, length), cell in losses.items()}


def of_law(length, size):
    return predict(true_fit("power_constant"), [length], [size])[1]


def alone(cells):
    """The cells as if their seeds were independent."""
    return replace(cells, pairing=None)


FAR = [(LENGTHS[-1], seed) for seed in (1, 2, 3)] + [(LENGTHS[0], 3)]  # the longest length has one seed of four


def test_the_analysis_of_variance_is_that_of_two_regressions():
    """Squares of seeds beside lengths, of a size with runs missing, by least squares on dummy columns."""
    cells = from_losses(tables_with_parts(0, of_law, missing=FAR))
    found = two_way(cells, SIZES[1])
    runs = [(length, name, loss) for length, names, seeds, size in
            zip(cells.lengths, cells.names, cells.seeds, cells.sizes) if size == SIZES[1]
            for name, loss in zip(names, seeds)]
    lengths, seeds = (np.array([[run[kind] == level for level in sorted({run[kind] for run in runs})] for run in runs],
                               float) for kind in (0, 1))
    losses = np.array([run[2] for run in runs])

    def squares(columns):
        rest = losses - columns @ np.linalg.lstsq(columns, losses, rcond=None)[0]
        return (rest**2).sum(), len(losses) - np.linalg.matrix_rank(columns)

    (rest, freedom), (without, more) = squares(np.c_[lengths, seeds]), squares(lengths)
    assert (found.freedom, found.seeds_freedom) == (freedom, more - freedom)
    assert (found.rest**2).sum() == pytest.approx(rest) and found.seeds == pytest.approx(without - rest)
    drawn = np.random.default_rng(0).standard_normal((20000, 4)) @ seeds.T  # what b = 1 adds to the squares of seeds
    left = drawn - drawn @ lengths @ np.diag(1 / lengths.sum(0)) @ lengths.T
    assert found.counted == pytest.approx((left**2).sum(1).mean(), rel=0.03)


def test_lengths_that_lack_seeds_are_compared_as_if_they_had_them():
    """Where a length lacks the seed of a hard part its mean is low: no optimum, and no error of a plain baseline.

    Losses are straight in log D at each length, lowest at LENGTHS[2] everywhere, so that interpolation is exact.
    """
    def straight(length, size):
        return 5 - 0.3 * np.log(size) + 0.1 * np.log(length / LENGTHS[2])**2

    tables = tables_with_parts(3, straight, parts=1.0)
    hardest = {size: max(range(4), key=lambda seed, size=size: tables[size, LENGTHS[0]][seed]) for size in SIZES}
    for index, size in enumerate(SIZES):
        del tables[size, LENGTHS[index % 2 * 4]][hardest[size]]
    cells = from_losses(tables)
    assert any(cells.of_size(size).losses.argmin() != 2 for size in SIZES)
    assert all(cells.of_size(size).balanced.argmin() == 2 for size in SIZES)
    rows = baselines(cells)["log-linear interpolation"]
    assert all(row["measured_optimum"] == LENGTHS[2] and row["regret"] == 0 for row in rows)
    assert summary(rows)["near_error_rms"] < 2 * NOISE
    whole = from_losses(tables_with_parts(3, straight, parts=1.0))
    assert np.array_equal(whole.balanced, whole.losses)


def test_the_tables_compare_the_same_means():
    """sweep_table.adjusted_means, by dummy columns; lengths that no seeds connect keep their plain means."""
    tables = tables_with_parts(4, of_law, missing=FAR)
    by_length = {length: {seed: {"loss": float(loss)} for seed, loss in tables[SIZES[0], length].items()}
                 for length in LENGTHS}
    found, added = adjusted_means(by_length, "loss")
    assert [*found.values()] == pytest.approx(from_losses(tables).of_size(SIZES[0]).balanced)
    assert sum(added.values()) == pytest.approx(0)
    apart = {64: {0: 3.0, 1: 3.2}, 256: {2: 2.0, 3: 2.4}, 1024: {4: 2.4}, 2048: {3: 2.5}}
    means, added = adjusted_means({length: {seed: {"loss": loss} for seed, loss in seeds.items()}
                                   for length, seeds in apart.items()}, "loss")
    assert means == pytest.approx({64: 3.1, 256: 2.2, 1024: 2.4, 2048: 2.3}) and added[4] == pytest.approx(0)
    alike = two_way(from_losses({(1e5, length): seeds for length, seeds in apart.items()}), 1e5)
    assert alike.balanced == pytest.approx([*means.values()])


@pytest.mark.parametrize("missing", [(), FAR])
def test_the_variances_are_found_and_turn_with_the_size(missing):
    parts = 0.3 * (SIZES / SIZES[0])**-0.5
    found = [from_losses(tables_with_parts(seed, of_law, parts=parts, missing=missing)).pairing for seed in range(40)]
    assert np.mean([pairing.noise for pairing in found]) == pytest.approx(NOISE**2, rel=0.1)  # standard error 3%
    middle = np.mean([np.log([pairing.shares[0], pairing.shares[-1]]) for pairing in found], axis=0)
    assert middle == pytest.approx(np.log([parts[0]**2, parts[-1]**2]), abs=0.6)
    equal = [from_losses(tables_with_parts(seed, of_law, missing=missing)).pairing.shares for seed in range(40)]
    assert np.mean(equal) == pytest.approx(PARTS**2, rel=0.2)


@pytest.mark.parametrize("missing", [(), FAR])
def test_straight_noise_is_independent_with_the_variance_of_the_means(missing):
    """Against the spread of simulated means, and least squares with the inverse of the covariance."""
    cells = from_losses(tables_with_parts(0, of_law, missing=missing))
    tables = [tables_with_parts(seed, lambda length, size: 3, missing=missing) for seed in range(2000)]
    spread = np.cov(np.array([[np.mean(list(cell.values())) for cell in table.values()] for table in tables]).T)
    pairing, expected = cells.pairing, cells.pairing.covariance
    shared = (expected - np.diag(pairing.alone)) / pairing.shares  # counts of seeds alone
    true = PARTS**2 * shared + NOISE**2 * np.diag(pairing.alone / pairing.noise)
    assert spread == pytest.approx(true, rel=0.15, abs=0.1 * true.max())
    assert np.allclose(pairing.root @ expected @ pairing.root.T, np.diag(pairing.alone))
    assert np.allclose(pairing.alone, pairing.noise / [len(seeds) for seeds in cells.seeds])
    rest = cells.losses - predict(true_fit("power_constant"), cells.lengths, cells.sizes)[1]
    assert (residuals(true_fit("power_constant"), cells)**2 / pairing.alone).sum() == pytest.approx(
        rest @ np.linalg.inv(expected) @ rest)
    part = cells.part(cells.lengths > 64).pairing
    assert np.allclose(part.root @ part.covariance @ part.root.T, np.diag(part.alone))


def test_seeds_that_do_not_vary_together_or_have_no_names_change_nothing():
    losses = tables_with_parts(0, of_law, parts=0)
    cells, nameless = from_losses(losses), from_losses({key: list(cell.values()) for key, cell in losses.items()})
    assert cells.pairing is None and np.array_equal(cells.losses, nameless.losses)
    together = tables_with_parts(0, of_law)
    assert from_losses({key: list(cell.values()) for key, cell in together.items()}).pairing is None
    independent = [from_losses(tables_with_parts(seed, of_law, parts=0)).pairing is None for seed in range(200)]
    assert np.mean(independent) > 0.97  # the test's level is 0.01
    constant = from_losses({key: dict.fromkeys(cell, 3.0) for key, cell in together.items()})
    assert constant.pairing is None


@pytest.mark.parametrize("missing", [(), FAR])
def test_an_effect_of_the_length_is_seen_beside_parts_that_differ_more(missing):
    def flat(length, size):
        return 4 - np.log(size) / 20

    def curved(length, size):
        return flat(length, size) + 0.004 * np.log2(length / 64)**2

    cells = from_losses(tables_with_parts(0, curved, missing=missing))
    assert effect_of_length(cells) < (0.01 if missing else 1e-6) < 0.05 < effect_of_length(alone(cells))
    p = np.array([effect_of_length(from_losses(tables_with_parts(seed, flat, missing=missing))) for seed in range(200)])
    assert np.mean(p < 0.05) < 0.1 and np.median(p) == pytest.approx(0.5, abs=0.15)


def test_the_tests_of_lack_of_fit_keep_their_level_where_parts_differ_by_size():
    parts = 0.2 * (SIZES / SIZES[0])**-0.4
    found = []
    for seed in range(60):
        cells = from_losses(tables_with_parts(seed, of_law, parts=parts, seeds=2))
        found.append(lack_of_fit(fit_law(BY_NAME["power_constant"], cells), cells))
    shares = {name: np.mean([lack[name] < 0.05 for lack in found]) for name in LEVELS}
    assert max(shares.values()) <= 0.17, shares  # 3.5 standard errors above 0.05
    assert np.mean([lack["residual_error"] / lack["seed_error"] for lack in found]) == pytest.approx(1, abs=0.15)


def test_intervals_hold_the_truth_and_those_of_optima_are_as_sharp_as_within_a_seed():
    """On tables drawn without any code of the fit; independent seeds would make the optima's many times wider."""
    law, held, widths = BY_NAME["power_constant"], {"optima": [], "losses": []}, []
    for seed in range(40):
        cells = from_losses(tables_with_parts(seed, of_law))
        true = np.log(optimum(true_fit("power_constant"), SIZES, 4, 2048)[0])
        for paired in (True, False)[:1 + (seed < 5)]:
            table = cells if paired else alone(cells)
            fit = bootstrap(fit_law(law, table), table, 200)
            best, drawn = (np.log(optimum(fit, SIZES, 4, 2048, draws)[0]) for draws in (False, True))
            low, high = intervals(best, drawn)
            widths.append((paired, (high - low).mean()))
            if paired:
                held["optima"] += ((low <= true) & (true <= high)).tolist()
                low, high = intervals(predict(fit, cells.lengths, cells.sizes)[1],
                                      predict(fit, cells.lengths, cells.sizes, draws=True)[1])
                losses = np.array([of_law(length, size)[0] for length, size in zip(cells.lengths, cells.sizes)])
                held["losses"] += ((low <= losses) & (losses <= high)).tolist()
    assert {name: np.mean(values) > 0.85 for name, values in held.items()} == {"optima": True, "losses": True}
    assert 4 * np.mean([width for paired, width in widths if paired]) < np.mean(
        [width for paired, width in widths if not paired])


def test_held_out_errors_are_free_of_what_parts_add_to_a_size():
    cells = from_losses(tables_with_parts(0, of_law))
    rows, of_alone = (leave_one_size_out(BY_NAME["power_constant"], table, 0) for table in (cells, alone(cells)))
    rows, of_alone = summary(rows), summary(of_alone)
    assert 4 * rows["near_error_rms"] < of_alone["near_error_rms"]
    assert 4 * rows["near_error_max"] < of_alone["near_error_max"]


def test_the_noise_beside_held_out_errors_is_that_between_the_lengths_of_a_size():
    """NOISE a seed between lengths, ten times as much between parts."""
    cells = from_losses(tables_with_parts(0, of_law))
    noise, of_alone = (max(row["near_noise"] for row in leave_one_size_out(BY_NAME["power_constant"], table, 0))
                       for table in (cells, alone(cells)))
    assert noise == pytest.approx(NOISE / 2, rel=0.2)
    assert of_alone > 4 * noise


def test_tables_of_the_recovery_have_seeds_that_vary_together():
    cells = from_losses(tables_with_parts(0, of_law, missing=FAR))
    coverage, _ = measure(true_fit("power_constant"), cells, tables=20, draws=200, seed=0)
    shares = {name: np.mean(share) for name, share in coverage.items()}
    assert np.mean(list(shares.values())) >= 0.88, shares
    assert seed_noise(cells).freedom == cells.pairing.freedom == len(SIZES) * (20 - 6 - 3)


def test_the_script_says_that_lengths_are_compared_by_seed(nanogpt, tmp_path):
    write_csv(tmp_path / "sweep.csv", from_losses(tables_with_parts(0, of_law)))
    lines, found = fitted(nanogpt, tmp_path, "sweep.csv")
    assert found["paired"] and any("lengths are compared by seed" in line for line in lines)


def test_curves_that_differ_by_constants_alone_are_no_error():
    """Losses rounded so that a constant is exact; also for tables that are drawn like them."""
    losses = {(size, length): {seed: round(64 * float(of_law(length, size)[0])) / 64 + 0.125 * seed
                               for seed in range(3)} for size in SIZES for length in LENGTHS[:4]}
    cells = from_losses(losses)
    json.dumps(describe(analyse([BY_NAME["power_constant"]], cells, 100, 0), [], 0), allow_nan=False)
    assert cells.pairing is not None
    measure(true_fit("power_constant"), cells, tables=1, draws=100, seed=0)


def test_both_readings_are_paired(tmp_path):
    """Each by its own noise, and fitted at once."""
    mean, full = (from_losses(tables_with_parts(seed, of_law)) for seed in (0, 1))
    write_csv(tmp_path / "sweep.csv", replace(mean, beside=full))
    cells = read_as_asked("both", [tmp_path / "sweep.csv"], Columns(full_context="full_context_loss"))
    assert np.allclose(cells.pairing.root, mean.pairing.root)
    assert np.allclose(cells.beside.pairing.root, full.pairing.root)
    fit = fit_law(replace(BY_NAME["power_constant"], joint=True, reading="mean"), cells)
    assert np.abs(residuals(fit, cells)).max() < 1 and len(residuals(fit, cells)) == 2 * len(mean.losses)
