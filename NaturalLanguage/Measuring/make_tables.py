"""Write the tables of results/README.md and downstream/results/README.md from the committed results.

    python make_tables.py            # rewrite what stands between <!-- table NAME --> and <!-- end -->
    python make_tables.py --check    # exit with 1 and name the tables that are not current

Every number of these tables is rounded here and nowhere else.
"""

from utils import run_main

import csv
import math
from pathlib import Path
from statistics import stdev

import numpy as np

from downstream.by_seed import by_kind, ends_and_middle, mean_text, pooled, read_answers, visible_and_masked
from draw_CEvsPCA.fits import PAPER_FROM, fit_line, fit_power_law, interval, line_from
from draw_CEvsPCA.plotting import THRESHOLDS, read_losses, read_measures
from files import load_json
from readme_tables import markdown, run_make_tables, table_maker

RESULTS = Path(__file__).parent / "results"
DOWNSTREAM = Path(__file__).parent / "downstream" / "results"
ANSWERS = DOWNSTREAM / "small" / "answers.csv"
TOP = Path(__file__).parents[2] / "README.md"  # has the summary, where this folder lies in the whole repository
MODELS = ("small/ctl512", "small/ctl512_long")
LLAMA = "reported/Llama-3.1-8B"
UNIFORM = "key_value_uniform"  # the models of symbols that were asked for every pair alike
SHOWN_THRESHOLD = 0.05


def measures_table(name):
    """Everything that was measured of a model, a row for each context length."""
    measures, rows = read_measures(RESULTS / name), []
    losses = {int(row["context_length"]): row for row in read_losses(RESULTS / name)}
    for length, row in measures.rows.items():
        loss, gap = losses[length], ""
        if loss["difference"] is not None:
            gap = f"{loss['difference']:.3f} ± {loss['difference_standard_error']:.3f}"
        halves = [draw["kde_entropy"] for draw in measures.draws.get(length, [])]
        error = f" ± {stdev(halves):.2f}" if len(halves) > 1 else ""
        rows.append((length, f"{loss['cross_entropy']:.3f} ± {loss['standard_error']:.3f}", gap,
                     f"{row['kde_entropy']:.2f}{error}", f"{row['log_determinant_part']:.2f}",
                     f"{row['leave_one_out_entropy']:.2f}", int(row["rank"]),
                     measures.spectra[length].dimension(SHOWN_THRESHOLD), f"{row['two_nn_dimension']:.1f}"))
    return markdown(("context", "cross entropy", "difference", "KDE entropy", "its log-determinant part",
                     "leave-one-out entropy", "rank", f"dimension at {SHOWN_THRESHOLD}", "TwoNN dimension"), rows)


def laws_table():
    """C0 + C / l^gamma of each model's losses, and what it leaves beyond the longest context length."""
    rows = []
    for name in (*MODELS, LLAMA):
        lengths, losses = zip(*((row["context_length"], row["cross_entropy"]) for row in read_losses(RESULTS / name)))
        fit = fit_power_law(lengths, losses)
        left = tuple(losses[-1] - bound for bound in (fit.c0[0], fit.c0[2], fit.c0[1]))
        rows.append((f"`{name}`", interval(fit.c0, ".3f"), interval(fit.c, ".2f"), interval(fit.gamma, ".3f"),
                     f"{fit.r_squared:.5f}", f"{abs(fit.residuals).max():.3f}", f"{lengths[-1]:g}",
                     interval(left, ".3f")))
    return markdown(("losses", "C0", "C", "gamma", "R^2", "largest residual", "longest context", "loss there above C0"),
                    rows)


def without(row):
    """How many context lengths the paper drops from a line that it reports, in words; or nothing."""
    return f", without {row['dropped']} of very short context" if int(row["dropped"]) else ""


def lines_table():
    """Cross entropy against KDE entropy: each model over all context lengths and from the paper's first; reported."""
    rows = []
    for name in MODELS:
        measures = read_measures(RESULTS / name)
        for least in (min(measures.rows), PAPER_FROM):
            fit, error = line_from(measures, least)
            rows.append((f"`{name}`", f"{least} to {max(measures.rows)}", interval(fit.slope, ".4f"), f"{fit.r:.3f}",
                         "" if math.isnan(error) else f"{error:.3f}"))
    with open(RESULTS / "reported" / "ce_vs_entropy.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.append((f"{row['model']}, the paper's", f"from {PAPER_FROM}{without(row)}", row["slope"], row["r"],
                         ""))
    return markdown(("model", "context lengths", "slope", "R", "standard error of R over half samples of documents"),
                    rows)


def training_table():
    """The lines of one model at steps of its training, over all context lengths and from the paper's first."""
    rows = []
    for folder in sorted((RESULTS / "training").glob("tok*"), key=lambda path: int(path.name.removeprefix("tok"))):
        measures, losses = read_measures(folder), read_losses(folder)
        row = [f"{int(folder.name.removeprefix('tok')):,}", f"{losses[-1]['cross_entropy']:.3f}"]
        for least in (min(measures.rows), PAPER_FROM):
            fit, error = line_from(measures, least)
            row += [f"{fit.r:.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}"), interval(fit.slope, ".4f")]
        rows.append(row)
    longest = f"cross entropy at {max(measures.rows)} tokens"
    return markdown(("training tokens", longest, f"R from {min(measures.rows)} token on", "slope",
                     f"R from {PAPER_FROM} tokens on", "slope"), rows)


def dimensions_table():
    """The threshold at which cross entropy against intrinsic dimension is straightest, of those of the figures."""
    rows = []
    for name in MODELS:
        measures = read_measures(RESULTS / name)
        losses, found = measures.column("cross_entropy"), {}
        for threshold in THRESHOLDS:
            dimensions = [spectrum.dimension(threshold) for spectrum in measures.spectra.values()]
            if len(set(dimensions)) > 1:
                found[threshold] = fit_line(dimensions, losses).r
        best = min(found, key=found.get)
        rows.append((f"`{name}`", best, f"{found[best]:.3f}", f"{max(found.values()):.3f}"))
    return markdown(("model", "threshold with the least R", "R there", "largest R of all thresholds"), rows)


def benchmark_table():
    """Our ways against the plain ones."""
    found = load_json(RESULTS / "benchmark.json", "the benchmark")
    scoring, kde, memory = found["scoring"], found["kde"], found["memory"]
    return markdown(("what", "size", "times faster", "share of the plain way's memory", "seconds", "gigabytes"), [
        ("losses and hidden states", f"{scoring['layers']} layers of width {scoring['width']}, vocabulary "
         f"{scoring['vocab_size']:,}, context {scoring['context_length']}", f"{scoring['times_faster']:.1f}",
         f"{scoring['memory_share']:.2f}", f"{scoring['seconds']['ours']:.1f}",
         f"{scoring['peak_gigabytes']['ours']:.2f}"),
        ("KDE entropies", f"{kde['n']:,} x {kde['width']:,}", f"{kde['times_faster']:.1f}", "",
         f"{kde['seconds']['ours']:.1f}", ""),
        ("KDE entropies", f"{memory['n']:,} x {memory['width']:,}", "", "", f"{memory['seconds']:.0f}",
         f"{memory['peak_gigabytes']:.2f}")])


def recall_table():
    """Key-value recall of each kind of model by number of keys and by where the key stands."""
    rows = []
    for name, cells in by_kind(read_answers(ANSWERS, "kv_retrieval"), "units").items():
        for (units,), seeds in cells.items():
            first, middle, last = np.transpose([ends_and_middle(mine, "accuracy") for mine in seeds])
            columns = ([pooled(mine, "accuracy") for mine in seeds], first, middle, last, (first + last) / 2 - middle)
            rows.append((f"`{name}`", f"{units:g}", *map(mean_text, columns)))
    return markdown(("trained", "keys", "accuracy", "first quarter", "middle half", "last quarter", "ends - middle"),
                    rows)


def needles_table():
    """Cross entropy of the restated needles as a growing left part of the context is masked."""
    rows, header = [], None
    for name, cells in by_kind(read_answers(ANSWERS, "two_needles"), "values", "needle").items():
        for (values, needle), seeds in cells.items():
            fractions = sorted({row["visible_fraction"] for row in seeds[0]}, reverse=True)
            losses = [mean_text([pooled([row for row in mine if row["visible_fraction"] == fraction], "cross_entropy")
                            for mine in seeds], 2) for fraction in fractions]
            seen, masked = np.transpose([visible_and_masked(mine) for mine in seeds])
            rows.append((f"`{name}`", f"{values:g}", needle, *losses, mean_text(masked - seen, 2),
                         mean_text((masked - seen) / math.log(values), 2)))
            header = ("trained", "values", "needle", *(f"{1 - fraction:g} masked" for fraction in fractions), "jump",
                      "jump / log(values)")
    return markdown(header, rows)


def chains_table():
    """Variable tracking and label maps: accuracy and cross entropy by visible fraction."""
    rows = []
    for task in ("ruler_vt", "helmet_icl"):
        for name, cells in by_kind(read_answers(ANSWERS, task), "visible_fraction").items():
            for (fraction,), seeds in cells.items():
                rows.append((f"`{name}`", f"{fraction:g}", *(mean_text([pooled(mine, measure) for mine in seeds])
                                                             for measure in ("accuracy", "cross_entropy"))))
    return markdown(("trained on", "visible fraction", "accuracy", "cross entropy (nats)"), rows)


def sharing_table():
    """Several questions about one context, teacher-forced and with answers, against the plain ways."""
    def cell(value, form):
        return "" if value is None else format(value, form)

    rows = []
    for path in sorted(DOWNSTREAM.glob("benchmark*.json")):
        found = load_json(path, "the benchmark")
        rows.append((f"`{path.name}`", f"{found['layers']} x {found.get('hidden_size', 1024)}",
                     f"{found['max_length']:,}", found["questions"],
                     *(cell(found["seconds"].get(name), ".1f") for name in
                       ("ours", "ours_with_answers", "plain", "generate")),
                     *(cell(found.get(f"times_faster_{name}"), ".1f") for name in
                       ("than_plain", "than_generate", "with_answers")), f"{found['largest_difference']:.0e}"))
    return markdown(("file", "layers x width", "tokens", "questions", "ours (s)", "ours with answers (s)",
                     "a pass a question (s)", "model.generate (s)", "times faster: than a pass", "than model.generate",
                     "with answers", "largest difference (nats)"), rows)


def downstream_summary():
    """The rows of what answers show, for the summary: of the models asked uniformly, at the most keys."""
    seen = []
    for (needle,), seeds in by_kind(read_answers(ANSWERS, "two_needles"), "needle")[UNIFORM].items():
        found, masked = np.transpose([visible_and_masked(mine) for mine in seeds])
        seen.append(f"{needle} costs {mean_text(found, 2)} nats where seen, {mean_text(masked, 2)} where masked")
    (units,), seeds = max(by_kind(read_answers(ANSWERS, "kv_retrieval"), "units")[UNIFORM].items())
    recall = np.transpose([ends_and_middle(mine, "accuracy") for mine in seeds])
    first, middle, last = (mean_text(values, 2) for values in recall)
    values = seeds[0][0]["values"]
    return [("Fig. 5: two needles", "`bash NaturalLanguage/Measuring/downstream/reproduce.sh`",
             f"small models of symbols: {'; '.join(seen)}; {values:g} equal values cost {math.log(values):.2f}",
             "perplexity jumps where the needle is masked"),
            ("Lost in the Middle", "the same", f"recall among {units:g} keys {first} in the first quarter, {middle} in "
             f"the middle half, {last} in the last quarter", "not in the paper")]


def summary_table():
    """What is reproduced, in a row a figure: the command, our number, the paper's."""
    lines = []
    for name in MODELS:
        measures = read_measures(RESULTS / name)
        fits = [line_from(measures, least)[0] for least in (PAPER_FROM, min(measures.rows))]
        lines.append(f"R = {fits[0].r:.3f} from {PAPER_FROM} tokens on ({fits[1].r:.3f} over all) for `{name}`")
    rows = read_losses(RESULTS / MODELS[-1])
    fit = fit_power_law([row["context_length"] for row in rows], [row["cross_entropy"] for row in rows])
    with open(RESULTS / "reported" / "ce_vs_entropy.csv", newline="", encoding="utf-8") as file:
        paper = ", ".join(f"{row['r']} ({row['model']}{without(row)})" for row in csv.DictReader(file))
    return markdown(("figure", "command", "ours", "the paper's"), [
        ("Figs. 2, 9: cross entropy against entropy", "`bash NaturalLanguage/reproduce.sh`",
         "two small models of our own: " + "; ".join(lines), f"from {PAPER_FROM} tokens on R = {paper}"),
        ("C0 + C / l^gamma", "the same", f"R^2 = {fit.r_squared:.4f}, gamma = {interval(fit.gamma, '.2f')} for "
         f"`{MODELS[-1]}`", "a power law with a floor"), *downstream_summary()])


TABLES = {**{f"measures {name}": lambda name=name: measures_table(name) for name in MODELS}, "laws": laws_table,
          "lines": lines_table, "training": training_table, "dimensions": dimensions_table,
          "benchmark": benchmark_table, "recall": recall_table, "needles": needles_table, "chains": chains_table,
          "sharing": sharing_table, "summary_measuring": summary_table}


def make(name, path):
    """A table of this part, or None for the summary of another one. Exits with code 2 at an unknown name."""
    maker = table_maker(TABLES, name, path)
    return maker and maker()


def main():
    run_make_tables(__doc__, [RESULTS / "README.md", DOWNSTREAM / "README.md", TOP], make)


if __name__ == "__main__":
    run_main(main)
