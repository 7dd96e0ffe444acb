"""Measure intrinsic entropy and intrinsic dimension of saved hidden states (paper section 2).

    python measure_entropy.py outputs/Llama-3.1-8B [OTHER_MODEL ...]
    python measure_entropy.py outputs/Llama-3.1-8B --device cuda --draws 50

For each feature_tensors_seq_{l}.pt (with its {l}_eigvals.pt of compute_eigvals.py) writes measures_seq_{l}.json:
    kde_entropy                S(l) in nats: -mean log density of a Gaussian KDE, full covariance, Scott's factor
    log_determinant_part       of it: half the log-determinant of 2 pi times the kernel covariance
    rank                       directions in which the features vary; the others are left out of the entropies
    kernel_part                the rest, between 0 (points far apart) and log n (points all together)
    leave_one_out_entropy      the same with each point's density from the others alone
    intrinsic_dimension        for each threshold, how many eigenvalues exceed it times the largest
    sum_log_eigenvalues        for each N, sum over the first N of log(eigenvalue / largest), null where there is none
    sum_log_absolute_eigenvalues   the same without dividing by the largest
    two_nn_dimension           from the ratios of distances to the two nearest neighbours (Facco et al. 2017)
    cross_entropy              of the same chunks
Each *_standard_error is a bootstrap over documents, half a sample at a time: each of --draws draws takes a random half
without repetition, whose spread is that of the whole sample. (Drawing with repetition would put points on each other,
which no KDE survives.) The draws are the same documents at every context length and are kept ("draws"), so that what
is fitted to the measures has intervals too. entropy.csv holds the single numbers, one row a context length.
"""

import csv
import math
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from compute_eigvals import feature_files, load_features, moments
from measurement import document_standard_error
from utils import (
    Parser, choose_device, fail, load_json, load_tensors, non_negative_int, replacing, save_json, say,
)

THRESHOLDS = (0.002, 0.0025, 0.003, 0.0035, 0.004, 0.005, 0.0075, 0.01, 0.0125, 0.015,
              0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25)
RANK_TOLERANCE = 1e-12  # of the largest eigenvalue: above the square of float32's rounding, far below what is used
N_COMPONENTS = (3, 4, 5, 6, 10, 15, 25, 35, 45, 50, 80, 100, 120, 150, 200, 300, 450, 600, 750,
                1000, 1300, 1500, 1800, 2000)
COLUMNS = ("context_length", "n", "width", "rank", "cross_entropy", "cross_entropy_standard_error", "kde_entropy",
           "kde_entropy_standard_error", "log_determinant_part", "kernel_part", "leave_one_out_entropy",
           "leave_one_out_entropy_standard_error", "two_nn_dimension", "two_nn_dimension_standard_error")


def spectrum_measures(eigenvalues):
    """Intrinsic dimensions and sums of log eigenvalues of eigenvalues (width,), largest first."""
    relative = eigenvalues / eigenvalues[0]
    rank = int((relative > RANK_TOLERANCE).sum())

    def sums(values):
        logs = values.log().cumsum(0)
        return {str(n): logs[n - 1].item() if n <= rank else None for n in N_COMPONENTS}

    return {"intrinsic_dimension": {str(t): int((relative > t).sum()) for t in THRESHOLDS},
            "sum_log_eigenvalues": sums(relative), "sum_log_absolute_eigenvalues": sums(eigenvalues)}


def neighbour_pass(points, visit, block_size, progress=False):
    """Call visit(rows, columns, squared distances) for the blocks of the upper triangle of all pairs of points (n, d).

    The distance of a point to itself is infinite.
    """
    half_norms = points.square().sum(dim=1) / 2
    starts = range(0, len(points), block_size)
    for i in tqdm(starts, unit="block", desc="pairs", disable=not progress, leave=False):
        rows = slice(i, i + block_size)
        for j in range(i, len(points), block_size):
            columns = slice(j, j + block_size)
            half = torch.addmm(half_norms[columns], points[rows], points[columns].T, alpha=-1)
            half.add_(half_norms[rows, None]).clamp_(min=0)
            if i == j:
                half.fill_diagonal_(math.inf)
            visit(rows, columns, half.mul_(2))


def decompose(features, device):
    """Mean (width,), eigenvalues (width,) and eigenvectors (width, width) of the covariance, largest first, float64.

    Eigenvalues that are nothing but the rounding of float32 features are zero.
    """
    mean, covariance = moments(features, device)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.flip(0)
    return mean, torch.where(values > RANK_TOLERANCE * values[0], values, 0.0), vectors.flip(1)


def kde_entropies(features, decomposition, block_size=2048, progress=False):
    """Entropies (nats) of a Gaussian KDE of the rows x_i of (n, width): -mean_i log p(x_i), and its parts.

    The kernel covariance is the features' covariance times the square of Scott's factor n^(-1/(rank + 4)), as in
    scipy.stats.gaussian_kde. Directions in which the features do not vary (one behind every LayerNorm) have no density
    and are left out; `rank` says how many remain. "leave_one_out_entropy" takes p(x_i) from the n - 1 other points. In
    float64, in blocks of block_size^2 pairs, on the device of `decomposition` (what decompose returns). Raises
    ValueError for n <= width or features that are all the same. Source: paper section 2.
    """
    n, width = features.shape
    if n <= width:
        raise ValueError(f"{n} samples of width {width} have a singular covariance: the KDE needs more than {width} "
                         f"samples, and several times as many to mean much")
    mean, values, vectors = decomposition
    rank = int((values > 0).sum())
    if rank == 0:
        raise ValueError("the features are all the same")
    scale = (values[:rank] * n ** (-2 / (rank + 4))).sqrt()
    device = mean.device
    whitened = torch.empty(n, rank, dtype=torch.float64, device=device)
    for start in range(0, n, block_size):
        block = features[start:start + block_size].to(device, torch.float64) - mean
        whitened[start:start + block_size] = block @ vectors[:, :rank] / scale
    others = torch.full((n,), -math.inf, dtype=torch.float64, device=device)  # log of the sum over the other points

    def visit(rows, columns, squared):
        exponents = squared.mul_(-0.5)
        others[rows] = torch.logaddexp(others[rows], exponents.logsumexp(dim=1))
        if rows.start != columns.start:
            others[columns] = torch.logaddexp(others[columns], exponents.logsumexp(dim=0))

    neighbour_pass(whitened, visit, block_size, progress)
    log_determinant_part = rank / 2 * math.log(2 * math.pi) + scale.log().sum().item()
    kernel_part = math.log(n) - torch.logaddexp(others, torch.zeros_like(others)).mean().item()  # its own kernel is 1
    return {"kde_entropy": log_determinant_part + kernel_part, "log_determinant_part": log_determinant_part,
            "kernel_part": kernel_part, "rank": rank,
            "leave_one_out_entropy": log_determinant_part + math.log(n - 1) - others.mean().item()}


def two_nn(features, documents, device="cpu", block_size=2048):
    """Intrinsic dimension (and its standard error) by two nearest neighbours: 1 / mean log(r2 / r1).

    Points that coincide with another one count once. Source: Facco, d'Errico, Rodriguez, Laio 2017 (their likelihood).
    """
    unique, first = torch.unique(features, dim=0, return_inverse=True)
    owner = torch.zeros(len(unique), dtype=torch.int64).scatter_(0, first, documents)
    if len(unique) < 3:
        return None, None
    points = unique.to(device, torch.float64)
    nearest = torch.full((len(points), 2), math.inf, dtype=torch.float64, device=device)

    def keep(where, squared):
        candidates = torch.cat((nearest[where], squared.topk(min(2, squared.shape[1]), largest=False).values), dim=1)
        nearest[where] = candidates.topk(2, largest=False).values

    def visit(rows, columns, squared):
        keep(rows, squared)
        if rows.start != columns.start:
            keep(columns, squared.T)

    neighbour_pass(points - points.mean(dim=0), visit, block_size)
    nearest, owner = nearest.cpu(), owner[nearest[:, 0].cpu() > 0]
    log_ratio = (nearest[nearest[:, 0] > 0].log() @ torch.tensor([-0.5, 0.5], dtype=torch.float64))
    dimension = 1 / log_ratio.mean().item()
    return dimension, dimension**2 * document_standard_error(log_ratio, owner)


def half_samples(documents, draws, seed=0):
    """`draws` random halves of the documents: masks (n,) over the chunks. The same at every context length."""
    names = torch.unique(documents)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(draws):
        chosen = names[torch.randperm(len(names), generator=generator)[:max(1, len(names) // 2)]]
        yield torch.isin(documents, chosen)


def flatten(measures):
    """{"intrinsic_dimension": {"0.1": 3}} -> {"intrinsic_dimension/0.1": 3}: the single numbers of a measure."""
    flat = {}
    for name, value in measures.items():
        flat |= {f"{name}/{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def measure(path, spectrum, device, draws):
    """All measures of a file of features as a dictionary of plain values. Raises ValueError as kde_entropies does."""
    features, about = load_features(path)
    n, width = features.shape
    documents = about.get("documents", torch.arange(n)).long()
    losses = about.get("losses")
    measures = {**kde_entropies(features, decompose(features, device), progress=True), **spectrum_measures(spectrum)}
    dimension, error = two_nn(features, documents, device)
    measures |= {"two_nn_dimension": dimension, "two_nn_dimension_standard_error": error}
    if losses is not None:
        measures |= {"cross_entropy": losses.mean().item(),
                     "cross_entropy_standard_error": document_standard_error(losses, documents)}
    drawn = []
    for mask in tqdm(half_samples(documents, draws), total=draws, desc=path.stem, unit="draw", leave=False):
        half = features[mask]
        if len(half) <= width:
            say(f"{path}: no standard errors, half of {n} samples are not more than the width {width}")
            drawn = []
            break
        decomposition = decompose(half, device)
        drawn.append(flatten({**kde_entropies(half, decomposition), **spectrum_measures(decomposition[1].cpu()),
                              **({} if losses is None else {"cross_entropy": losses[mask].mean().item()})}))
    draws = {name: [draw[name] for draw in drawn] for name in (drawn[0] if drawn else ())}
    draws = {name: values for name, values in draws.items() if None not in values}
    for name in ("kde_entropy", "leave_one_out_entropy"):
        values = torch.tensor(draws.get(name, ()), dtype=torch.float64)
        measures[f"{name}_standard_error"] = values.std().item() if len(values) > 1 else None
    return {"context_length": about.get("context_length", int(path.stem.rpartition("_")[2])), "n": n, "width": width,
            "layer": about.get("layer"), **measures, "draws": draws}


def write_entropy_table(directory):
    """Write entropy.csv from the measures_seq_{l}.json that are there."""
    found = [load_json(path, "measures") for path in Path(directory).glob("measures_seq_*.json")]
    path = Path(directory) / "entropy.csv"
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(found, key=lambda row: row["context_length"]))


def main():
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", help="directories of save_mid_features.py")
    parser.add_argument("--draws", type=non_negative_int, default=20, help="half samples for the standard errors; or 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="measure again what is there")
    args = parser.parse_args()
    device = choose_device(args.device)
    for directory in args.results:
        for length, path in tqdm(feature_files(directory).items(), desc=str(directory), unit="file"):
            target, spectrum = path.with_name(f"measures_seq_{length}.json"), path.with_name(f"{length}_eigvals.pt")
            if not target.exists() or target.stat().st_mtime < path.stat().st_mtime or args.overwrite:
                if not spectrum.exists() or spectrum.stat().st_mtime < path.stat().st_mtime:
                    fail(f"{spectrum} is missing or older than the features; run compute_eigvals.py {directory} first")
                try:
                    save_json(target, measure(path, load_tensors(spectrum, "the spectrum"), device, args.draws))
                except ValueError as error:
                    fail(f"{path}: {error}; save more with save_mid_features.py --n_samples")
            write_entropy_table(directory)


if __name__ == "__main__":
    main()
