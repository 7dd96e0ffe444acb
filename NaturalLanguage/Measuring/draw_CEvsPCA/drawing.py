"""What the figures share: one look, the reading of measurements, and one-line errors."""

import argparse
import csv
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

plt.rcParams.update({
    "figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "savefig.bbox": "tight", "lines.markersize": 4,
})
REPORTED = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "color": "tab:red"}  # the paper's numbers
FIT = {"color": "black", "linewidth": 1, "linestyle": "--"}
MEASURING = Path(__file__).resolve().parents[1]
NO_MEASURES = "there are no measures below outputs; make them with measure_entropy.py"


def fail(message):
    """End the program with exit code 2 and one line on stderr."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def drawing_parser(description, needs):
    """A parser with --results and --out_dir; `needs` is the file that makes a directory worth drawing by default."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(f"{message}; see --help")
    found = sorted(str(path.parent) for path in (MEASURING / "outputs").rglob(needs))
    parser.add_argument("--results", nargs="+", default=found, help="directories of measurements, a panel each "
                        "(default: all below outputs)")
    parser.add_argument("--out_dir", default=str(MEASURING / "outputs" / "figures"), help="directory for the figures")
    return parser


def parse_results(parser, nothing_there):
    """Parse the flags; --results without repetitions. Exits with code 2, saying `nothing_there`, if there are none."""
    args = parser.parse_args()
    if not args.results:
        fail(f"{nothing_there}, or give --results")
    args.results = list(dict.fromkeys(args.results))
    return args


def read_table(directory, name, columns, made_by):
    """Rows of DIRECTORY/NAME, a CSV, as dictionaries of floats, None where empty.

    Exits with code 2 if it lacks one of the columns.
    """
    path = Path(directory) / name
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{column: float(value) if value else None for column, value in row.items()}
                    for row in csv.DictReader(file)]
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}; make it with {made_by}")
    except (ValueError, TypeError) as error:
        fail(f"{path} has something that is not a number ({error}); make it again with {made_by}")
    absent = [column for column in columns if not rows or rows[0].get(column) is None]
    if absent:
        fail(f"{path} lacks the column {absent[0]}; make it again with {made_by}")
    return sorted(rows, key=lambda row: row["context_length"])


def read_measures(directory):
    """The measures_seq_{l}.json of a directory by context length; exits with code 2 if there are fewer than three."""
    paths = sorted(Path(directory).glob("measures_seq_*.json"), key=lambda path: int(path.stem.rpartition("_")[2]))
    try:
        measures = {int(path.stem.rpartition("_")[2]): json.loads(path.read_text(encoding="utf-8")) for path in paths}
    except (OSError, ValueError) as error:
        fail(f"cannot read the measures in {directory}: {error}; make them again with measure_entropy.py --overwrite")
    if len(measures) < 3:
        fail(f"{directory} has measures at {len(measures)} context lengths, a line needs 3; make them with "
             "save_mid_features.py, compute_eigvals.py and measure_entropy.py")
    if any(entry.get("cross_entropy") is None for entry in measures.values()):
        fail(f"the features measured in {directory} have no losses; save them again with save_mid_features.py")
    return measures


def length_colours(lengths):
    """A colour for each context length, dark for the shortest."""
    return {length: plt.cm.viridis(0.9 * place / max(len(lengths) - 1, 1)) for place, length in enumerate(lengths)}


def label_ticks(axis, places):
    """Put ticks at these places only, for a logarithmic axis."""
    axis.set_major_locator(plt.FixedLocator(places))
    axis.set_major_formatter(lambda place, _: f"{place:g}")
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
    """Write a figure as PDF and PNG and say so; exits with code 2 where nothing can be written."""
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        for suffix in ("pdf", "png"):
            metadata = {"CreationDate": None} if suffix == "pdf" else None  # the same bits from the same results
            figure.savefig(Path(out_dir) / f"{stem}.{suffix}", metadata=metadata)
    except OSError as error:
        fail(f"cannot write into {out_dir}: {error.strerror}; choose another --out_dir")
    plt.close(figure)
    print(f"-> {out_dir}/{stem}.pdf, .png")
