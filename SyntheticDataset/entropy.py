"""Spectrum, intrinsic dimension and intrinsic entropy of hidden states (paper sections 2 and 3), all in float64."""

import math
from typing import NamedTuple

import torch

from utils import progress

THRESHOLDS = (0.002, 0.0025, 0.003, 0.0035, 0.004, 0.005, 0.0075, 0.01, 0.0125, 0.015,
              0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25)  # the paper's


class Spectrum(NamedTuple):
    """Principal components of features (n, width), float64."""

    mean: torch.Tensor  # (width,)
    eigenvalues: torch.Tensor  # (width,), of the covariance with divisor n - 1, largest first
    vectors: torch.Tensor  # (width, width), the eigenvectors as columns
    rank: int  # how many directions count: those whose variance exceeds variance_tolerance


def variance_tolerance(mean_square, largest_eigenvalue, width, dtype):
    """The variance up to which a direction of the features is taken for rounding.

    mean_square: of the features, uncentred, over samples and coordinates. dtype: that in which they were computed. The
    first term is the largest relative error of rounding a feature to dtype, squared; the second the sum of `width`
    float32 roundings inside the last norm; the third is what an eigendecomposition in float64 resolves.
    """
    rounding = (torch.finfo(dtype).eps / 2) ** 2 + width * (torch.finfo(torch.float32).eps / 2) ** 2
    return max(rounding * mean_square, width * torch.finfo(torch.float64).eps * largest_eigenvalue)


def spectrum(features, dtype=None):
    """Principal components of (n, width) features that were computed in `dtype` (None: that of the tensor)."""
    values = features.double()
    mean = values.mean(dim=0)
    centred = values - mean
    eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / (len(features) - 1))
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    tolerance = variance_tolerance(values.square().mean().item(), eigenvalues[0].item(), features.shape[1],
                                   dtype or features.dtype)
    return Spectrum(mean, eigenvalues, vectors, int((eigenvalues > tolerance).sum()))


def intrinsic_dimension(eigenvalues, threshold):
    """How many eigenvalues exceed `threshold` times the largest one (a count, not an index)."""
    return int((eigenvalues / eigenvalues[0] > threshold).sum())


def log_sums(eigenvalues, rank):
    """Sums of log eigenvalues over the first 1, 2, ..., rank ones: (rank,). Of more there is none."""
    return eigenvalues[:rank].log().cumsum(0)


def kernel_entropy(points, block_size=2048):
    """-mean_i log((1/n) sum_j exp(-|z_i - z_j|^2 / 2)) of points (n, d): from 0 (all together) to log n (far apart).

    A point counts itself among the kernels. In blocks of block_size^2 distances, each pair of blocks once.
    """
    n = len(points)
    half_norms = points.square().sum(dim=1) / 2
    # exp is taken of a symmetric matrix. It cannot overflow, and not underflow to 0 either, since the kernel at the
    # point itself contributes 1.
    kernel_sums = torch.zeros(n, dtype=points.dtype, device=points.device)
    starts = range(0, n, block_size)
    for i in progress(starts, unit="block", desc="KDE", leave=False):
        rows = slice(i, i + block_size)
        for j in starts[i // block_size :]:
            columns = slice(j, j + block_size)
            kernels = torch.addmm(-half_norms[columns], points[rows], points[columns].T)
            kernels.sub_(half_norms[rows, None]).exp_()
            kernel_sums[rows] += kernels.sum(dim=1)
            if j > i:
                kernel_sums[columns] += kernels.sum(dim=0)
    return math.log(n) - kernel_sums.log().mean().item()


def kde_entropy(features, components=None, block_size=2048):
    """Entropy (nats) of a Gaussian KDE of the rows x_i of (n, width): -mean_i log p_hat(x_i), and its two parts.

    components: the Spectrum of the features (None: computed here). The entropy is that of the `rank` directions that
    count: features are projected on them, and the kernel covariance is the covariance there times the square of
    Scott's factor n^(-1/(rank + 4)), as in scipy.stats.gaussian_kde. Returns a dictionary with kde_entropy, the sum of
        log_determinant_part   half the log-determinant of 2 pi times the kernel covariance
        kernel_part            the rest, between 0 (all points together) and log n (each one alone)
    Raises ValueError if the samples are too few to tell how many directions count, or none does. Source: section 2.
    """
    n, width = features.shape
    components = components or spectrum(features)
    rank = components.rank
    if rank == 0:
        raise ValueError("the features vary by no more than rounding; the model that made them has learned nothing")
    if n <= rank + 1:  # n samples vary in n - 1 directions whatever they are samples of
        raise ValueError(f"{n} samples vary in {rank} directions, which is as many as so few can; save more samples "
                         f"(more than {width + 1}, one beside the width, are always enough)")
    scale = (components.eigenvalues[:rank] * n ** (-2 / (rank + 4))).sqrt()
    points = (features.double() - components.mean) @ (components.vectors[:, :rank] / scale)
    log_determinant_part = rank / 2 * math.log(2 * math.pi) + scale.log().sum().item()
    kernel_part = kernel_entropy(points, block_size)
    return {"kde_entropy": log_determinant_part + kernel_part, "log_determinant_part": log_determinant_part,
            "kernel_part": kernel_part}
