"""Eigenvalues against numpy, the entropy against scipy and closed forms, features against the network itself."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from helpers import SMALL_TASKS
from measure_features import covariance_eigenvalues, intrinsic_dimension, kde_entropy, measure, sum_log
from mlp import BiMLP


def correlated(n, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width)) @ rng.standard_normal((width, width)) + 5 * rng.standard_normal(width)


def test_eigenvalues_against_numpy():
    features = correlated(300, 12)
    expected = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2 / 299
    assert covariance_eigenvalues(torch.from_numpy(features)).numpy() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, width, block_size", [(500, 1, 2048), (700, 5, 100), (1000, 64, 333), (300, 250, 64)])
def test_kde_entropy_against_scipy(n, width, block_size):
    features = correlated(n, width)
    expected = -gaussian_kde(features.T).logpdf(features.T).mean()
    assert kde_entropy(torch.from_numpy(features), block_size) == pytest.approx(expected, rel=1e-9)


def test_kde_entropy_moves_with_scale_and_not_with_place():
    features = torch.from_numpy(correlated(800, 6))
    base = kde_entropy(features)
    assert kde_entropy(features + 100) == pytest.approx(base, rel=1e-8)
    assert kde_entropy(3 * features) == pytest.approx(base + 6 * math.log(3), rel=1e-9)
    gaussian = torch.from_numpy(np.random.default_rng(1).standard_normal((4000, 1)))
    assert kde_entropy(gaussian) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.05)


def test_kde_entropy_refuses_singular_covariances():
    for features in (torch.rand(10, 10), torch.cat([torch.rand(50, 2), torch.ones(50, 1)], dim=1)):
        with pytest.raises(ValueError, match="singular"):
            kde_entropy(features)


def test_dimension_is_a_count_and_sums_stop_at_what_is_there():
    eigenvalues = torch.tensor([4.0, 2.0, 1.0, 0.4, 0.0], dtype=torch.float64)
    assert [intrinsic_dimension(eigenvalues, t) for t in (0.6, 0.5, 0.25, 0.2, 0.05)] == [1, 1, 2, 3, 4]
    assert sum_log(eigenvalues, 3) == pytest.approx(math.log(8))
    assert sum_log(eigenvalues, 5) is None and sum_log(eigenvalues, 6) is None
    measures = measure(torch.from_numpy(correlated(400, 12)))
    for kind, values in (("", "relative_eigenvalues"), ("absolute_", "eigenvalues")):
        expected = sum(map(math.log, measures[values][:10]))
        assert measures[f"sum_log_{kind}eigenvalues"]["10"] == pytest.approx(expected)
    assert measures["sum_log_eigenvalues"]["15"] is None


@pytest.fixture
def bi_run(script, small_data, tmp_path):
    script("train_model.py", "--context_length", 9, "--use_bi_mlp", "--batch_size", 50, "--num_epochs", 2,
           "--task_hidden_size", 30, "--next_size", 11)
    return tmp_path / "outputs" / "runs" / "bi_mlp_ctl9_train700_wd0.0001_seed0"


def test_features_are_the_hidden_states_and_hidden_bits_are_one_half(script, bi_run, tmp_path):
    model = BiMLP(9, len(SMALL_TASKS), task_hidden_size=30, next_size=11)
    model.load_state_dict(torch.load(bi_run / "best.pt", weights_only=True))
    bits = torch.load(tmp_path / "data" / "valid.pt", weights_only=True)
    bits = np.unpackbits(bits["packed_bits"].numpy(), axis=1, count=10)[:120, :9].astype(np.float32)
    for visible in (9, 5):
        script("save_feature_tensor.py", "--model_state_dict_position", bi_run, "--valid_dataset_size", 120,
               "--visible_context_length", -1 if visible == 9 else visible)
        saved = torch.load(bi_run / "features.pt", weights_only=True)
        bits[:, visible:] = 0.5
        assert torch.allclose(saved["features"], model.features(torch.from_numpy(bits)), atol=1e-6)
        assert (saved["visible_context_length"], saved["n_visible_tasks"]) == ((9, 5) if visible == 9 else (5, 2))
    assert saved["features"].shape == (120, 11) and not saved["features"].requires_grad


def test_widths_by_flag_give_the_same_features(script, bi_run, tmp_path):
    script("save_feature_tensor.py", "--model_state_dict_position", bi_run)
    (tmp_path / "alone.pt").write_bytes((bi_run / "best.pt").read_bytes())
    script("save_feature_tensor.py", "--model_state_dict_position", "alone.pt", "--save_position", "there.pt",
           "--use_bi_mlp", "--context_length", 9, "--task_hidden_size", 30, "--next_size", 11)
    paths = bi_run / "features.pt", tmp_path / "there.pt"
    one, other = (torch.load(path, weights_only=True)["features"] for path in paths)
    assert torch.equal(one, other)


def test_the_script_measures_what_the_functions_do(script, bi_run, tmp_path):
    script("save_feature_tensor.py", "--model_state_dict_position", bi_run)
    script("measure_features.py", bi_run / "features.pt")
    target = tmp_path / "outputs" / "measures" / f"{bi_run.name}.json"
    measures = json.loads(target.read_text())
    features = torch.load(bi_run / "features.pt", weights_only=True)["features"]
    expected = np.linalg.eigvalsh(np.cov(features.double().numpy().T))[::-1]
    assert measures["eigenvalues"] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert measures["kde_entropy"] == pytest.approx(-gaussian_kde(features.T).logpdf(features.T).mean(), rel=1e-6)
    assert len(measures["intrinsic_dimension"]) == 20 and measures["n_visible_tasks"] == 5
    target.write_text("{}")
    script("measure_features.py", bi_run / "features.pt")
    assert target.read_text() == "{}"  # newer than the features: kept
    script("measure_features.py", bi_run / "features.pt", "--overwrite", "--no-entropy")
    assert json.loads(target.read_text())["kde_entropy"] is None
