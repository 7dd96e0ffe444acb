"""Eigenvalues against numpy, the entropy against scipy and closed forms, features against the network itself."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, ortho_group

from entropy import intrinsic_dimension, kde_entropy, log_sums, spectrum
from helpers import SMALL_TASKS
from measures import load_measures
from mlp import BiMLP


def correlated(n, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width)) @ rng.standard_normal((width, width)) + 5 * rng.standard_normal(width)


def scipy_entropy(features):
    return -gaussian_kde(features.T).logpdf(features.T).mean()


def entropy_of(features, **options):
    return kde_entropy(torch.as_tensor(features), **options)["kde_entropy"]


def test_the_spectrum_against_numpy():
    features = correlated(300, 12)
    _, singular, right = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    found = spectrum(torch.from_numpy(features))
    assert found.eigenvalues.numpy() == pytest.approx(singular**2 / 299, rel=1e-9) and found.rank == 12
    assert np.abs((right @ found.vectors.numpy()).diagonal()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("n, width, block_size", [(500, 1, 2048), (700, 5, 100), (1000, 64, 333), (300, 250, 64),
                                                  (22, 20, 64)])
def test_the_entropy_of_full_rank_is_scipys(n, width, block_size):
    features = correlated(n, width)
    found = kde_entropy(torch.from_numpy(features), block_size=block_size)
    assert found["kde_entropy"] == pytest.approx(scipy_entropy(features), rel=1e-9)
    determinant = np.linalg.slogdet(2 * np.pi * gaussian_kde(features.T).covariance)[1] / 2
    assert found["log_determinant_part"] == pytest.approx(determinant, rel=1e-9)
    assert 0 < found["kernel_part"] <= math.log(n) + 1e-9


def test_the_entropy_moves_with_scale_and_not_with_place():
    features = torch.from_numpy(correlated(800, 6))
    base = entropy_of(features)
    assert entropy_of(features + 100) == pytest.approx(base, rel=1e-8)
    assert entropy_of(3 * features) == pytest.approx(base + 6 * math.log(3), rel=1e-9)
    gaussian = torch.from_numpy(np.random.default_rng(1).standard_normal((4000, 1)))
    assert entropy_of(gaussian) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.05)


@pytest.mark.parametrize("smallest, rotated", [(1e-18, False), (1e-8, True), (0.0, True)])
def test_directions_without_variance_do_not_count(smallest, rotated):
    """The entropy of 20 columns, five of them nothing beside the float32 rounding, is that of the 15 others."""
    features = np.random.default_rng(0).standard_normal((3000, 20))
    features[:, 15:] *= smallest
    turned = features @ ortho_group.rvs(20, random_state=1) if rotated else features
    turned = torch.from_numpy(turned).float()
    components = spectrum(turned)
    assert components.rank == 15
    assert entropy_of(turned, components=components) == pytest.approx(scipy_entropy(features[:, :15]), abs=1e-4)
    assert len(log_sums(components.eigenvalues, components.rank)) == 15  # of more there is none


def test_float32_and_bfloat16_features_of_a_model_agree():
    """Behind a LayerNorm one direction never varies; bfloat16 fills it with rounding, which does not count."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(100, 64), torch.nn.Tanh(), torch.nn.LayerNorm(64))
    inputs = torch.randn(4000, 100)
    with torch.no_grad():
        exact, rounded = model(inputs), model.bfloat16()(inputs.bfloat16()).float()
    found = {dtype: spectrum(features, dtype) for features, dtype in ((exact, torch.float32),
                                                                      (rounded, torch.bfloat16))}
    assert [components.rank for components in found.values()] == [63, 63]
    assert spectrum(rounded, torch.float32).rank == 64  # taken for exact, the rounding counts ...
    first = entropy_of(exact, components=found[torch.float32])
    assert entropy_of(rounded, components=found[torch.bfloat16]) == pytest.approx(first, abs=0.1)
    assert abs(entropy_of(rounded) - first) > 2  # ... and moves the entropy


def test_too_few_samples_are_refused_and_low_rank_is_not():
    with pytest.raises(ValueError, match="save more samples"):
        kde_entropy(torch.rand(10, 10))
    plane = torch.rand(50, 2, dtype=torch.float64) @ torch.rand(2, 100, dtype=torch.float64)  # fewer samples than width
    assert spectrum(plane).rank == 2 and math.isfinite(entropy_of(plane))


def test_the_dimension_is_a_count():
    eigenvalues = torch.tensor([4.0, 2.0, 1.0, 0.4, 0.0], dtype=torch.float64)
    assert [intrinsic_dimension(eigenvalues, t) for t in (0.6, 0.5, 0.25, 0.2, 0.05)] == [1, 1, 2, 3, 4]
    assert log_sums(eigenvalues, 3).tolist() == pytest.approx([math.log(4), math.log(8), math.log(8)])


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
    flags = ("save_feature_tensor.py", "--model_state_dict_position", bi_run, "--valid_dataset_size", 120)
    for visible in (9, 5):
        script(*flags, "--visible_context_length", -1 if visible == 9 else visible)
        saved = torch.load(bi_run / "features.pt", weights_only=True)
        bits[:, visible:] = 0.5
        assert torch.allclose(saved["features"], model.features(torch.from_numpy(bits)), atol=1e-6)
        assert (saved["visible_context_length"], saved["n_visible_tasks"]) == ((9, 5) if visible == 9 else (5, 2))
    assert saved["features"].shape == (120, 11) and not saved["features"].requires_grad
    script(*flags, "--visible_context_length", 5, 9)
    both = torch.load(bi_run / "features" / f"{bi_run.name}_visible5.pt", weights_only=True)
    assert torch.equal(both["features"], saved["features"])


def test_widths_by_flag_give_the_same_features(script, bi_run, tmp_path):
    script("save_feature_tensor.py", "--model_state_dict_position", bi_run)
    (tmp_path / "alone.pt").write_bytes((bi_run / "best.pt").read_bytes())
    script("save_feature_tensor.py", "--model_state_dict_position", "alone.pt", "--save_position", "there.pt",
           "--use_bi_mlp", "--context_length", 9, "--task_hidden_size", 30, "--next_size", 11)
    paths = bi_run / "features.pt", tmp_path / "there.pt"
    first, second = (torch.load(path, weights_only=True)["features"] for path in paths)
    assert torch.equal(first, second)


def test_the_script_measures_what_the_functions_do(script, bi_run, tmp_path):
    script("save_feature_tensor.py", "--model_state_dict_position", bi_run)
    assert "rank 11 of 11" in script("measure_features.py", bi_run / "features.pt").stdout
    row, = load_measures(tmp_path / "outputs" / "measures")
    features = torch.load(bi_run / "features.pt", weights_only=True)["features"].double().numpy()
    expected = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    assert row["eigenvalues"].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert row["kde_entropy"] == pytest.approx(scipy_entropy(features), rel=1e-6)
    assert (row["name"], row["n"], row["rank"], row["n_visible_tasks"], row["dtype"]) == (
        bi_run.name, 300, 11, 5, "float32")
    assert "threshold 0.1" in script("draw_intrinsic_dimension.py").stdout
