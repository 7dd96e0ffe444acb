"""Spectra, entropies and dimensions against numpy, scipy, scikit-learn, closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from entropies import half_samples, kde_entropies, two_nn
from helpers import make_model
from plotting import Spectrum
from scorer import Scorer
from spectra import decompose
from standard_errors import clustered_error


def correlated(n, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
                            + 5 * rng.standard_normal(width))


def entropies(features, dtype="float64", **options):
    return kde_entropies(features, decompose(features, dtype), **options)


def test_the_decomposition_is_that_of_scikit_learn():
    features = correlated(2500, 12).float()
    found, expected = decompose(features, "float32"), PCA().fit(features.double().numpy())
    assert found.eigenvalues.numpy() == pytest.approx(expected.explained_variance_, rel=1e-9)
    assert abs(found.eigenvectors.T.numpy() * expected.components_).sum(axis=1) == pytest.approx(np.ones(12))
    assert found.mean.numpy() == pytest.approx(expected.mean_) and (found.rank, found.n) == (12, 2500)


@pytest.mark.parametrize("n, width, block_size", [(500, 1, 2048), (700, 5, 100), (1000, 64, 333), (300, 250, 64)])
def test_kde_entropy_against_scipy_and_the_others_by_brute_force(n, width, block_size):
    features = correlated(n, width)
    found = entropies(features, block_size=block_size)
    kde = gaussian_kde(features.T.numpy())
    assert found["kde_entropy"] == pytest.approx(-kde.logpdf(features.T.numpy()).mean(), rel=1e-9)
    assert found["log_determinant_part"] == pytest.approx(
        0.5 * np.linalg.slogdet(2 * math.pi * np.atleast_2d(kde.covariance))[1], rel=1e-9)
    assert 0 <= found["kde_entropy"] - found["log_determinant_part"] <= math.log(n) + 1e-9
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


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e-18, 1e-8])
def test_directions_that_never_vary_are_left_out(scale, rotated):
    """Five directions of (almost) no variance beside fifteen: the entropy is that of the coordinates in the others."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3000, 20))
    points[:, 15:] *= scale
    basis = np.linalg.qr(rng.standard_normal((20, 20)))[0] if rotated else np.eye(20)
    found = entropies(torch.from_numpy(points @ basis).float(), "float32")
    assert found["rank"] == 15
    expected = gaussian_kde(points[:, :15].T)
    assert found["kde_entropy"] == pytest.approx(-expected.logpdf(points[:, :15].T).mean(), rel=1e-5)
    assert entropies(torch.from_numpy(points @ basis))["rank"] == 15


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("architecture, rank, tolerance", [("gpt_neox", 63, 0.05), ("llama", 64, 0.05)])
def test_the_precision_of_the_model_changes_neither_rank_nor_entropy(architecture, rank, tolerance, seed):
    """A LayerNorm leaves one direction without variance, which bfloat16 fills with rounding; an RMSNorm leaves none."""
    tokens = torch.randint(300, (1500, 8), generator=torch.Generator().manual_seed(5))
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = make_model(architecture, 300, width=64, seed=seed).to(getattr(torch, dtype))
        states = torch.cat([Scorer(model).score_batch(torch.nn.functional.pad(batch, (0, 1)))[1]
                            for batch in tokens.split(100)])
        found[dtype] = entropies(states, dtype)
        assert found[dtype]["rank"] == rank
    filled = entropies(states, "float32")  # bfloat16 states taken for float32 ones
    assert filled["rank"] == 64
    for name in ("kde_entropy", "log_determinant_part"):
        assert found["bfloat16"][name] == pytest.approx(found["float32"][name], abs=tolerance)
        if rank == 63:
            assert abs(filled[name] - found["float32"][name]) > 3


def test_too_few_samples_for_their_directions_are_refused():
    for n in (5, 12, 13):  # 13 samples span 12 directions whatever they are
        with pytest.raises(ValueError, match="samples in"):
            entropies(correlated(n, 12))
    assert entropies(correlated(14, 12))["rank"] == 12
    flat = correlated(50, 5) @ correlated(5, 60)  # fewer samples than coordinates, but more than directions
    assert entropies(flat)["rank"] == 5
    with pytest.raises(ValueError, match="no more than rounding"):
        entropies(torch.ones(50, 4))


def test_dimension_is_a_count_and_sums_stop_at_the_rank():
    spectrum = Spectrum(np.array([4.0, 2.0, 1.0, 0.4, 1e-17]), rank=4)
    assert [spectrum.dimension(threshold) for threshold in (0.25, 0.2, 0.1, 0.05)] == [2, 3, 3, 4]
    assert spectrum.sum_log(3) == pytest.approx(math.log(0.5 * 0.25))
    assert spectrum.sum_log(4) == pytest.approx(math.log(0.5 * 0.25 * 0.1))
    assert spectrum.sum_log(5) is None and spectrum.sum_log(6) is None


def test_two_nearest_neighbours_find_the_dimension():
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(rng.uniform(size=(3000, 3)) @ rng.standard_normal((3, 20)))
    documents = torch.arange(3000)
    dimension, error = two_nn(flat, documents, block_size=700)
    assert dimension == pytest.approx(3, abs=4 * error) and 0.02 < error < 0.2
    nearest = NearestNeighbors(n_neighbors=3, algorithm="kd_tree").fit(flat.numpy()).kneighbors()[0]
    assert dimension == pytest.approx(1 / np.log(nearest[:, 1] / nearest[:, 0]).mean(), rel=1e-9)
    twice = two_nn(torch.cat((flat, flat)), torch.cat((documents, documents)))
    assert twice == pytest.approx((dimension, error))


def two_nn_by_hand(points):
    """The dimension from the differences of all pairs, one point at a time."""
    ratios = []
    for index, point in enumerate(points):
        distances = np.sort(np.sqrt(((np.delete(points, index, axis=0) - point) ** 2).sum(axis=1)))
        ratios.append(math.log(distances[1] / distances[0]))
    return 1 / np.mean(ratios)


@pytest.mark.parametrize("near", [1e-6, 1e-9, 1e-12])
def test_near_duplicates_keep_the_digits_of_their_distances(near):
    rng = np.random.default_rng(3)
    points = rng.standard_normal((150, 8)) + 5
    points = np.concatenate((points, points + near * rng.standard_normal((150, 8)),
                             points[:50] + 3 * near * rng.standard_normal((50, 8))))
    dimension, _ = two_nn(torch.from_numpy(points), torch.arange(350), block_size=64)
    assert dimension == pytest.approx(two_nn_by_hand(points), rel=1e-9)


def test_standard_errors_count_documents_not_chunks():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, generator=generator, dtype=torch.float64)
    alone = clustered_error(values, torch.arange(400))
    assert alone == pytest.approx(values.std(correction=0).item() / 20)
    copies = clustered_error(values.repeat_interleave(5), torch.arange(400).repeat_interleave(5))
    assert clustered_error(values, torch.zeros(400)) is None  # one document says nothing about the spread
    assert copies == pytest.approx(alone)  # five copies of a chunk say no more than one
    with pytest.raises(ValueError, match="one document"):
        next(half_samples(torch.zeros(400), 400))
    spread = [values[mask].mean() for mask in half_samples(torch.arange(400), 400)]
    assert torch.tensor(spread).std().item() == pytest.approx(alone, rel=0.15)  # a half sample has the whole's error
