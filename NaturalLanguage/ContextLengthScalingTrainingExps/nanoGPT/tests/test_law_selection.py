"""Which law is kept, what candidates weigh, and the plain baselines that are held against them."""

import numpy as np
import pytest

from law_tables import BY_NAME, LENGTHS, SIZES, fitted, noisy, table, true_fit, write_csv
from optimal_context.lack_of_fit import seed_noise
from optimal_context.law import LAWS, predict
from optimal_context.selection import choose, nested, weights
from optimal_context.table import from_losses, interpolated, nearest_size, power_laws


def test_the_simplest_law_that_predicts_is_kept_and_no_bound_that_was_not_reached():
    cells = table(true_fit("power_constant"), noise=0.004)
    kept, candidates = choose(LAWS, cells, seed=0)
    assert kept.law.name == "power_constant" and [candidate.law.name for candidate in candidates] == list(BY_NAME)
    assert not kept.failed and all(row["steps"] == 0 for row in kept.rows)
    assert choose(LAWS, cells, seed=0, compare_all=False)[0].law == kept.law
    few = cells.part((cells.sizes < 3e5) & (cells.lengths < 200))
    kept, candidates = choose(LAWS, few, seed=0)
    assert kept is None and not any(candidate.rows for candidate in candidates)


def test_a_law_that_leaves_more_than_noise_is_put_aside_for_one_that_does_not():
    cells = table(true_fit("power_offset"), noise=0.004)
    kept, candidates = choose(LAWS, cells, seed=0)
    assert kept.law.offset and not kept.failed
    assert {"power_constant", "power"} <= {candidate.law.name for candidate in candidates if candidate.failed}


def test_a_law_that_the_other_sizes_choose_knows_nothing_of_the_size():
    """Not of its losses, nor of its noise, where parts of the corpus add to all lengths."""
    laws, sizes = [BY_NAME[name] for name in ("power_constant", "power_linear", "bounded_constant")], SIZES[:4]
    generator, fit = np.random.default_rng(3), true_fit("power_linear")
    losses = {(size, length): predict(fit, [length], [size])[1] + part + generator.normal(0, 0.01, 3)
              for size, part in zip(sizes, generator.normal(0, 0.2, (4, 3))) for length in LENGTHS}

    def found(of_third):
        return nested(laws, from_losses({
            (size, length): dict(enumerate(of_third(values) if size == sizes[2] else values))
            for (size, length), values in losses.items()}), seed=0)

    before, after = found(lambda values: values), found(lambda values: 1 + 5 * values - 4 * values.mean())
    assert [row["train_tokens"] for row in before] == sizes.tolist()
    assert after[2]["law"] == before[2]["law"] and after[2]["optimum"] == before[2]["optimum"]
    assert after[2]["near_error"] > 2 * before[2]["near_error"]
    assert all(after[k]["optimum"] != before[k]["optimum"] for k in (0, 1, 3))
    few = from_losses({key: dict(enumerate(values)) for key, values in losses.items() if key[0] < 5e5})
    assert nested(laws, few, seed=0) is None


def test_the_weights_are_those_of_bic():
    cells = table(true_fit("power_constant"), noise=0.01)
    candidates = [candidate for candidate in choose(LAWS, cells, 0)[1]
                  if candidate.law.name in ("power_constant", "power_linear")]
    variance = seed_noise(cells).variance[0]
    criterion = [((cells.losses - predict(candidate.fit, cells.lengths, cells.sizes)[1])**2).sum() / variance
                 + len(candidate.law.parameters) * np.log(len(cells.losses)) for candidate in candidates]
    ratio = np.exp((criterion[1] - criterion[0]) / 2)  # of the weights, first over second
    first, second = weights(candidates, cells)
    assert second > 0 and first + second == pytest.approx(1) and first / second == pytest.approx(ratio, rel=1e-6)


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
