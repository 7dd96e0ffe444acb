"""Intrinsic entropy of hidden states and their dimension from nearest neighbours (paper section 2)."""

import math

import torch

from standard_errors import clustered_error
from utils import progress

BLOCK_SIZE = 2048  # points a side of a block of pairs
RESOLVED = 1e-6  # relative error of squared distances up to which neighbours are found by them


def pairs(points, visit, block_size, show_progress=False):
    """Call visit(rows, columns, squared distances) for the blocks of the upper triangle of all pairs of points (n, d).

    The distance of a point to itself is infinite.
    """
    half_norms = points.square().sum(dim=1) / 2
    for i in progress(range(0, len(points), block_size), unit="block", desc="pairs", disable=not show_progress,
                      leave=False):
        rows = slice(i, i + block_size)
        for j in range(i, len(points), block_size):
            columns = slice(j, j + block_size)
            half = torch.addmm(half_norms[columns], points[rows], points[columns].T, alpha=-1)
            half.add_(half_norms[rows, None]).clamp_(min=0)
            if i == j:
                half.fill_diagonal_(math.inf)
            visit(rows, columns, half.mul_(2))


def whiten(features, decomposition, block_size):
    """Features (n, width) in the directions that count, scaled by the kernel: float64 (n, rank), and the scale."""
    n, rank, device = len(features), decomposition.rank, decomposition.mean.device
    scale = (decomposition.eigenvalues[:rank] * n ** (-2 / (rank + 4))).sqrt()  # Scott's factor
    whitened = torch.empty(n, rank, dtype=torch.float64, device=device)
    for start in range(0, n, block_size):
        block = features[start:start + block_size].to(device, torch.float64) - decomposition.mean
        whitened[start:start + block_size] = block @ decomposition.eigenvectors[:, :rank] / scale
    return whitened, scale


def kde_entropies(features, decomposition, block_size=BLOCK_SIZE, show_progress=False):
    """Entropies (nats) of a Gaussian KDE of the rows x_i of (n, width): -mean_i log p(x_i), and its parts.

    The kernel covariance is the features' covariance times the square of Scott's factor n^(-1/(rank + 4)), as in
    scipy.stats.gaussian_kde. Directions that do not count in the Decomposition have no density and are left out.
    "leave_one_out_entropy" takes p(x_i) from the n - 1 other points. In float64, in blocks of block_size^2 pairs, on
    the device of the Decomposition. Raises ValueError where no direction counts, and where the samples are no
    more than the rank + 1: they then lie in as many directions as samples can, whatever their distribution. Source:
    paper section 2.
    """
    n, rank = len(features), decomposition.rank
    if rank == 0:
        raise ValueError("the features vary by no more than rounding; measure another layer or other texts")
    if n <= rank + 1:
        raise ValueError(f"{n} samples in {rank} directions have no density: the KDE needs more than {rank + 1} "
                         "samples, and several times as many to mean much; save more with save_mid_features.py "
                         "--n_samples")
    whitened, scale = whiten(features, decomposition, block_size)
    others = torch.full((n,), -math.inf, dtype=torch.float64, device=whitened.device)  # log of the sum over the others

    def visit(rows, columns, squared):
        exponents = squared.mul_(-0.5)
        others[rows] = torch.logaddexp(others[rows], exponents.logsumexp(dim=1))
        if rows.start != columns.start:
            others[columns] = torch.logaddexp(others[columns], exponents.logsumexp(dim=0))

    pairs(whitened, visit, block_size, show_progress)
    log_determinant_part = rank / 2 * math.log(2 * math.pi) + scale.log().sum().item()
    kernel_part = math.log(n) - torch.logaddexp(others, torch.zeros_like(others)).mean().item()  # its own kernel is 1
    return {"kde_entropy": log_determinant_part + kernel_part, "log_determinant_part": log_determinant_part,
            "leave_one_out_entropy": log_determinant_part + math.log(n - 1) - others.mean().item(), "rank": rank}


def direct_squares(points, others):
    """Squared distances (m, n) of points (m, d) to others (n, d) by differences: near-duplicates keep digits."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square()


def two_nearest(points, block_size=BLOCK_SIZE):
    """Squared distances (n, 2) of each of the points (n, d) to its two nearest neighbours, float64.

    Neighbours are looked for by the norms, |x|^2 + |y|^2 - 2 xy, which loses the digits of small distances; the two
    distances are then taken from the differences, and so are all of a point whose neighbours are too near for that.
    """
    n, found = len(points), []
    centred = points - points.mean(dim=0)
    norms = centred.square().sum(dim=1)
    least = 8 * torch.finfo(torch.float64).eps * norms.max() / RESOLVED
    for start in range(0, n, block_size):
        rows = torch.arange(start, min(start + block_size, n), device=points.device)
        squared = torch.addmm(norms, centred[rows], centred.T, alpha=-2).add_(norms[rows, None])
        squared[torch.arange(len(rows)), rows] = math.inf
        nearest = squared.topk(2, largest=False)
        squares = torch.stack([(points[rows] - points[nearest.indices[:, k]]).square().sum(dim=1) for k in (0, 1)], 1)
        for few in (nearest.values[:, 1] < least).nonzero()[:, 0].split(64):
            exact = direct_squares(points[rows[few]], points)
            exact[torch.arange(len(few)), rows[few]] = math.inf
            squares[few] = exact.topk(2, largest=False).values
        found.append(squares.sort(dim=1).values)
    return torch.cat(found)


def two_nn(features, documents, device="cpu", block_size=BLOCK_SIZE):
    """Intrinsic dimension and its standard error by two nearest neighbours, 1 / mean log(r2 / r1); or (None, None).

    One document alone has no standard error (None). Points that coincide with another one count once. Source: Facco,
    d'Errico, Rodriguez, Laio 2017 (their likelihood).
    """
    unique, first = torch.unique(features, dim=0, return_inverse=True)
    owner = torch.zeros(len(unique), dtype=torch.int64).scatter_(0, first, documents)
    if len(unique) < 3:
        return None, None
    nearest = two_nearest(unique.to(device, torch.float64), block_size).cpu()
    apart = nearest[:, 0] > 0  # squares of the least distances can vanish
    log_ratio = nearest[apart].log() @ torch.tensor([-0.5, 0.5], dtype=torch.float64)
    if not log_ratio.mean() > 0:
        return None, None
    dimension = 1 / log_ratio.mean().item()
    error = clustered_error(log_ratio, owner[apart])
    return dimension, None if error is None else dimension**2 * error


def half_samples(documents, draws, seed=0):
    """`draws` random halves of the documents: masks (n,) over the chunks. The same at every context length.

    Raises ValueError for one document alone, which has no halves.
    """
    names = torch.unique(documents)
    if draws and len(names) < 2:
        raise ValueError("all chunks are of one document")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(draws):
        chosen = names[torch.randperm(len(names), generator=generator)[:len(names) // 2]]
        yield torch.isin(documents, chosen)
