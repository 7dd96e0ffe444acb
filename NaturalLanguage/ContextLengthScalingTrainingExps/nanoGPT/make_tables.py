"""Write the tables of the READMEs from the files of results/; no number there is rounded by hand.

    python make_tables.py               # rewrites the text between <!-- table NAME --> and <!-- end -->
    python make_tables.py --check       # changes nothing; names the tables that are not current and exits with 1

NAME is a kind of table and a file or folder, as seen from the README, for example `losses small/sweep`; tables of
losses take several files (`crossings optimum/sweep optimum/seeds`).
"""

from utils import fail, run_main

import statistics
from collections import defaultdict
from pathlib import Path

import long_context_tables
import loss_tables
from files import load_json, read_table
from optimal_context.report import shown
from optimal_context.tables import TABLES, carry_over, readings
from paired import optimum
from prepared import distinct_tokens
from readme_tables import markdown, run_make_tables, table_maker
from sweep_table import LOSS_COLUMNS, adjusted_means, mean_and_range, read_cells

FOLDER = Path(__file__).parent
CORPORA = FOLDER / "data" / "openwebtext" / "reference_corpora.json"
RESULTS, TOP = FOLDER / "results", FOLDER.parents[2] / "README.md"  # which has the summary of the whole repository
SETTINGS = {"train_tokens": "training tokens", "seed": "seed", "tokens_per_step": "tokens a step",
            "learning_rate": "learning rate", "weight_decay": "weight decay", "max_iters": "steps"}


def settings(*paths):
    """The losses of collect_settings.py's tables: a row a setting and seed, a column a context length."""
    losses, rows = {}, [row for path in paths for row in read_table(f"{path}.csv")]
    names = [name for name in SETTINGS if name in rows[0]
             and (name != "train_tokens" or len({row[name] for row in rows}) > 1)]
    for row in rows:
        falling = " (at the last step)" if row["best_step"] == row["last_step"] else ""
        found = losses.setdefault(tuple(float(row[name]) for name in names), {})
        found[int(row["context_length"])] = f"{float(row['best_valid_loss']):.3f}{falling}"
    lengths = sorted({length for found in losses.values() for length in found})
    return markdown([*(SETTINGS[name] for name in names), *map(str, lengths)],
                    [[*(f"{value:,.0f}" if value.is_integer() else f"{value:g}" for value in key),
                      *(found.get(length, "") for length in lengths)] for key, found in sorted(losses.items())])


def runs(path):
    """Each run of a table: size, tokens seen, both losses, and whether it was still falling."""
    batch = load_json(f"{path}_about.json", "the description")["arguments"]["tokens_per_step"]
    return markdown(
        ["context length", "parameters", "training tokens", "tokens seen", "validation loss", "full context only",
         "minutes", "stopped"],
        [[row["context_length"], f"{int(row['parameters']):,}", f"{int(row['train_tokens']):,}",
          f"{int(row['last_step']) * batch:,}", f"{float(row['best_valid_loss']):.3f}",
          f"{float(row['full_context_loss']):.3f} (standard error {float(row['full_context_standard_error']):.3f})",
          f"{float(row['seconds']) / 60:.0f}",
          row["stopped"] + (", at its lowest" if row["at_last_step"] == "1" else "")]
         for row in read_table(f"{path}.csv")])


def cost(*paths):
    """What the runs of each training size took, and on what.

    In a table of several environments whose rows do not say which is theirs, all are named.
    """
    found = defaultdict(list)
    for path in paths:
        environments = load_json(f"{path}_about.json", "the description")["environments"]
        for row in read_table(f"{path}.csv"):
            of_run = environments if row.get("environment") is None else [environments[int(row["environment"])]]
            ran_on = (", ".join(sorted({str(machine[name]) for machine in of_run}))
                      for name in ("threads", "hardware", "torch"))
            found[int(row["train_tokens"]), *ran_on].append(row)
    lines = []
    for (tokens, threads, hardware, torch), rows in sorted(found.items()):
        seconds = [float(row["seconds"]) for row in rows]
        memory = max(float(row["peak_memory_gigabytes"]) for row in rows)
        lines.append([f"{tokens:,}", len(rows), f"{sum(seconds) / 60:.0f}", f"{max(seconds) / 60:.1f}", threads,
                      f"{memory:.2f} GB", hardware, torch])
    return markdown(["training tokens", "runs", "minutes in all", "longest", "threads a run", "memory at most",
                     "hardware", "torch"], lines)


def corpora(path):
    """The SHA-256 of the text of each corpus that is made of the pinned packages, and its training tokens."""
    reference = load_json(f"{path}.json", "the corpora of the committed results")
    return markdown(["corpus", "training tokens", "SHA-256 of its text"],
                    [[name, f"{reference['training_tokens'][name]:,}", f"`{sha256}`"]
                     for name, sha256 in reference["text_sha256"].items()])


def parts(corpus, *paths):
    """How much the parts of a corpus that the seeds of a training size take have in common."""
    n_tokens = load_json(CORPORA, "the corpora of the committed results")["training_tokens"]
    rows = []
    for tokens, by_length in read_cells(*(f"{path}.csv" for path in paths)).items():
        seeds = sorted(set().union(*by_length.values()))
        distinct = distinct_tokens(n_tokens[Path(corpus).name], tokens, seeds)
        rows.append([f"{tokens:,}", len(seeds), f"{distinct:,}", f"{distinct / tokens:.1f}"])
    return markdown(["training tokens", "parts", "different tokens in them", "parts' worth"], rows)


def benchmark(path):
    """Our trainer beside a plain loop, at each context length."""
    return markdown(
        ["context length", "ours, tokens a second", "a plain loop", "times faster", "share of its memory"],
        [[f"{entry['context_length']:,}", *(f"{statistics.median(entry[way]['tokens_per_second']):,.0f}"
                                            for way in ("ours", "plain")),
          f"{entry['times_faster']:.2f}", f"{entry['memory_share']:.2f}"]
         for entry in load_json(f"{path}.json", "the benchmark")["contexts"]])


def advice(path):
    """The five lines, as plan_context_length.py wrote them."""
    lines = Path(f"{path}.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def fit_readings(*paths):
    """The fits of sweeps by their readings, in one table."""
    return markdown(*readings({path.name: {name: load_json(path / f"{name}.json", "the fit") for name in
                                           ("fit", "fit_mean", "fit_both", "fit_full_context")} for path in paths}))


def fit_carry_over(*paths):
    """How the fits of sweeps by one reading carry over to the other, in one table."""
    return markdown(*carry_over({path.name: load_json(path / "fit_both.json", "the fit") for path in paths}))


def check(fit, table):
    """What a fit predicted of the training sizes that were asked for and are in the table, and what was measured."""
    cells, rows = read_cells(f"{table}.csv"), []
    for predicted in load_json(f"{fit}.json", "the fit")["predictions"]:
        if predicted["train_tokens"] not in cells:
            continue
        by_length = cells[predicted["train_tokens"]]
        said = {entry["context_length"]: entry for entry in predicted["lengths"]}
        means, _ = adjusted_means({length: seeds for length, seeds in by_length.items() if length in said},
                                  "best_valid_loss")
        for length, mean in means.items():
            values = [seed["best_valid_loss"] for seed in by_length[length].values()]
            unfinished = any(seed["at_last_step"] for seed in by_length[length].values())
            rows.append([f"{predicted['train_tokens']:,.0f}", length, shown(said[length]["loss"], 3, "f"),
                         f"{mean_and_range(values, mean)}{' (at the last step)' if unfinished else ''}",
                         shown(said[length]["cost"], 3, "f"), f"{mean - min(means.values()):.3f}"])
    if not rows:
        fail(f"{fit}.json predicts no training size that is in {table}.csv")
    return markdown(["training tokens", "context length", "loss predicted, 95% interval",
                     "loss measured, mean [lowest, highest] over seeds", "above the best, predicted", "measured"], rows)


def optima_in_words(cells):
    """The optimum at each training size by both readings [others not significantly worse]: one line."""
    found = {reading: [] for reading in LOSS_COLUMNS}
    for tokens, by_length in cells.items():
        for reading in LOSS_COLUMNS:
            best, others, _ = optimum(by_length, reading)
            as_good = f" [{', '.join(map(str, others))}]" if others else ""
            found[reading].append(f"{best}{as_good} at {tokens:,}")
    return "; ".join(f"{name}: {', '.join(found[reading])}" for reading, name in LOSS_COLUMNS.items())


def summary():
    """What is reproduced, in a row a figure: the command, our number, the paper's."""
    return markdown(["figure", "command", "ours", "the paper's"], [
        ["Fig. 15, Fig. 1 middle: optimal context (tokens) at each number of training tokens [others that are not "
         "significantly worse]",
         "`bash NaturalLanguage/reproduce.sh`", optima_in_words(read_cells(RESULTS / "small" / "sweep.csv")),
         "an optimum at each of 200M, 250M, 300M, 350M, 500M and 750M tokens of OpenWebText, growing with the size"],
        ["the same on source code, each seed on a part of its own, validation on packages that no run has seen",
         "`bash NaturalLanguage/ContextLengthScalingTrainingExps/nanoGPT/reproduce_optimum.sh code`",
         optima_in_words(read_cells(RESULTS / "optimum_code" / "grid.csv")), "the same"]])


KINDS = {**loss_tables.TABLES, "parts": parts, "runs": runs, "cost": cost, "benchmark": benchmark,
         "summary_training": summary, "settings": settings, "corpora": corpora,
         "advice": advice, "check": check, "fit_readings": fit_readings, "fit_carry_over": fit_carry_over,
         **{kind: lambda path, table=table: markdown(*table(load_json(f"{path}.json", "the fit or plan")))
            for kind, table in TABLES.items()},
         **{kind: lambda path, table=table: markdown(*table(read_table(f"{path}.csv")))
            for kind, table in long_context_tables.TABLES.items()}}


def make(name, path):
    """A table of this part, or None for the summary of another one. Exits with code 2 at an unknown kind."""
    kind, *files = name.split()
    maker = table_maker(KINDS, kind, path)
    return maker and maker(*(path.parent / file for file in files))


def main():
    run_make_tables(__doc__, [*sorted(RESULTS.rglob("README.md")), FOLDER / "README.md", TOP], make)


if __name__ == "__main__":
    run_main(main)
