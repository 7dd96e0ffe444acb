"""From saved hidden states to tables and figures, as a user runs it; what is done is told by what it was made from."""

import csv
import math
import os
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from files import identity
from helpers import error_line, run_main
from plotting import read_measures
from spectra import load_spectra


@pytest.fixture
def measured(tmp_path):
    """A directory of features at four context lengths with losses that fall, from made-up states."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "outputs" / "made up"
    folder.mkdir(parents=True)
    base, mixing = rng.standard_normal((400, 12)), rng.standard_normal((12, 12))
    rows = []
    for index, length in enumerate((2, 8, 32, 128)):
        features = torch.from_numpy(base @ np.diag(1 + index * rng.uniform(size=12)) @ mixing).float()
        losses = torch.from_numpy(rng.exponential(4 - index / 2, size=400))
        torch.save({"features": features, "losses": losses, "documents": torch.arange(400) // 4, "dtype": "float32",
                    "context_length": length, "layer": None}, folder / f"feature_tensors_seq_{length}.pt")
        rows.append(f"{length},{losses.mean().item()},0.1")
    (folder / "cross_entropy.csv").write_text("\n".join(["context_length,cross_entropy,standard_error", *rows]) + "\n")
    return folder


def table(folder):
    with open(folder / "measures.csv", newline="") as file:
        return list(csv.DictReader(file))


def run(script, *arguments):
    """Run a script's main in this process; returns what it printed."""
    code, printed, err = run_main(script, *arguments)
    assert code == 0, err
    return printed


def test_from_features_to_figures(measured, tmp_path, request):
    """Each context length keeps the losses of its own chunks; what is drawn is what the tables say."""
    run("compute_eigvals", measured)
    spectra = load_spectra(measured)
    assert list(spectra) == [2, 8, 32, 128]
    before = (measured / "spectra.pt").read_bytes()
    run("measure_entropy", measured, "--draws", 4)
    assert (measured / "spectra.pt").read_bytes() == before
    rows = [row for row in table(measured) if row["draw"] == ""]
    assert [row["context_length"] for row in rows] == ["2", "8", "32", "128"] and len(table(measured)) == 20
    for row in rows:
        length = int(row["context_length"])
        saved = torch.load(measured / f"feature_tensors_seq_{length}.pt", weights_only=True)
        points = saved["features"].double().T.numpy()
        assert float(row["kde_entropy"]) == pytest.approx(-gaussian_kde(points).logpdf(points).mean(), rel=1e-6)
        assert float(row["cross_entropy"]) == pytest.approx(saved["losses"].mean().item())
        eigenvalues = spectra[length]["eigenvalues"]
        assert eigenvalues.numpy() == pytest.approx(np.linalg.eigvalsh(np.cov(points))[::-1], rel=1e-6)
        assert row["rank"] == "12" and spectra[length]["rank"] == 12 and spectra[length]["n"] == 400
        drawn = [float(half["kde_entropy"]) for half in table(measured)
                 if half["context_length"] == row["context_length"] and half["draw"]]
        assert len(set(drawn)) == 4
        halves = {half["n"] for half in table(measured) if half["draw"]}
        assert halves == {"200"}
    for script in ("draw_CE_vs_entropy", "draw_IntrinsicDim", "draw_SumLogEigval", "draw_CE_vs_context"):
        printed = run(script, "--results", measured, "--out_dir", "figures")
        if script == "draw_CE_vs_entropy":
            x, y = ([float(row[name]) for row in rows] for name in ("kde_entropy", "cross_entropy"))
            assert f"slope {np.polyfit(x, y, 1)[0]:.5f}" in printed and f"R {np.corrcoef(x, y)[0, 1]:.4f}" in printed
        if script == "draw_IntrinsicDim":
            counts = [int((entry["eigenvalues"] > 0.1 * entry["eigenvalues"][0]).sum()) for entry in spectra.values()]
            assert f"threshold 0.1: {' '.join(map(str, counts))}\n" in printed
    made = {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    assert made == {path.stem for path in (tmp_path / "figures").glob("*.png")} == {
        "ce_vs_context", "ce_vs_entropy", "made up_entropies", "made up_spectra", "made up_dimension",
        "made up_ce_vs_dimension", "made up_ce_vs_sum_log_3_6", "made up_ce_vs_sum_log_10_10", "made up_correlations"}
    printed = run("draw_line_in_training", "--results", measured, "--train_tokens", 500, "--from_lengths", 1,
                  "--out_dir", "figures")
    assert f"500 tokens seen, context lengths from 1 on: R {np.corrcoef(x, y)[0, 1]:.4f}" in printed
    assert f"slope {np.polyfit(x, y, 1)[0]:.5f} [" in printed
    assert (tmp_path / "figures" / "line_in_training.pdf").exists()
    request.getfixturevalue("unrendered")
    printed = run("draw_CE_vs_entropy", "--results", measured, "--exclude", f"{measured.name}:2",
                  "--out_dir", "figures")
    assert "at 3 context lengths" in printed
    code, _, err = run_main("draw_CE_vs_entropy", "--results", measured, "--exclude", "other:2")
    assert code == 2 and "there is no measurement other here, but made up" in err
    code, _, err = run_main("draw_line_in_training", "--results", measured, "--train_tokens", 1, 2)
    assert code == 2 and "one number for each" in err


def test_sums_of_log_eigenvalues_are_those_of_the_covariance(measured):
    assert run_main("measure_entropy", measured, "--draws", 0)[0] == 0
    for length, spectrum in read_measures(measured).spectra.items():
        features = torch.load(measured / f"feature_tensors_seq_{length}.pt", weights_only=True)["features"].double()
        values = np.linalg.eigvalsh(np.cov(features.T.numpy()))[::-1]
        for n in (3, 6, 12):
            assert spectrum.sum_log(n) == pytest.approx(np.log(values[:n] / values[0]).sum(), rel=1e-6)
        assert spectrum.sum_log(13) is None


def test_what_is_done_follows_from_what_it_was_made_from(measured):
    """Other draws, other features and a lost spectrum are made again; the same request is not, whatever the times."""
    def measure(*flags):
        code, _, err = run_main("measure_entropy", measured, *flags)
        assert code == 0, err
        return table(measured)

    none = measure("--draws", 0)
    assert len(none) == 4 and {row["draws"] for row in none} == {"0"}
    four = measure("--draws", 4)
    assert len(four) == 20 and [row for row in four if not row["draw"]][0]["draws"] == "4"
    before = (measured / "measures.csv").stat().st_mtime_ns
    shutil.copy(measured / "spectra.pt", "old.pt")
    path = measured / "feature_tensors_seq_8.pt"
    path.touch()
    assert measure("--draws", 4) == four and (measured / "measures.csv").stat().st_mtime_ns == before
    contents = torch.load(path, weights_only=True)
    torch.save({**contents, "features": 2 * contents["features"]}, path)
    os.utime(path, (0, 0))  # older than its measures, and yet another file
    changed = measure("--draws", 4)
    assert [old == new for old, new in zip(four, changed)] == [row["context_length"] != "8" for row in four]
    entropies = [float(next(row for row in rows if row["context_length"] == "8")["kde_entropy"])
                 for rows in (four, changed)]
    assert entropies[1] - entropies[0] == pytest.approx(12 * math.log(2))
    shutil.copy(measured / "spectra.pt", "new.pt")
    shutil.copy("old.pt", measured / "spectra.pt")
    line = error_line(run_main("draw_IntrinsicDim", "--results", measured, "--out_dir", "figures"))
    assert "different features at context length 8; run measure_entropy.py again" in line
    shutil.copy("new.pt", measured / "spectra.pt")
    spectra = load_spectra(measured)
    assert spectra[8]["request"] == {"features_sha256": identity(path)}
    (measured / "spectra.pt").unlink()
    assert measure("--draws", 4) == changed
    again = load_spectra(measured)
    assert all(torch.equal(again[length]["eigenvalues"], spectra[length]["eigenvalues"]) for length in spectra)
    assert run_main("compute_eigvals", measured)[0] == 0 and measure("--draws", 4, "--overwrite") == changed


def test_features_say_in_which_precision_they_were_computed(measured):
    path = measured / "feature_tensors_seq_2.pt"
    contents = torch.load(path, weights_only=True)
    del contents["dtype"]
    torch.save({**contents, "features": contents["features"].bfloat16()}, path)
    torch.save({**contents, "dtype": "int3"}, measured / "feature_tensors_seq_8.pt")
    result = run_main("measure_entropy", measured, "--draws", 0)
    assert "no floating-point type" in error_line(result)
    assert "does not say in which precision the model computed them; taken for bfloat16" in result[1]
    assert [row["dtype"] for row in table(measured)] == ["bfloat16"]  # that of the tensor


def test_bad_features_are_one_line(measured, tmp_path):
    path = measured / "feature_tensors_seq_2.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    for script in ("compute_eigvals", "measure_entropy"):
        assert "is damaged" in error_line(run_main(script, measured))
        for change, words in (({"features": torch.full((9, 3), math.nan)}, "not finite"),
                              ({"other": 1}, 'no "features"'),
                              ({"features": torch.ones(9, 3, dtype=torch.int64)}, "not floating-point")):
            torch.save(change, path)
            assert words in error_line(run_main(script, measured))
        path.write_bytes(whole[:len(whole) // 2])
    torch.save({"features": torch.rand(12, 12)}, path)
    assert "no density" in error_line(run_main("measure_entropy", measured))
    torch.save({"features": torch.ones(50, 4)}, path)
    assert run_main("compute_eigvals", measured)[0] == 0
    assert "no more than rounding" in error_line(run_main("measure_entropy", measured))
    assert "make them with save_mid_features.py" in error_line(run_main("compute_eigvals", tmp_path))
    for script in ("draw_CE_vs_entropy", "draw_IntrinsicDim", "draw_SumLogEigval"):
        assert "a line needs 3" in error_line(run_main(script, "--results", measured))
    assert "make it with evaluate_CE.py" in error_line(run_main("draw_CE_vs_context", "--results", tmp_path))
    assert not list(measured.glob("measures*"))


def test_tables_are_read_as_users_have_them(tmp_path, unrendered):
    """A byte-order mark, semicolons, and columns that are no numbers beside those that are needed."""
    text = "context_length;cross_entropy;note\r\n8;3.5;a\r\n4;4.0;b\r\n16;3.2;\r\n32;3.1;c\r\n"
    (tmp_path / "cross_entropy.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    code, printed, err = run_main("draw_CE_vs_context", "--results", tmp_path, "--out_dir", tmp_path)
    assert code == 0 and "C0 " in printed, err
    (tmp_path / "cross_entropy.csv").write_text("context_length,cross_entropy\n8,much\n")
    assert "much" in error_line(run_main("draw_CE_vs_context", "--results", tmp_path))
    for damaged in ("8,3.5,0.1\n16", "8,3.5,0.1,7\n", ",3.5,0.1\n", "8,,0.1\n", "8,nan,0.1\n", "8,3.5,x\n",
                    "8,3.5,-1\n"):
        (tmp_path / "cross_entropy.csv").write_text(f"context_length,cross_entropy,standard_error\n{damaged}")
        assert "cross_entropy.csv" in error_line(run_main("draw_CE_vs_context", "--results", tmp_path))
