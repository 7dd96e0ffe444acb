"""Measure the intrinsic dimension and the intrinsic entropy of saved hidden states (paper sections 2 and 3).

    python measure_features.py outputs/runs/bi_mlp_*/features.pt --out_dir outputs/measures
    python measure_features.py features.pt --device cuda --no-entropy

For each file, writes OUT_DIR/NAME.json, NAME from the file's directory or, if the file is not called features.pt, from
the file; one that is there already and newer than the features is kept, unless --overwrite. Its entries:
    eigenvalues              of the features' covariance (divisor n - 1), largest first
    relative_eigenvalues     the same over the largest
    intrinsic_dimension      for each threshold, how many relative eigenvalues exceed it
    sum_log_eigenvalues      for each N, sum of log(relative eigenvalue) over the first N: the paper's entropy proxy;
                             null where an eigenvalue is not positive or the features have fewer dimensions
    sum_log_absolute_eigenvalues   the same without dividing by the largest
    kde_entropy              Gaussian-KDE entropy in nats
"""

import math
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from utils import Parser, choose_device, fail, load_tensors, make_directory, save_json

THRESHOLDS = (0.002, 0.0025, 0.003, 0.0035, 0.004, 0.005, 0.0075, 0.01, 0.0125, 0.015,
              0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25)
N_COMPONENTS = (3, 4, 5, 6, 10, 15, 25, 35, 45, 50, 80, 100, 120, 150, 200, 300, 450, 600, 750,
                1000, 1300, 1500, 1800, 2000)


def covariance(features):
    """Covariance (width, width) of the rows of (n, width), divisor n - 1, in float64."""
    centred = features.double() - features.double().mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def covariance_eigenvalues(features):
    """Eigenvalues of the covariance of (n, width), largest first: float64 (width,). Source: paper section 3, PCA."""
    return torch.linalg.eigvalsh(covariance(features)).flip(0)


def intrinsic_dimension(eigenvalues, threshold):
    """How many eigenvalues exceed `threshold` times the largest one (a count, not an index)."""
    return int((eigenvalues / eigenvalues[0] > threshold).sum())


def sum_log(eigenvalues, n_components):
    """Sum of log over the first n_components eigenvalues; None if there are fewer or one is not positive."""
    first = eigenvalues[:n_components]
    if len(first) < n_components or not (first > 0).all():
        return None
    return first.log().sum().item()


def kde_entropy(features, block_size=2048, progress=False):
    """Entropy (nats) of a Gaussian KDE of the rows x_i of (n, width): -mean_i log p_hat(x_i).

    The kernel covariance is the features' covariance times the square of Scott's factor n^(-1/(width + 4)), as in
    scipy.stats.gaussian_kde; a point counts itself among the kernels. In float64, in blocks of block_size^2 distances.
    Raises ValueError if the covariance is singular, as it is for n <= width. Source: paper section 2.
    """
    n, width = features.shape
    if n <= width:
        raise ValueError("the covariance of the features is singular")
    centred = features.double() - features.double().mean(dim=0)
    factor = torch.linalg.cholesky_ex(covariance(features) * n ** (-2 / (width + 4)))
    log_diagonal = factor.L.diagonal().log().sum().item() if factor.info == 0 else -math.inf
    if not math.isfinite(log_diagonal):
        raise ValueError("the covariance of the features is singular")
    whitened = torch.linalg.solve_triangular(factor.L, centred.T, upper=False).T.contiguous()
    half_norms = whitened.square().sum(dim=1) / 2
    # log sum_j exp(-|z_i - z_j|^2 / 2), each pair of blocks once: exp is taken of a symmetric matrix. It cannot
    # overflow, and not underflow to 0 either, since the kernel at the point itself contributes 1.
    kernel_sums = torch.zeros(n, dtype=torch.float64, device=features.device)
    starts = range(0, n, block_size)
    for i in tqdm(starts, unit="block", desc="KDE", disable=not progress, leave=False):
        rows = slice(i, i + block_size)
        for j in starts[i // block_size :]:
            columns = slice(j, j + block_size)
            kernels = torch.addmm(-half_norms[columns], whitened[rows], whitened[columns].T)
            kernels.sub_(half_norms[rows, None]).exp_()
            kernel_sums[rows] += kernels.sum(dim=1)
            if j > i:
                kernel_sums[columns] += kernels.sum(dim=0)
    log_density = kernel_sums.log().mean().item() - math.log(n) - width / 2 * math.log(2 * math.pi) - log_diagonal
    return -log_density


def measure(features, entropy=True):
    """All measures of (n, width) features as a dictionary of plain values, the columns described above."""
    eigenvalues = covariance_eigenvalues(features)
    relative = eigenvalues / eigenvalues[0]
    return {
        "n": len(features),
        "eigenvalues": eigenvalues.tolist(),
        "relative_eigenvalues": relative.tolist(),
        "intrinsic_dimension": {str(t): intrinsic_dimension(eigenvalues, t) for t in THRESHOLDS},
        "sum_log_eigenvalues": {str(n): sum_log(relative, n) for n in N_COMPONENTS},
        "sum_log_absolute_eigenvalues": {str(n): sum_log(eigenvalues, n) for n in N_COMPONENTS},
        "kde_entropy": kde_entropy(features, progress=True) if entropy else None,
    }


def load_features(path, device):
    """Read a features file: (n, width) on the device, and what else it says. Exits with code 2 if it cannot be used."""
    contents = load_tensors(path, "the features file", device)
    features = contents.pop("features", None)
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) < 2:
        fail(f'the features file {path} has no "features" of shape (n, width); make it with save_feature_tensor.py')
    if not features.isfinite().all():
        fail(f"the features in {path} are not all finite; the model that made them has diverged")
    if not (features != features[0]).any():
        fail(f"the features in {path} are all equal; the model that made them has learned nothing")
    return features, contents


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("features", nargs="+", help="files of save_feature_tensor.py")
    parser.add_argument("--out_dir", default="outputs/measures", help="directory for the JSON files")
    parser.add_argument("--entropy", action=BooleanOptionalAction, default=True, help="measure the KDE entropy too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="measure again what is there")
    return parser.parse_args()


def main():
    args = parse_args()
    device = choose_device(args.device)
    out_dir = make_directory(args.out_dir)
    for path in map(Path, tqdm(args.features, unit="file", desc="measuring")):
        name = path.resolve().parent.name if path.name == "features.pt" else path.stem
        target = out_dir / f"{name}.json"
        if target.exists() and target.stat().st_mtime > path.stat().st_mtime and not args.overwrite:
            continue
        features, about = load_features(path, device)
        try:
            save_json(target, {**about, **measure(features, args.entropy)})
        except ValueError as error:
            fail(f"{path}: {error}: {len(features)} samples of width {features.shape[1]}; save more samples than "
                 "the width, or skip the entropy with --no-entropy")


if __name__ == "__main__":
    main()
