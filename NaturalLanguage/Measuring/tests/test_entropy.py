"""Spectra, entropies and dimensions against numpy, scipy, closed forms and brute force; fits against known curves."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from compute_eigvals import eigenvalues
from fits import fit_line, fit_power_law
from measure_entropy import decompose, half_samples, kde_entropies, spectrum_measures, two_nn
from measurement import document_standard_error
from helpers import FOLDER, error_line, run_main


def correlated(n, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
                            + 5 * rng.standard_normal(width))


def entropies(features, **options):
    return kde_entropies(features, decompose(features, "cpu"), **options)


def test_eigenvalues_against_numpy():
    features = correlated(2500, 12).float()
    expected = np.linalg.svd(features.double() - features.double().mean(0), compute_uv=False) ** 2 / 2499
    assert eigenvalues(features, "cpu").numpy() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, width, block_size", [(500, 1, 2048), (700, 5, 100), (1000, 64, 333), (300, 250, 64)])
def test_kde_entropy_against_scipy_and_the_others_by_brute_force(n, width, block_size):
    features = correlated(n, width)
    found = entropies(features, block_size=block_size)
    kde = gaussian_kde(features.T.numpy())
    assert found["kde_entropy"] == pytest.approx(-kde.logpdf(features.T.numpy()).mean(), rel=1e-9)
    assert found["log_determinant_part"] == pytest.approx(
        0.5 * np.linalg.slogdet(2 * math.pi * np.atleast_2d(kde.covariance))[1], rel=1e-9)
    assert 0 <= found["kernel_part"] <= math.log(n)
    whitened = np.linalg.solve(np.linalg.cholesky(np.atleast_2d(kde.covariance)), features.T.numpy()).T
    exponents = -0.5 * ((whitened[:, None] - whitened[None]) ** 2).sum(-1)
    np.fill_diagonal(exponents, -np.inf)
    others = np.logaddexp.reduce(exponents, axis=1).mean() - math.log(n - 1)
    assert found["leave_one_out_entropy"] == pytest.approx(found["log_determinant_part"] - others, rel=1e-8)


def test_entropy_moves_with_scale_and_not_with_place():
    features = correlated(800, 6)
    base = entropies(features)["kde_entropy"]
    assert entropies(features + 100)["kde_entropy"] == pytest.approx(base, rel=1e-8)
    assert entropies(3 * features)["kde_entropy"] == pytest.approx(base + 6 * math.log(3), rel=1e-9)
    line = torch.from_numpy(np.random.default_rng(1).standard_normal((4000, 1)))
    assert entropies(line)["leave_one_out_entropy"] == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.05)


def test_directions_that_never_vary_are_left_out():
    """Behind a LayerNorm the features lie in a hyperplane: their entropy is that of their coordinates in it."""
    states = torch.nn.functional.layer_norm(correlated(500, 8).float(), (8,)) * torch.linspace(1, 2, 8)
    found = entropies(states)
    basis = torch.linalg.svd(states.double() - states.double().mean(0), full_matrices=False).Vh[:7]
    points = (states.double() @ basis.T).T.numpy()
    assert found["rank"] == 7
    assert found["kde_entropy"] == pytest.approx(-gaussian_kde(points).logpdf(points).mean(), rel=1e-6)
    sums = spectrum_measures(eigenvalues(torch.cat((states, states[:, :3]), dim=1), "cpu"))["sum_log_eigenvalues"]
    assert sums["6"] is not None and sums["10"] is None


def test_dimension_is_a_count_and_sums_stop_at_what_is_there():
    measures = spectrum_measures(torch.tensor([4.0, 2.0, 1.0, 0.4, 0.0], dtype=torch.float64))
    dimensions = measures["intrinsic_dimension"]
    assert [dimensions[t] for t in ("0.25", "0.2", "0.1", "0.05")] == [2, 3, 3, 4]
    assert measures["sum_log_eigenvalues"]["3"] == pytest.approx(math.log(0.5 * 0.25))
    assert measures["sum_log_absolute_eigenvalues"]["4"] == pytest.approx(math.log(4 * 2 * 0.4))
    assert measures["sum_log_eigenvalues"]["5"] is None and measures["sum_log_eigenvalues"]["6"] is None


def test_two_nearest_neighbours_find_the_dimension():
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(rng.uniform(size=(3000, 3)) @ rng.standard_normal((3, 20)))
    documents = torch.arange(3000)
    dimension, error = two_nn(flat, documents, block_size=700)
    assert dimension == pytest.approx(3, abs=4 * error) and 0.02 < error < 0.2
    distances = torch.cdist(flat, flat)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(2, largest=False).values
    assert dimension == pytest.approx(1 / (nearest[:, 1] / nearest[:, 0]).log().mean().item(), rel=1e-6)
    twice = two_nn(torch.cat((flat, flat)), torch.cat((documents, documents)))
    assert twice == pytest.approx((dimension, error))


def test_standard_errors_count_documents_not_chunks():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    alone = document_standard_error(values, torch.arange(400))
    assert alone == pytest.approx(values.std(correction=0).item() / 20)
    copies = document_standard_error(values.repeat_interleave(5), torch.arange(400).repeat_interleave(5))
    assert copies == pytest.approx(alone)  # five copies of a chunk say no more than one
    spread = [values[mask].mean() for mask in half_samples(torch.arange(400), 400)]
    assert torch.tensor(spread).std().item() == pytest.approx(alone, rel=0.15)  # a half sample has the whole's error


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


@pytest.fixture
def measured(tmp_path):
    """A directory of features at four context lengths with losses that fall, from made-up states."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "outputs" / "made_up"
    folder.mkdir(parents=True)
    base, mixing = rng.standard_normal((400, 12)), rng.standard_normal((12, 12))
    rows = []
    for place, length in enumerate((2, 8, 32, 128)):
        features = torch.from_numpy(base @ np.diag(1 + place * rng.uniform(size=12)) @ mixing).float()
        losses = torch.from_numpy(rng.exponential(4 - place / 2, size=400))
        torch.save({"features": features, "losses": losses, "documents": torch.arange(400) // 4,
                    "context_length": length, "layer": None}, folder / f"feature_tensors_seq_{length}.pt")
        rows.append(f"{length},{losses.mean().item()},0.1")
    (folder / "cross_entropy.csv").write_text("\n".join(["context_length,cross_entropy,standard_error", *rows]) + "\n")
    return folder


def test_from_features_to_figures(measuring, measured, tmp_path):
    """The scripts as a user runs them; each context length keeps the losses of its own chunks."""
    measuring("compute_eigvals.py", measured)
    measuring("measure_entropy.py", measured, "--draws", 4)
    with open(measured / "entropy.csv", newline="") as file:
        table = {int(row["context_length"]): row for row in csv.DictReader(file)}
    assert list(table) == [2, 8, 32, 128]
    for length, row in table.items():
        saved = torch.load(measured / f"feature_tensors_seq_{length}.pt", weights_only=True)
        points = saved["features"].double().T.numpy()
        assert float(row["kde_entropy"]) == pytest.approx(-gaussian_kde(points).logpdf(points).mean(), rel=1e-6)
        assert float(row["cross_entropy"]) == pytest.approx(saved["losses"].mean().item())
        spectrum = torch.load(measured / f"{length}_eigvals.pt", weights_only=True)
        assert spectrum.numpy() == pytest.approx(np.linalg.eigvalsh(np.cov(points))[::-1], rel=1e-6)
        measures = json.loads((measured / f"measures_seq_{length}.json").read_text())
        assert measures["intrinsic_dimension"]["0.1"] == int((spectrum / spectrum[0] > 0.1).sum())
        assert len(measures["draws"]["kde_entropy"]) == 4 and float(row["kde_entropy_standard_error"]) > 0
    for script in ("draw_CE_vs_entropy.py", "draw_CEvsPCA/draw_IntrinsicDim.py", "draw_CEvsPCA/draw_SumLogEigval.py"):
        printed = measuring(script, "--results", measured, "--out_dir", "figures").stdout
        assert "R^2" in printed or "correlations" in printed
        if script == "draw_CE_vs_entropy.py":
            x, y = ([float(row[name]) for row in table.values()] for name in ("kde_entropy", "cross_entropy"))
            assert f"slope {np.polyfit(x, y, 1)[0]:.5f}" in printed and f"R {np.corrcoef(x, y)[0, 1]:.4f}" in printed
    run_main("draw_CE_vs_context", "--results", measured, "--out_dir", "figures")
    made = {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    assert made == {path.stem for path in (tmp_path / "figures").glob("*.png")} == {
        "ce_vs_context", "ce_vs_entropy", "made_up_entropies", "made_up_spectra", "made_up_dimension",
        "made_up_ce_vs_dimension", "made_up_ce_vs_sum_log_3_6", "made_up_ce_vs_sum_log_10_10", "made_up_correlations"}
    before = (measured / "measures_seq_2.json").read_text()
    (measured / "measures_seq_8.json").unlink()
    assert run_main("measure_entropy", measured, "--draws", 4)[0] == 0  # what is missing alone, to the same bits
    assert (measured / "measures_seq_2.json").read_text() == before
    code, printed, _ = run_main("draw_CE_vs_entropy", "--results", measured, "--exclude", 2, "--out_dir", "figures")
    assert code == 0 and "at 3 context lengths" in printed


def test_bad_features_are_one_line(measured, tmp_path):
    path = measured / "feature_tensors_seq_2.pt"
    whole = path.read_bytes()
    assert "run compute_eigvals.py" in error_line(run_main("measure_entropy", measured))
    path.write_bytes(whole[:len(whole) // 2])
    assert "cut short" in error_line(run_main("compute_eigvals", measured))
    for change, words in (({"features": torch.full((9, 3), math.nan)}, "not finite"), ({"other": 1}, 'no "features"')):
        torch.save(change, path)
        assert words in error_line(run_main("compute_eigvals", measured))
    torch.save({"features": torch.rand(12, 12)}, path)
    assert run_main("compute_eigvals", measured)[0] == 0
    assert "needs more than 12 samples" in error_line(run_main("measure_entropy", measured))
    torch.save({"features": torch.ones(50, 4)}, path)
    assert run_main("compute_eigvals", measured)[0] == 0
    assert "all the same" in error_line(run_main("measure_entropy", measured))
    assert "make them with save_mid_features.py" in error_line(run_main("compute_eigvals", tmp_path))
    for script in ("draw_CE_vs_entropy", "draw_IntrinsicDim", "draw_SumLogEigval"):
        assert "a line needs 3" in error_line(run_main(script, "--results", measured))
    assert "make it with evaluate_CE.py" in error_line(run_main("draw_CE_vs_context", "--results", tmp_path))
    assert not list(measured.glob("measures*"))
