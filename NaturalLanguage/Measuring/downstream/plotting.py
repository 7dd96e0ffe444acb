"""What the figures of this folder share: one look, the runs they read, and how they are saved."""

from pathlib import Path

from downstream.results import MEASURES, Answers
from draw_CEvsPCA.plotting import plt
from draw_CEvsPCA.plotting import save_figure as write_figure
from files import load_json
from utils import Parser, fail, non_negative_int

plt.rcParams["legend.fontsize"] = 7
MARKERS = "osv^Dp<>hX"
LOOK = {"A": {"color": "tab:blue", "marker": "o"}, "B": {"color": "tab:orange", "marker": "s"}}  # of two needles
RUNS = Path("outputs", "downstream", "runs")


def drawing_parser(description, measure, draws=True):
    """The flags that the figures share; `measure`: default of --measure, None leaves it out, draws=False --draws."""
    parser = Parser(description)
    parser.add_argument("--runs", nargs="+",
                        help=f"directories of evaluate_tasks.py (default: all finished below {RUNS})")
    parser.add_argument("--out_dir", default="outputs/downstream/figures", help="directory for the figures")
    if draws:
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


def label_of(run, *details):
    """The name of a run's line: its model, details of it, and whether the query stands before the context too."""
    return ", ".join([run.model, *details, *(["query first"] if run.query_first else [])])


def style(names):
    """{name: colour and marker}, the same for the same set of names."""
    names = sorted(set(names))
    return {name: {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)]}
            for index, name in enumerate(names)}


def note(runs):
    """What is written under a figure whose sources are built in."""
    return "" if all(run.comparable for run in runs) else "sources not comparable with published numbers"


def save_figure(figure, runs, out_dir, stem):
    """Write a figure as PDF and PNG, with its note and one legend above all panels, and say so.

    A label has the same look in all panels.
    """
    labelled = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
    if labelled:
        figure.legend(labelled.values(), labelled, loc="outside upper center", ncols=min(len(labelled), 3))
    if note(runs):
        figure.supxlabel(note(runs), fontsize=6, color="grey")
    write_figure(figure, out_dir, stem)
