"""What the figures of this folder share: one look, the runs they read, and how they are saved."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from downstream.results import MEASURES, Answers  # noqa: E402
from files import load_json, make_directory  # noqa: E402
from utils import Parser, fail, non_negative_int  # noqa: E402

plt.rcParams.update({
    "figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 7, "savefig.bbox": "tight",
    "lines.markersize": 4,
})
MARKERS = "osv^Dp<>hX"
PUBLISHED = {"marker": "D", "linestyle": "none", "markerfacecolor": "none", "color": "tab:red"}
RUNS = Path("outputs", "downstream", "runs")


def drawing_parser(description, measure):
    """The flags that the figures share; `measure` is the default of --measure, None leaves it out."""
    parser = Parser(description)
    parser.add_argument("--runs", nargs="+",
                        help=f"directories of evaluate_tasks.py (default: all finished below {RUNS})")
    parser.add_argument("--out_dir", default="outputs/downstream/figures", help="directory for the figures")
    parser.add_argument("--draws", type=non_negative_int, default=1000, help="bootstrap draws of contexts")
    if measure:
        parser.add_argument("--measure", choices=MEASURES, default=measure, help="what is drawn")
    return parser


def read_runs(args, tasks=None, keep=lambda run: True):
    """The finished runs of these tasks, or of all, as Answers. Exits with code 2 if there is none."""
    paths = args.runs or sorted(path.parent for path in RUNS.rglob("final.json"))
    found = []
    for path in dict.fromkeys(map(Path, paths)):
        final = path / "final.json"
        if not final.is_file():
            fail(f"{path} has no finished run; make one with evaluate_tasks.py")
        if tasks is None or load_json(final, "the summary of a run").get("task") in tasks:
            run = Answers(path)
            found += [run] if keep(run) else []
    if not found:
        fail(f"there is no finished run of {' or '.join(tasks or ['any task'])} that can be drawn; make one with "
             "evaluate_tasks.py, or give --runs")
    return found


def style(names):
    """{name: colour and marker}, the same for the same set of names."""
    names = sorted(set(names))
    return {name: {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)]}
            for index, name in enumerate(names)}


def panels(n, width=3.4, height=2.8, columns=4):
    """A figure with n panels in rows of up to `columns`: the figure and a flat list of its axes."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False,
                                layout="constrained")
    flat = list(axes.flat)
    for axis in flat[n:]:
        axis.set_visible(False)
    return figure, flat[:n]


def note(runs):
    """What is written under a figure whose sources are built in."""
    return "" if all(run.comparable for run in runs) else "built-in sources: not comparable with published numbers"


def save_figure(figure, runs, out_dir, stem):
    """Write a figure as PDF and PNG and say so."""
    if note(runs):
        figure.supxlabel(note(runs), fontsize=6, color="grey")
    make_directory(out_dir)
    try:
        for suffix in ("pdf", "png"):
            metadata = {"CreationDate": None} if suffix == "pdf" else None  # the same bits from the same results
            figure.savefig(Path(out_dir) / f"{stem}.{suffix}", metadata=metadata)
    except OSError as error:
        fail(f"cannot write into {out_dir}: {error.strerror}; choose another --out_dir")
    plt.close(figure)
    print(f"-> {out_dir}/{stem}.pdf, .png")
