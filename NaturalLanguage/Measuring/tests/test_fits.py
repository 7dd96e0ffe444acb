"""The power law and the straight line: known curves come back, and the reported losses give the known law."""

import csv

import numpy as np
import pytest

from fits import fit_line, fit_power_law
from helpers import FOLDER, run_main

def test_the_fit_of_the_reported_losses():
    """The ten context lengths with reported spectra give the known 1.963, 6.854, 0.594; the script fits all twelve."""
    with open(FOLDER / "results" / "reported" / "Llama-3.1-8B" / "cross_entropy.csv", newline="") as file:
        reported = {int(row["context_length"]): float(row["cross_entropy"]) for row in csv.DictReader(file)}
    assert len(reported) == 12
    ten = [length for length in reported if length not in (384, 768)]
    fit = fit_power_law(ten, [reported[length] for length in ten])
    assert [round(value[0], 3) for value in (fit.c0, fit.c, fit.gamma)] == [1.963, 6.854, 0.594]
    assert abs(fit.residuals).max() == pytest.approx(0.0145, abs=5e-5)
    code, printed, err = run_main("draw_CE_vs_context", "--results", FOLDER / "results" / "reported" / "Llama-3.1-8B",
                                  "--out_dir", "figures")
    assert code == 0, err
    assert "C0 1.95 [1.928, 1.971]" in printed and "gamma 0.5867" in printed and "R^2 0.99983" in printed


def test_fits_recover_known_curves():
    lengths = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    for c0, c, gamma in ((1.9, 6.8, 0.6), (0.5, 3.0, 0.15), (3.0, -2.0, 1.5)):
        fit = fit_power_law(lengths, c0 + c / lengths**gamma)
        assert (fit.c0[0], fit.c[0], fit.gamma[0]) == pytest.approx((c0, c, gamma), rel=1e-4)
        assert fit.r_squared == pytest.approx(1) and fit(8) == pytest.approx(c0 + c / 8**gamma)
    rng = np.random.default_rng(0)
    truth, hits = (1.9, 4.0, 0.6), np.zeros(3)
    for _ in range(200):
        fit = fit_power_law(lengths, truth[0] + truth[1] / lengths ** truth[2] + 0.02 * rng.standard_normal(10))
        hits += [low <= value <= high for value, (_, low, high) in zip(truth, (fit.c0, fit.c, fit.gamma))]
    assert (hits / 200 > 0.90).all() and (hits / 200 < 0.99).all()  # 95% intervals, 200 draws
    x, y = rng.standard_normal(30), rng.standard_normal(30)
    line = fit_line(x, y - 2 * x)
    assert (line.slope[0], line.intercept) == pytest.approx(tuple(np.polyfit(x, y - 2 * x, 1)))
    assert line.r == pytest.approx(np.corrcoef(x, y - 2 * x)[0, 1]) and line.slope[1] < line.slope[0] < line.slope[2]
    for few in (lambda: fit_power_law([1, 2, 3], [1, 2, 3]), lambda: fit_line([1, 1, 1], [1, 2, 3])):
        with pytest.raises(ValueError):
            few()


