"""Measure the spectrum, the intrinsic dimension and the intrinsic entropy of hidden states (paper sections 2 and 3).

    python measure_features.py outputs/runs/bi_mlp_*/features.pt --out_dir outputs/measures
    python measure_features.py features.pt --device cuda --no-entropy

Writes OUT_DIR/measures.csv, a row for each file (results/README.md explains the columns), and OUT_DIR/spectra.pt, whose
"eigenvalues" are a dictionary of the eigenvalues of the features' covariance (float64, divisor n - 1, largest first).
Intrinsic dimensions (how many eigenvalues exceed a share of the largest) and sums of log eigenvalues follow from these:
intrinsic_dimension and log_sums of entropy.py. The KDE entropy is that of the `rank` directions whose variance exceeds
the rounding of the features (entropy.py says by which tolerance). A row is named after the file or, if that is called
features.pt, after its directory. What is up to date is kept, as are, without --no-others, the rows of other files.
"""

from utils import Parser, choose_device, fail, progress, run_main, say

from argparse import BooleanOptionalAction
from pathlib import Path

import torch

from entropy import intrinsic_dimension, kde_entropy, spectrum
from files import identity, load_tensors, lock, make_directory
from measures import COLUMNS, dtype_of, load_known, save_measures


def load_features(path, device):
    """Read a features file: (n, width) on the device, and what else it says. Exits with code 2 if it cannot be used."""
    contents = load_tensors(path, "the features file", device)
    features = contents.pop("features", None)
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) < 2 or features.shape[1] == 0:
        fail(f'the features file {path} has no "features" of shape (n, width); make it with save_feature_tensor.py')
    if not features.isfinite().all():
        fail(f"the features in {path} are not all finite; the model that made them has diverged")
    if not (features != features[0]).any():
        fail(f"the features in {path} are all equal; the model that made them has learned nothing")
    return features, contents


def measure(features, about, dtype, entropy):
    """A row of measures.csv without its name, and the eigenvalues, of (n, width) features computed in `dtype`."""
    components = spectrum(features, dtype)
    row = {"n": len(features), "width": features.shape[1], "dtype": str(dtype).removeprefix("torch."),
           "rank": components.rank, **(kde_entropy(features, components) if entropy else {})}
    return {column: row.get(column, about.get(column)) for column in COLUMNS}, components.eigenvalues.cpu()


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("features", nargs="+", help="files of save_feature_tensor.py")
    parser.add_argument("--out_dir", default="outputs/measures", help="directory for measures.csv and spectra.pt")
    parser.add_argument("--entropy", action=BooleanOptionalAction, default=True, help="measure the KDE entropy too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="measure again what is there")
    parser.add_argument("--others", action=BooleanOptionalAction, default=True,
                        help="keep the rows of files that are not named")
    return parser.parse_args()


def main():
    args = parse_args()
    device = choose_device(args.device)
    out_dir = make_directory(args.out_dir)
    named = {}
    for path in map(Path, args.features):
        name = path.resolve().parent.name if path.name == "features.pt" else path.stem
        if name in named:
            fail(f"{named[name]} and {path} would both be the row {name}; measure them into different --out_dir")
        named[name] = path
    with lock(out_dir / "lock", f"another process measures into {out_dir}; wait for it, or choose another --out_dir"):
        rows, spectra = load_known(out_dir)
        left_out = set() if args.others else rows.keys() - named
        for entries in (rows, *spectra.values()):
            for name in left_out & entries.keys():
                del entries[name]
        for name, path in progress(named.items(), unit="files", desc="measuring"):
            request = {"features": identity(path), "entropy": args.entropy}
            if name in rows and spectra["request"].get(name) == request and not args.overwrite:
                continue
            features, about = load_features(path, device)
            try:
                row, eigenvalues = measure(features, about, dtype_of(about.get("dtype"), features, path), args.entropy)
            except ValueError as error:
                fail(f"{path}: {error}, or skip the entropy with --no-entropy")
            rows[name], spectra["eigenvalues"][name] = {**row, "name": name}, eigenvalues
            save_measures(out_dir, rows, spectra, name, request)
            dimension = intrinsic_dimension(eigenvalues, 0.1)
            say(f"{name}: rank {row['rank']} of {row['width']}, intrinsic dimension {dimension} at threshold 0.1, "
                f"KDE entropy {'not measured' if row['kde_entropy'] is None else format(row['kde_entropy'], '.4f')}")
        if left_out:  # which are in the files as long as nothing was measured
            save_measures(out_dir, rows, spectra, name, request)


if __name__ == "__main__":
    run_main(main)
