"""PCA spectra of saved hidden states: the eigenvalues of their covariance (paper section 2).

    python compute_eigvals.py outputs/Llama-3.1-8B [OTHER_MODEL ...]
    python compute_eigvals.py outputs/Llama-3.1-8B --device cuda

For each feature_tensors_seq_{l}.pt, puts into spectra.pt of its directory: {l: {"eigenvalues": float64 (width,), of the
covariance with divisor n - 1, largest first; "rank": directions whose variance is more than rounding; "n": samples;
"request"}}. measure_entropy.py does the same on its way, so that this script is for spectra alone. A spectrum that was
made from the same features is kept, unless --overwrite.
"""

from utils import Parser, choose_device, progress, run_main

from argparse import BooleanOptionalAction
from pathlib import Path

from features import feature_files, load_features
from files import identity, lock
from spectra import decompose, is_current, load_spectra, save_spectrum, spectrum_request


def main():
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", help="directories of save_mid_features.py")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="compute again what is there")
    args = parser.parse_args()
    device = choose_device(args.device)
    for directory in args.results:
        files = feature_files(directory)
        with lock(Path(directory) / "lock"):
            for length, path in progress(files.items(), desc=f"spectra of {directory}", unit="file"):
                request = spectrum_request(identity(path))
                if args.overwrite or not is_current(load_spectra(directory), length, request):
                    features, about = load_features(path)
                    save_spectrum(directory, length, decompose(features, about["dtype"], device), request)


if __name__ == "__main__":
    run_main(main)
