"""Compute the PCA spectrum of saved hidden states (paper section 2): {l}_eigvals.pt from feature_tensors_seq_{l}.pt.

    python compute_eigvals.py outputs/Llama-3.1-8B [OTHER_MODEL ...]
    python compute_eigvals.py outputs/Llama-3.1-8B --device cuda

A file holds the eigenvalues of the features' covariance (divisor n - 1), largest first: float64 (width,). Means and
second moments are summed in float64, block by block. A spectrum newer than its features is kept, unless --overwrite.
"""

from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from utils import Parser, choose_device, fail, load_tensors, save_tensors

ROWS_AT_ONCE = 1024


def feature_files(directory):
    """{context length: path} of the feature_tensors_seq_{l}.pt in a directory; exits with code 2 if there are none."""
    found = {int(path.stem.rpartition("_")[2]): path for path in Path(directory).glob("feature_tensors_seq_*.pt")}
    if not found:
        fail(f"there are no feature_tensors_seq_*.pt in {directory}; make them with save_mid_features.py")
    return dict(sorted(found.items()))


def load_features(path):
    """What a file of save_mid_features.py holds, features (n, width) first; exits with code 2 if it cannot be used."""
    contents = load_tensors(path, "the features file", mmap=True)
    contents = contents if isinstance(contents, dict) else {"features": contents}
    features = contents.pop("features", None)
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) < 2:
        fail(f'{path} has no "features" of shape (n, width); make it with save_mid_features.py')
    if not all(block.isfinite().all() for block in features.split(ROWS_AT_ONCE)):
        fail(f"{path} has features that are not finite; save them again with --dtype float32 (or bfloat16)")
    return features, contents


def moments(features, device):
    """Mean (width,) and covariance (width, width; divisor n - 1) of the rows of (n, width), float64 on the device."""
    n, width = features.shape
    mean = torch.zeros(width, dtype=torch.float64, device=device)
    for block in features.split(ROWS_AT_ONCE):
        mean += block.to(device, torch.float64).sum(dim=0)
    mean /= n
    covariance = torch.zeros(width, width, dtype=torch.float64, device=device)
    for block in features.split(ROWS_AT_ONCE):
        centred = block.to(device, torch.float64) - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / (n - 1)


def eigenvalues(features, device):
    """Eigenvalues of the covariance of (n, width), largest first: float64 (width,) on the CPU."""
    return torch.linalg.eigvalsh(moments(features, device)[1]).flip(0).clamp(min=0).cpu()


def main():
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", help="directories of save_mid_features.py")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="compute again what is there")
    args = parser.parse_args()
    device = choose_device(args.device)
    files = [(length, path) for directory in args.results for length, path in feature_files(directory).items()]
    for length, path in tqdm(files, desc="spectra", unit="file"):
        target = path.with_name(f"{length}_eigvals.pt")
        if target.exists() and target.stat().st_mtime >= path.stat().st_mtime and not args.overwrite:
            continue
        save_tensors(target, eigenvalues(load_features(path)[0], device))


if __name__ == "__main__":
    main()
