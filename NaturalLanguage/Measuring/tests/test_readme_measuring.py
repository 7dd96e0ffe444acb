"""Every command of the README on this folder runs, small; its numbers are those of the committed results."""

import csv
import json
import re
import shutil

import pytest

from draw_CE_vs_entropy import drawn_fits
from drawing import read_measures
from fits import fit_line, fit_power_law
from helpers import FOLDER, make_texts
from script_process import bash, quick_python

ROOT = FOLDER.parents[1]
NAME = "NaturalLanguage/Measuring"
README = (ROOT / "README.md").read_text()
TEXT = " ".join(README.split())
BLOCKS = [block.splitlines()[1:] for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S)
          if block.startswith(f"cd {NAME}\n")]
RESULTS = FOLDER / "results"
CUT = " --window 33 --stride 8 --trim 0 0 --n_samples 90 --device cpu"
SMALLER = {"evaluate_CE.py": CUT, "save_mid_features.py": CUT, "measure_entropy.py": " --draws 2",
           "benchmark.py": " --vocab_size 300 --width 64 --layers 1 --context_length 16 --chunks 4 --kde_n 300 "
                           "--kde_width 8 --large_n 300 --large_width 8 --rounds 1"}
GRID = {"FEATURE_LENS": "1 4 16 32", "SEQ_LENS": "1 4 8 32", "N_SAMPLES": "90", "DRAWS": "2", "DEVICE": "cpu",
        "CHUNKS": "--window 33 --stride 8 --trim 0 0"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, models):
    """This folder, made-up texts for every corpus, and small models by the names that the README uses."""
    root = tmp_path_factory.mktemp("readme") / "checkout"
    shutil.copytree(FOLDER, root / NAME, ignore=shutil.ignore_patterns("outputs", "__pycache__", "filtered_dataset"))
    make_texts(root / NAME / "my_texts")
    for name, kind in (("meta-llama/Llama-3.1-8B", "llama"), ("Qwen/Qwen3-8B-Base", "qwen3"),
                       ("google/recurrentgemma-9b", "recurrent_gemma"), ("my_model", "gpt_neox")):
        shutil.copytree(models[kind], root / NAME / name)
    return root


def test_the_commands_of_this_folder(checkout):
    """In the README's order, with small settings, made-up texts for OpenWebText and small models for the large ones."""
    ran = set()
    texts = "--source text --text_files my_texts/*.txt --percent 100 --min_tokens 150"
    for line in (line for block in BLOCKS for line in block):
        name = re.search(r"(\w+\.(py|sh))", line).group()
        ran.add(name)
        variables = {**GRID, "DATA": texts}
        if name == "reproduce.sh":
            assert re.search(r"reproduce.sh (small|paper)$", line)  # the main command's test runs a smaller one
            continue
        if line.startswith("sbatch"):  # one task of the array, as Slurm would start it
            assert f"--array=0-{len(line.split('measure.sh ')[1].split()) - 1}%" in line
            variables["SLURM_ARRAY_TASK_ID"] = "1"
            line = re.sub(r"^sbatch .*?(?=measure.sh)", "bash ", line)
        line = re.sub(r'^DATA="[^"]*"', "", line)
        line = re.sub(r"torchrun .*?(?=\w+\.py)", "python ", line)
        line = re.sub(r"--seq_lens [\d ]+", "--seq_lens 1 4 32 ", line).replace("--percent 10 ", texts + " ")
        line = re.sub(r"--rope_scaling '.*?'|--window \d+|--device \w+|--min_tokens 0", "", line)
        bash(f"{line} {SMALLER.get(name, '')}", checkout / NAME, quick_python(), **variables)
    scripts = {path.name for folder in (FOLDER, FOLDER / "draw_CEvsPCA") for path in folder.iterdir()
               if path.suffix == ".sh" or (path.suffix == ".py" and "__main__" in path.read_text())}
    assert ran == scripts - {"launching.sh", "redraw_figures.sh"}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["ctl512", "ctl512_long"])
def test_the_table_is_that_of_the_results(name):
    losses = {row["context_length"]: row for row in rows(RESULTS / "small" / name / "cross_entropy.csv")}
    for row in rows(RESULTS / "small" / name / "entropy.csv"):
        length = row["context_length"]
        loss = losses[length]
        measures = json.loads((RESULTS / "small" / name / f"measures_seq_{length}.json").read_text())
        gap = ""
        if loss["difference"]:
            gap = f"{float(loss['difference']):.3f} ± {float(loss['difference_standard_error']):.3f}"
        line = (f"| {length} | {float(loss['cross_entropy']):.3f} ± {float(loss['standard_error']):.3f} | {gap} | "
                f"{float(row['kde_entropy']):.2f} ± {float(row['kde_entropy_standard_error']):.2f} | "
                f"{float(row['log_determinant_part']):.2f} | {float(row['leave_one_out_entropy']):.2f} | "
                f"{measures['intrinsic_dimension']['0.05']} | {float(row['two_nn_dimension']):.1f} |")
        assert line.replace("|  |", "| |") in TEXT


def span(parameter, digits):
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*parameter, d=digits)


@pytest.mark.parametrize("name", ["ctl512", "ctl512_long"])
def test_the_line_is_that_of_the_results(name):
    table = rows(RESULTS / "small" / name / "entropy.csv")
    for least in (1, 8):
        kept = [row for row in table if int(row["context_length"]) >= least]
        fit = fit_line(*([float(row[column]) for row in kept] for column in ("kde_entropy", "cross_entropy")))
        assert f"slope {span(fit.slope, 4)}, R = {fit.r:.3f}" in TEXT
        assert f"{fit.r:.3f}" in next(line for line in README.splitlines() if line.startswith("| Figs. 2, 9, 13, 16"))


@pytest.mark.parametrize("name", ["small/ctl512", "small/ctl512_long", "reported/Llama-3.1-8B"])
def test_the_power_law_is_that_of_the_results(name):
    table = rows(RESULTS / name / "cross_entropy.csv")
    lengths, losses = ([float(row[column]) for row in table] for column in ("context_length", "cross_entropy"))
    fit = fit_power_law(lengths, losses)
    assert (f"C0 = {span(fit.c0, 3)}, C = {span(fit.c, 2)}, gamma = {span(fit.gamma, 3)}, "
            f"R^2 = {fit.r_squared:.5f}") in TEXT
    if name == "small/ctl512":
        assert f"leaves {fit(256) - fit.c0[0]:.3f} nats beyond 256 tokens" in TEXT
    if name == "small/ctl512_long":
        assert f"misses points by up to {abs(fit.residuals).max():.3f} nats" in TEXT
        assert (f"{losses[-1]:.3f} is {losses[-1] - fit.c0[0]:.2f} above C0, and above the ends of its interval by "
                f"{losses[-1] - fit.c0[1]:.2f} and {losses[-1] - fit.c0[2]:.2f}") in TEXT
    if name.startswith("reported"):
        assert f"{fit(768) - fit.c0[0]:.3f} nats above C0 at 768 tokens" in TEXT
        assert f"({losses[lengths.index(256)] - losses[lengths.index(768)]:.3f})" in TEXT


def test_the_standard_errors_of_r_are_those_of_the_results():
    spread = {}
    for name in ("ctl512", "ctl512_long"):
        for least in (1, 8):
            measures = read_measures(RESULTS / "small" / name)
            kept = {length: entry for length, entry in measures.items() if length >= least}
            spread[name, least] = drawn_fits(kept)[:, 1].std(ddof=1)
    assert f"moves R by {max(spread['ctl512', 1], spread['ctl512_long', 1]):.3f} (standard error)" in TEXT
    assert f"for the R of -0.410 it is {spread['ctl512', 8]:.2f}." in TEXT


def test_the_dimension_at_one_threshold_is_that_of_the_results():
    folder = RESULTS / "small" / "ctl512_long"
    measures = [json.loads(path.read_text()) for path in folder.glob("measures_seq_*.json")]
    losses = [entry["cross_entropy"] for entry in measures]
    found = {threshold: fit_line([entry["intrinsic_dimension"][threshold] for entry in measures], losses).r
             for threshold in measures[0]["intrinsic_dimension"]}
    best = min(found, key=found.get)
    assert f"at the threshold {best} (R = {found[best]:.3f}, the best of {len(found)})" in TEXT


def test_the_ratios_are_those_of_the_results():
    found = json.loads((RESULTS / "benchmark.json").read_text())
    scoring, kde, memory = found["scoring"], found["kde"], found["memory"]
    assert (f"{scoring['times_faster']:.1f} times faster, with {scoring['memory_share']:.2f} of the peak memory "
            f"({scoring['peak_gigabytes']['ours']:.2f} against {scoring['peak_gigabytes']['plain']:.2f} GB)") in TEXT
    assert f"{kde['times_faster']:.1f} times faster than `scipy.stats.gaussian_kde`" in TEXT
    assert f"{memory['peak_gigabytes']:.2f} GB and {memory['seconds']:.0f} s" in TEXT
