"""What the figures share: one look, the flags, and the reading of measurements.

The scripts of this folder run as `python draw_IntrinsicDim.py`; those of the folder above import this module as
draw_CEvsPCA.plotting.
"""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the modules of this part

from utils import Parser, fail

from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from files import load_tensors, make_directory, read_table, replacing

plt.rcParams.update({
    "figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "savefig.bbox": "tight", "lines.markersize": 4,
})
REPORTED = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "color": "tab:red"}  # the paper's numbers
FIT = {"color": "black", "linewidth": 1, "linestyle": "--"}
MEASURING = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.002, 0.0025, 0.003, 0.0035, 0.004, 0.005, 0.0075, 0.01, 0.0125, 0.015,
              0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25)
N_COMPONENTS = ((3, 4, 5, 6), (10, 15, 25, 35, 45), (50, 80, 100, 120, 150), (200, 300, 450, 600, 750),
                (1000, 1300, 1500, 1800, 2000))
MADE_BY = "save_mid_features.py and measure_entropy.py"


class Spectrum(NamedTuple):
    """Eigenvalues of the covariance of hidden states, largest first: float64 (width,), of which `rank` count."""
    eigenvalues: np.ndarray
    rank: int

    def relative(self):
        """Those that count over the largest: (rank,)."""
        return self.eigenvalues[:self.rank] / self.eigenvalues[0]

    def dimension(self, threshold):
        """The intrinsic dimension: how many eigenvalues exceed the threshold times the largest."""
        return int((self.eigenvalues / self.eigenvalues[0] > threshold).sum())

    def sum_log(self, n):
        """The sum of log relative eigenvalues over the first n; None beyond the rank, where they are rounding."""
        return float(np.log(self.relative()[:n]).sum()) if n <= self.rank else None


class Measures(NamedTuple):
    """What was measured of a model: {context length: row of measures.csv}, its draws, and its spectra.

    Rows are dictionaries of floats, None where empty; draws are lists of them.
    """
    name: str
    rows: dict
    draws: dict
    spectra: dict

    def lengths(self):
        return list(self.rows)

    def column(self, name):
        """The values of a column by context length."""
        return [row[name] for row in self.rows.values()]


def drawing_parser(description, needs):
    """A parser with --results and --out_dir; `needs` is the file that makes a directory worth drawing by default."""
    parser = Parser(description)
    found = sorted(str(path.parent) for path in (MEASURING / "outputs").rglob(needs))
    parser.add_argument("--results", nargs="+", default=found, help="directories of measurements, a panel each "
                        "(default: all below outputs)")
    parser.add_argument("--out_dir", default=str(MEASURING / "outputs" / "figures"),
                        help="directory for the figures (default: outputs/figures)")
    return parser


def parse_results(parser, made_by=MADE_BY):
    """Parse the flags; --results without repetitions. Exits with code 2 if there is none."""
    args = parser.parse_args()
    if not args.results:
        fail(f"there is nothing to draw below outputs; make it with {made_by}, or give --results")
    args.results = list(dict.fromkeys(args.results))
    return args


def read_rows(path, columns, made_by):
    """Rows of a CSV as dictionaries of floats, None where empty and text where it is no number, by context length.

    Exits with code 2 if it cannot be read, lacks one of the columns or has no number there.
    """
    def value(text):
        try:
            number = float(str(text)) if text else None
        except ValueError:
            return text
        return number if number is None or np.isfinite(number) else text

    rows = [{column: value(text) for column, text in row.items()}
            for row in read_table(path, columns, f"make it with {made_by}")]
    if any(row["context_length"] is None for row in rows):
        fail(f"a row of {path} has no context_length; make it again with {made_by}")
    for row in rows:
        for column in columns:
            if isinstance(row[column], str):
                fail(f"{path} has {row[column]} in the column {column}, no number; make it again with {made_by}")
    return sorted(rows, key=lambda row: row["context_length"])


def read_losses(directory):
    """Rows of a directory's cross_entropy.csv; exits with code 2 if there is none."""
    path = Path(directory) / "cross_entropy.csv"
    rows = read_rows(path, ("context_length", "cross_entropy"), "evaluate_CE.py")
    for row in rows:
        error = row.get("standard_error") or 0
        if row["cross_entropy"] is None or isinstance(error, str) or error < 0:
            fail(f"{path} has no cross entropy, or no standard error of it, at context length "
                 f"{row['context_length']:g}; make it again with evaluate_CE.py")
    return rows


def read_measures(directory):
    """The Measures in a directory; exits with code 2 if they are of fewer than three context lengths."""
    needed = ("context_length", "draw", "kde_entropy", "cross_entropy")
    rows, draws = {}, {}
    path = Path(directory) / "measures.csv"
    for row in read_rows(path, needed, MADE_BY) if path.exists() else ():
        length = int(row["context_length"])
        if row["draw"] is None:
            rows[length] = row
        else:
            draws.setdefault(length, []).append(row)
    if len(rows) < 3:
        fail(f"{directory} has measures at {len(rows)} context lengths, a line needs 3; make them with {MADE_BY}")
    if any(row["cross_entropy"] is None for row in rows.values()):
        fail(f"the features measured in {directory} have no losses; save them again with save_mid_features.py")
    return Measures(Path(directory).resolve().name, rows, draws, read_spectra(directory, rows))


def read_spectra(directory, rows):
    """The Spectrum at each of the context lengths of measures.csv, {context length: row}, from spectra.pt.

    Exits with code 2 if a row and a spectrum were made from different features.
    """
    path = Path(directory) / "spectra.pt"
    stored = load_tensors(path, "the spectra of compute_eigvals.py,")
    try:
        for length, row in rows.items():
            hashes = row.get("features_sha256"), stored[length].get("request", {}).get("features_sha256")
            if None not in hashes and hashes[0] != hashes[1]:
                fail(f"measures.csv and spectra.pt in {directory} were made from different features at context length "
                     f"{length}; run measure_entropy.py again")
        return {length: Spectrum(stored[length]["eigenvalues"].double().numpy(), stored[length]["rank"])
                for length in rows}
    except KeyError as error:
        fail(f"{path} has no spectrum at context length {error}; make it with compute_eigvals.py")
    except (AttributeError, TypeError):
        fail(f"{path} holds no spectra; make it again with compute_eigvals.py")


def length_colours(lengths):
    """A colour for each context length, dark for the shortest."""
    return {length: plt.cm.viridis(0.9 * index / max(len(lengths) - 1, 1)) for index, length in enumerate(lengths)}


def label_ticks(axis, values):
    """Put ticks at these values only, for a logarithmic axis."""
    axis.set_major_locator(plt.FixedLocator(values))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(plt.NullLocator())


def panels(n, width=3.2, height=2.8, columns=4):
    """A figure with n panels in rows of up to `columns`: the figure and a flat list of its axes."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False,
                                layout="constrained")
    flat = list(axes.flat)
    for axis in flat[n:]:
        axis.set_visible(False)
    return figure, flat[:n]


def save_figure(figure, out_dir, stem):
    """Write a figure as PDF and PNG, each whole or not at all, and say so."""
    for suffix in ("pdf", "png"):
        metadata = {"CreationDate": None} if suffix == "pdf" else None  # the same bits from the same results
        with replacing(make_directory(out_dir) / f"{stem}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
    plt.close(figure)
    print(f"-> {out_dir}/{stem}.pdf, .png")
