"""Comparisons by seed against hand-made tables and the formulas themselves."""

import numpy as np
import pytest
from scipy.stats import t as student_t

from paired import Difference, crossings, differences, moves


def cells_of(losses):
    """{(tokens, length): losses by seed} as read_cells gives it."""
    cells = {}
    for (tokens, length), values in losses.items():
        cells.setdefault(tokens, {})[length] = {seed: {"loss": value} for seed, value in enumerate(values)}
    return cells


def test_the_interval_and_the_sign_test():
    values = np.array([0.1, 0.3, 0.2, 0.25])
    row = Difference(100, values)
    half = student_t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert row.interval == pytest.approx((values.mean() - half, values.mean() + half))
    assert row.sign_p == pytest.approx(2 / 2**4) and row.is_all(1) and not row.is_all(-1)
    assert not Difference(100, np.array([0.1, 3.0, 0.2])).is_all(1)  # every seed, but 0 within the interval


def test_differences_pair_seeds_and_leave_out_sizes_with_too_few():
    cells = cells_of({(10, 16): [1.0, 2.0, 3.0], (10, 64): [1.5, 2.25, 3.125], (20, 16): [1.0, 1.0], (20, 64): [0, 0]})
    del cells[10][64][1]
    row, = differences(cells, "loss", 16, 64, least_seeds=2)[:1]
    assert row.values.tolist() == [0.5, 0.125]
    assert differences(cells, "loss", 16, 64) == []


def test_a_move_is_of_the_seeds_that_both_sizes_have():
    cells = cells_of({(10, 16): [1, 2, 3], (10, 64): [2, 4, 6], (20, 16): [0, 0, 0, 0], (20, 64): [0, 0.5, 0.25, 9],
                      (40, 16): [0], (40, 64): [0]})
    del cells[20][64][0]
    (smaller, row), = moves(cells, "loss", 16, 64, least_seeds=2)
    assert (smaller, row.tokens, row.seeds, row.values.tolist()) == (10, 20, (1, 2), [-1.5, -2.75])
    assert moves(cells, "loss", 16, 64) == []
    cells |= cells_of({(40, 16): [1, 1, 1], (40, 64): [1, 1, 1.5]})
    found = [(smaller, row.tokens, row.values.tolist()) for smaller, row in moves(cells, "loss", 16, 64, least_seeds=2)]
    assert found == [(10, 20, [-1.5, -2.75]), (10, 40, [-1, -2, -2.5]), (20, 40, [-0.5, 0.25])]


def test_a_crossing_is_found_and_the_clearest_comes_first():
    noise = np.array([0.0, 0.001, -0.001, 0.0005])
    losses = {(size, length): 5 - 0.1 * level + noise * length / 16 for (size, length), level in {
        (10, 16): 3, (10, 64): 2, (10, 256): 1, (20, 16): 1, (20, 64): 2, (20, 256): 1.5}.items()}
    found = crossings(cells_of(losses), "loss")
    assert [(shorter, longer) for shorter, longer, *_ in found] == [(16, 64), (16, 256)]
    small, large = found[0][2:]
    assert (small.tokens, large.tokens) == (10, 20) and small.mean == pytest.approx(0.1, abs=0.01) == -large.mean


def test_no_crossing_where_one_seed_disagrees():
    losses = {(10, 16): [1, 1, 1, 1], (10, 64): [2, 2.1, 2, 0.9], (20, 16): [2, 2, 2, 2], (20, 64): [1, 1.1, 1, 1]}
    assert crossings(cells_of(losses), "loss") == []
