"""The measures of a set of hidden states: one table, measures.csv, and their eigenvalues, spectra.pt.

spectra.pt is a dictionary with "eigenvalues", {name: float64 (width,), largest first}, and "request", {name: what the
row and the eigenvalues of that name were made from}. results/README.md explains the columns of measures.csv.
"""

from pathlib import Path

import torch

from entropy import THRESHOLDS, intrinsic_dimension
from files import load_tensors, read_table, save_tensors, write_csv
from utils import fail

WHOLE_NUMBERS = ("seed", "context_length", "visible_context_length", "n_visible_tasks", "n", "width", "rank")
COLUMNS = ("name", "seed", "context_length", "visible_context_length", "n_visible_tasks", "n", "width", "dtype", "rank",
           "kde_entropy", "log_determinant_part", "kernel_part")
NEVER_EMPTY = ("n", "width", "rank")
REMEDY = "make it with measure_features.py"


def to_value(column, text):
    """The value of a field of measures.csv; None where it is empty and may be."""
    if text == "" and column not in NEVER_EMPTY or column in ("name", "dtype"):
        return text or None
    return int(text) if column in WHOLE_NUMBERS else float(text)


def load_measures(directory):
    """The rows of a directory's measures.csv as dictionaries, in its order, each with its "eigenvalues" (width,).

    Exits with code 2 if one of the two files is missing or cannot be used, or they do not fit together.
    """
    table, spectra = Path(directory) / "measures.csv", Path(directory) / "spectra.pt"
    rows = read_table(table, COLUMNS, REMEDY)
    eigenvalues = load_tensors(spectra, "the spectra").get("eigenvalues", {})
    absent = [row["name"] for row in rows if not isinstance(eigenvalues.get(row["name"]), torch.Tensor)]
    if absent:
        fail(f"{spectra} has no eigenvalues of {absent[0]}, which {table} names; {REMEDY}")
    return [{**{column: to_value(column, text) for column, text in row.items()},
             "eigenvalues": eigenvalues[row["name"]]} for row in rows]


def load_known(directory):
    """What measure_features.py wrote into a directory before: {name: row} of texts, and the contents of spectra.pt."""
    table, spectra = directory / "measures.csv", directory / "spectra.pt"
    known = {"eigenvalues": {}, "request": {}}
    if table.exists() and spectra.exists():
        known.update(load_tensors(spectra, "the spectra"))
        rows = {row["name"]: row for row in read_table(table, COLUMNS, REMEDY)}
        return {name: row for name, row in rows.items() if name in known["eigenvalues"]}, known
    return {}, known


def save_measures(directory, rows, spectra, name, request):
    """Write both files, with a new row, and at last its request: a row without one is not up to date.

    The request of the row that was there before goes first, so that at no time it stands beside the new row.
    """
    if spectra["request"].pop(name, None):
        save_tensors(directory / "spectra.pt", spectra)
    write_csv(directory / "measures.csv", sorted(
        rows.values(), key=lambda row: (int(row["visible_context_length"] or 0), int(row["seed"] or 0), row["name"])))
    spectra["request"][name] = request
    save_tensors(directory / "spectra.pt", spectra)


def dtype_of(name, features, path):
    """The precision that a features file says its features were computed in; that of the tensor if it does not say."""
    dtype = getattr(torch, name.removeprefix("torch."), None) if isinstance(name, str) else name or features.dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        fail(f'the features file {path} has the "dtype" {name}; say float32, bfloat16, float16 or float64')
    return dtype


def right_thresholds(rows):
    """Those of the paper's thresholds at which every row's intrinsic dimension is its number of visible subtasks."""
    return [threshold for threshold in THRESHOLDS
            if all(intrinsic_dimension(row["eigenvalues"], threshold) == row["n_visible_tasks"] for row in rows)]
