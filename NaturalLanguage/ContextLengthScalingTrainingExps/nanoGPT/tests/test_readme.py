"""Every command of the README on this folder runs, small; losses and ratios are those of the committed results."""

import csv
import json
import re
import shutil
import statistics

import pytest

from helpers import FOLDER, TINY, make_texts
from optimal_context_table import BASELINES, summary
from script_process import bash, quick_python

ROOT = FOLDER.parents[2]
NAME = "NaturalLanguage/ContextLengthScalingTrainingExps/nanoGPT"
MEASURING = "NaturalLanguage/Measuring"
README = (ROOT / "README.md").read_text()
BLOCKS = [block.splitlines()[1:] for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S)
          if block.startswith(f"cd {NAME}\n")]
RESULTS = FOLDER / "results"
TRAINING = " ".join(map(str, TINY)) + " --max_iters 5"
CORPUS = "--source text --text_files '{texts}' --min_tokens 100 --tokenizer bpe:300"
SMALLER = {  # flags that make a command small; the last one given counts
    "prepare.py": CORPUS, "train.py": TRAINING, "train_script.sh": TRAINING, "train_sweep.sh": TRAINING,
    "fit_optimal_context.py": "--draws 20", "measure_recovery.py": "--tables 2 --draws 20",
    "benchmark.py": "--context_lengths 32 --tokens 256 --vocab_size 500 --n_layer 1 --n_head 2 --n_embd 16 --rounds 1",
}
NUMBERS = {"5120": "32", "80000000": "2000", "300000000": "2000", "100000000": "1500", "30000000": "1000",
           "1024": "32", "2048": "64", "512": "16"}
GRID = {"CONTEXT_LENGTHS": "32 16", "TRAIN_TOKENS": "2000", "SEEDS": "0"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    made = shutil.ignore_patterns("outputs", "config", "runs", "longer_runs", "models", "*.bin", "*.tmp", "__pycache__")
    root = tmp_path_factory.mktemp("readme") / "checkout"
    shutil.copytree(FOLDER, root / NAME, ignore=made)
    shutil.copytree(ROOT / MEASURING, root / MEASURING, ignore=made)
    shutil.copy(ROOT / "NaturalLanguage" / "reproduce.sh", root / "NaturalLanguage")
    make_texts(root / "texts", n_files=400, n_words=150)
    return root


def test_the_main_command_has_the_language_models(checkout):
    """The smoke preset from the top, as the README's main command has it, then once more: nothing is done again."""
    assert re.search(r"^pip install -r requirements.txt && .* && bash NaturalLanguage/reproduce.sh$", README, re.M)
    output = bash("bash NaturalLanguage/reproduce.sh smoke", checkout)
    measured = {path.name for path in (checkout / MEASURING / "outputs" / "smoke" / "figures").glob("*.pdf")}
    assert {"ce_vs_context.pdf", "ce_vs_entropy.pdf", "ctl64_spectra.pdf", "ctl64_correlations.pdf"} <= measured
    assert "outputs/smoke/figures/loss_vs_context.pdf" in output and "outputs/smoke/models/ctl64: GPT-NeoX" in output
    made = {path: path.read_bytes() for path in (checkout / NAME / "outputs" / "smoke").rglob("final.json")}
    assert len(made) == 5
    output = bash("bash NaturalLanguage/reproduce.sh smoke", checkout, quick_python())
    assert output.count("prepared before") == 2 and output.count("finished before") == 5 + 4 + 5  # runs, then contexts
    assert made == {path: path.read_bytes() for path in made}


def test_the_commands_of_this_folder(checkout):
    """In the README's order, with small settings and a made-up corpus in place of the large ones."""
    ran = set()
    for line in (line for block in BLOCKS for line in block):
        name = re.search(r"\w+\.(py|sh)", line).group()
        ran.add(name)
        line = re.sub(r'(CONTEXT_LENGTHS|TRAIN_TOKENS|SEEDS)="[^"]*" ', "", line).replace(" --compile", "")
        if name in ("fit_optimal_context.py", "measure_recovery.py"):  # a small grid cannot carry a fit
            line = re.sub(r"--results \S+", "--results results/small/sweep.csv", line)
        if name == "reproduce.sh":
            assert re.search(r"reproduce.sh (small|paper)$", line)  # these presets are too long for a test
            continue
        line = re.sub(r"outputs/small/data/(\w+)_P100.0", r"data/openwebtext/\1_P10.0", line)
        line = re.sub(r"\d+", lambda number: NUMBERS.get(number[0], number[0]), line)
        bash(f"{line} {SMALLER.get(name, '').format(texts=f'{checkout}/texts/*.txt')}", checkout / NAME,
             quick_python(), **GRID)
    scripts = {path.name for path in FOLDER.iterdir() if path.suffix == ".sh" or
               (path.suffix == ".py" and "__main__" in path.read_text())}
    assert ran == scripts - {"launching.sh", "redraw_figures.sh"} | {"prepare.py"}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("reading", ["best_valid_loss", "full_context_loss"])
def test_the_table_of_losses_is_that_of_the_results(reading):
    cells = {}
    for row in read(RESULTS / "small" / "sweep.csv"):
        cells.setdefault((int(row["train_tokens"]), int(row["context_length"])), []).append(float(row[reading]))
    lengths = sorted({length for _, length in cells})
    for tokens in sorted({tokens for tokens, _ in cells}):
        means = [statistics.mean(cells[tokens, length]) for length in lengths]
        marks = ["**" if mean == min(means) else "" for mean in means]
        row = "".join(f" {mark}{mean:.3f}{mark} [{min(cells[tokens, length]):.3f}, {max(cells[tokens, length]):.3f}] |"
                      for mark, mean, length in zip(marks, means, lengths))
        assert f"| {tokens:,} |{row}" in README


def test_the_ratios_are_those_of_the_results():
    text = " ".join(README.split())
    for entry in json.loads((RESULTS / "benchmark.json").read_text())["contexts"]:
        assert (f"at context {entry['context_length']:,}: {entry['times_faster']:.2f} times the tokens a second, "
                f"{entry['memory_share']:.2f} of the memory") in text


def test_the_measured_model_is_that_of_the_results():
    row, = read(RESULTS / "small" / "long.csv")
    assert (f"{int(row['last_step']) * 2048:,} tokens seen, validation loss {float(row['best_valid_loss']):.3f}") in \
        " ".join(README.split())
    assert f"({float(row['seconds']) / 60:.0f} minutes on one core" in README


def test_the_longer_model_is_that_of_the_results():
    row, = read(RESULTS / "small" / "longer.csv")
    assert (f"{int(row['parameters']):,} parameters, context length {row['context_length']}, "
            f"{int(row['last_step']) * 2048:,} tokens: validation loss {float(row['best_valid_loss']):.3f}") in \
        " ".join(README.split())


@pytest.mark.parametrize("name", ["synthetic", "small", "wikitext"])
def test_the_optima_are_those_of_the_fits(name):
    found = json.loads((RESULTS / "optimal_context" / name / "fit.json").read_text())
    held = {row["train_tokens"]: row for row in found["candidates"][found["law"]]}
    for row in found["optima"]:
        size, best = row["train_tokens"], row["optimum"]
        assert (f"| {size:,.0f} | {held[size]['measured_optimum']:g} | {best['value']:.3g} [{best['low']:.3g}, "
                f"{best['high']:.3g}] | {held[size]['optimum']:.3g} |") in README
    power = found["exponent"]
    assert f"D^{power['value']:.2f} [{power['low']:.2f}, {power['high']:.2f}]" in README
    for rows in ({**found["candidates"], **found["check"]["baselines"]}, found["check"]["larger_half"]["rows"]):
        for label, told in ((label, summary(row)) for label, row in rows.items() if row):
            if label in (found["law"], *BASELINES) or name == "synthetic":
                assert (f"| {label} | {told['within_one_step']} of {told['sizes']} | {told['same_length']} | "
                        f"{told['near_error_rms']:.3f} | {told['near_error_max']:.3f} | "
                        f"{told['regret_mean']:.3f} |") in README


def test_the_recovery_is_that_of_the_results():
    found = json.loads((RESULTS / "optimal_context" / "synthetic" / "recovery.json").read_text())
    assert found["tables"] == 200
    for label, share in found["coverage"].items():
        if not label.startswith("optimum"):
            assert f"{label} {share:.3f}" in " ".join(README.split())
    optima = [share for label, share in found["coverage"].items() if label.startswith("optimum")]
    assert f"optima {min(optima):.3f} to {max(optima):.3f}" in " ".join(README.split())
