"""Measure intrinsic entropy and intrinsic dimension of saved hidden states (paper section 2).

    python measure_entropy.py outputs/Llama-3.1-8B [OTHER_MODEL ...]
    python measure_entropy.py outputs/Llama-3.1-8B --device cuda --draws 50

For each feature_tensors_seq_{l}.pt, puts its spectrum into spectra.pt (see compute_eigvals.py) and its measures into
measures.csv, in nats (columns: results/README.md); dimensions and sums of log eigenvalues follow from the spectrum
(draw_CEvsPCA draws them). Each of --draws draws takes a random half of the documents without repetition, whose spread
is that of the whole sample. (A bootstrap with repetition would put points on each other, which no KDE survives.) The
draws are the same documents at every context length, so that what is fitted to the measures has intervals too.
"""

from utils import Parser, choose_device, fail, non_negative_int, progress, run_main, say

from argparse import BooleanOptionalAction
from pathlib import Path

import torch

from entropies import half_samples, kde_entropies, two_nn
from features import feature_files, load_features
from files import identity, lock, read_table, same_request, write_csv
from spectra import decompose, is_current, load_spectra, save_spectrum, spectrum_request
from standard_errors import clustered_error

COLUMNS = ("context_length", "draw", "n", "width", "dtype", "layer", "rank", "cross_entropy",
           "cross_entropy_standard_error", "kde_entropy", "log_determinant_part", "leave_one_out_entropy",
           "two_nn_dimension", "two_nn_dimension_standard_error", "draws", "features_sha256")
REQUEST = ("draws", "features_sha256")


def measure_halves(features, losses, documents, dtype, device, draws, name):
    """A row for each of `draws` random halves of the documents; none, and a line that says so, if they are too few."""
    rows = []
    try:
        for draw, mask in enumerate(progress(half_samples(documents, draws), total=draws, desc=f"{name}, halves",
                                             unit="draw", leave=False)):
            half = features[mask]
            rows.append({"draw": draw, "n": len(half), **kde_entropies(half, decompose(half, dtype, device)),
                         "cross_entropy": None if losses is None else losses[mask].mean().item()})
    except ValueError as error:
        say(f"{name}: no standard errors of entropies, which need random halves of the documents: {error}")
        return []
    return rows


def measure(path, decomposition, features, about, draws, request):
    """The rows of measures.csv for a file of features with its Decomposition; raises ValueError as kde_entropies."""
    n, width = features.shape
    documents = about.get("documents", torch.arange(n)).long()
    losses, device = about.get("losses"), decomposition.mean.device
    whole = {"n": n, **kde_entropies(features, decomposition, show_progress=True), **request}
    whole["two_nn_dimension"], whole["two_nn_dimension_standard_error"] = two_nn(features, documents, device)
    if losses is not None:
        whole |= {"cross_entropy": losses.mean().item(),
                  "cross_entropy_standard_error": clustered_error(losses, documents)}
    halves = measure_halves(features, losses, documents, about["dtype"], device, draws, path.stem)
    common = {"width": width, "dtype": about["dtype"], "layer": about.get("layer")}
    return [{**common, **row} for row in (whole, *halves)]


def read_rows(path):
    """{context length: rows as text} of a measures.csv; empty if there is none."""
    found = {}
    for row in read_table(path, COLUMNS, "make it again with --overwrite") if path.exists() else ():
        found.setdefault(int(row["context_length"]), []).append({name: row[name] for name in COLUMNS})
    return found


def is_measured(rows, request):
    """Whether the rows of a context length are there and were made by this request, which the first one holds."""
    return bool(rows) and same_request({name: rows[0][name] for name in REQUEST},
                                       {name: str(request[name]) for name in REQUEST})


def measure_directory(directory, device, draws, overwrite):
    """Bring the measures.csv and the spectra.pt of a directory up to date, one context length after another."""
    table = Path(directory) / "measures.csv"
    rows = {} if overwrite else read_rows(table)
    for length, path in progress(feature_files(directory).items(), desc=str(directory), unit="file"):
        spectrum = spectrum_request(identity(path))
        request = {"draws": draws, **spectrum}
        has_spectrum = not overwrite and is_current(load_spectra(directory), length, spectrum)
        measured = is_measured(rows.get(length), request)
        if has_spectrum and measured:
            continue
        features, about = load_features(path)
        decomposition = decompose(features, about["dtype"], device)
        if not has_spectrum:
            save_spectrum(directory, length, decomposition, spectrum)
        if not measured:
            try:
                made = measure(path, decomposition, features, about, draws, request)
            except ValueError as error:
                fail(f"{path}: {error}")
            rows[length] = [{"context_length": length, **row} for row in made]
            write_csv(table, [row for key in sorted(rows) for row in rows[key]], COLUMNS)


def main():
    parser = Parser(__doc__)
    parser.add_argument("results", nargs="+", help="directories of save_mid_features.py")
    parser.add_argument("--draws", type=non_negative_int, default=20, help="half samples for the standard errors; or 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="measure again what is there")
    args = parser.parse_args()
    device = choose_device(args.device)
    for directory in args.results:
        feature_files(directory)
        with lock(Path(directory) / "lock"):
            measure_directory(directory, device, args.draws, args.overwrite)


if __name__ == "__main__":
    run_main(main)
