"""Every command of the README on this folder runs, small; losses, dimensions and ratios are those of the results."""

import csv
import json
import math
import re
import shutil
import statistics

import numpy as np
import pytest

from draw_entropy_vs_loss import column, load_by_seed, log_sums, straightest
from script_process import bash, quick_python
from helpers import FOLDER

README = (FOLDER.parent / "README.md").read_text()
ONE_LINE = " ".join(README.split())  # a sentence may be wrapped anywhere
RESULTS = FOLDER / "results"
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("cd ")]
TRAINING = "--num_epochs 1 --batch_size 500 --valid_dataset_size 400"
SMALLER = {  # flags that make a command small; the last one given counts
    "generate_data.py": "--train_size 2000 --valid_size 500",
    "train_model.py": f"--train_dataset_size 2000 {TRAINING}",
    "train_model.sh": TRAINING,
    "save_feature_tensor.py": "--valid_dataset_size 400",
    "train_transformer.py": "--width 16 --n_layer 1 --n_head 2 --batch_size 2 --cycle_steps 4 --max_cycles 1 "
                            "--settling_steps 2 --eval_contexts 2 --final_contexts 2",
    "save_transformer_features.py": "--n_samples 100",
    "benchmark.py": "--train_size 2000 --generation_size 2000 --kde_shapes 400x8 --repeats 1 --script_train_size 500",
}
GRID = {"CONTEXT_LENGTHS": "27 36", "TRAIN_SIZES": "2000", "SEEDS": "0",
        "BI_CONTEXT_LENGTHS": "22", "BI_TRAIN_SIZE": "4000"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    made = shutil.ignore_patterns("outputs", "data", "runs", "bi_runs", "__pycache__", ".git", ".venv")
    root = tmp_path_factory.mktemp("readme") / "checkout"
    shutil.copytree(FOLDER, root / FOLDER.name, ignore=made)
    return root


def test_the_two_commands_are_there():
    assert any(line.startswith("pip install -r requirements.txt && bash SyntheticDataset/reproduce.sh && ")
               for line in COMMANDS)
    assert "pip install -r requirements.txt && python -m pytest" in COMMANDS
    assert "pip install -r requirements.txt && python -m pytest" in (FOLDER.parent / ".ci" / "run").read_text()


def test_the_main_command(checkout):
    output = bash("bash SyntheticDataset/reproduce.sh", checkout, **GRID)
    assert "outputs/small/figures/loss_vs_context.pdf" in output


def test_the_commands_of_this_folder(checkout):
    """In the README's order, with a small grid in place of the larger ones."""
    ran = set()
    for block in BLOCKS:
        lines = block.splitlines()
        if lines[0] != f"cd {FOLDER.name}":
            continue
        for line in lines[1:]:
            line = re.sub(r'(CONTEXT_LENGTHS|TRAIN_SIZES|SEEDS)=("[^"]*"|\S+) ', "", line)
            line = line.replace(" --device cuda --dtype bfloat16 --compile", "")
            line = re.sub(r"reproduce_transformer.sh (small|paper)$", "reproduce_transformer.sh smoke", line)
            name = re.search(r"\w+\.(py|sh)", line).group()
            bash(f"{line} {SMALLER.get(name, '')}", checkout / FOLDER.name, quick_python(), **GRID)
            ran.add(name)
    scripts = {path.name for pattern in ("*.py", "*.sh") for path in FOLDER.glob(pattern)}
    modules = {"mlp.py", "plotting.py", "run.py", "samples.py", "utils.py", "tasks.py", "transformer.py",
               "launching.sh", "redraw_figures.sh"}
    assert ran == scripts - modules - {"reproduce.sh"}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_losses_are_those_of_the_results():
    """And the small preset's optima are interior ones, below every seed at the neighbouring context lengths."""
    for name, seeds in (("small", 5), ("transformer_optimum", 2)):
        cells = {}
        for row in read(RESULTS / name / "sweep.csv"):
            cell = int(row["train_dataset_size"]), int(row["context_length"])
            cells.setdefault(cell, []).append(float(row["best_valid_loss"]))
        lengths = sorted({length for _, length in cells})
        for size in sorted({size for size, _ in cells}):
            means = {length: statistics.mean(cells[size, length]) for length in lengths}
            marks = {length: "**" if means[length] == min(means.values()) else "" for length in lengths}
            row = "".join(f" {marks[length]}{means[length]:.3f}{marks[length]}"
                          f" [{min(cells[size, length]):.3f}, {max(cells[size, length]):.3f}] |" for length in lengths)
            assert f"| {size:,} |{row}" in README
            assert len(cells[size, lengths[0]]) == seeds
            best = min(lengths, key=means.get)
            if name == "small":
                assert best not in (lengths[0], lengths[-1])
                neighbours = [lengths[lengths.index(best) + side] for side in (-1, 1)]
                assert all(min(cells[size, other]) > max(cells[size, best]) for other in neighbours)


def test_the_published_setting_is_that_of_the_results():
    for row in read(RESULTS / "published" / "sweep.csv"):
        assert re.search(rf"\| {row['context_length']} \| {float(row['best_valid_loss']):.3f} \|", README)


def test_the_dimensions_are_those_of_the_results():
    measures = [json.loads(path.read_text()) for path in (RESULTS / "small" / "measures").glob("*.json")]
    assert len({one["visible_context_length"] for one in measures}) >= 6
    for one in measures:
        assert one["intrinsic_dimension"]["0.1"] == one["n_visible_tasks"]


def correlations(name):
    """R of the cross entropy against the KDE entropy and the two sums of log eigenvalues: three lists, by seed."""
    seeds = load_by_seed(RESULTS / name / "measures")
    losses = {seed: column(measures, "cross_entropy") for seed, measures in seeds.items()}
    kde = [np.corrcoef(column(measures, "kde_entropy"), losses[seed])[0, 1] for seed, measures in seeds.items()]
    sums = [[straightest(log_sums(measures, relative), losses[seed])[1] for seed, measures in seeds.items()]
            for relative in (False, True)]
    return kde, *sums


def test_the_transformers_are_those_of_the_results():
    for row in read(RESULTS / "transformer_small" / "table1.csv"):
        risk, mean, low, high = (float(row[name]) for name in ("bayes_risk", "cross_entropy", "lowest", "highest"))
        assert f"| {row['context_length']} | {risk:.4f} | {mean:.4f} [{low:.4f}, {high:.4f}] |" in README
    for found in correlations("transformer_small"):
        assert f"R = {np.mean(found):.3f} [{min(found):.3f}, {max(found):.3f}]" in ONE_LINE


def test_the_transformer_of_the_papers_size_is_that_of_the_results():
    rows = {int(row["context_length"]): row for row in read(RESULTS / "transformer_paper" / "table1.csv")}
    assert list(rows) == list(range(11, 61))
    shown = re.findall(r"^\| (\d+) \| (0\.\d{5}) \| (0\.\d{5}) \|", README, re.M)
    assert len(shown) > 5
    for length, risk, loss in shown:
        row = rows[int(length)]
        assert (risk, loss) == (f"{float(row['bayes_risk']):.5f}", f"{float(row['cross_entropy']):.5f}")
    for name in ("transformer_paper", "transformer_unsettled"):
        largest = max(float(row["largest_difference"]) for row in read(RESULTS / name / "table1.csv"))
        assert f"within {math.ceil(largest * 1e5) / 1e5:.5f} nats" in ONE_LINE
        for found in correlations(name):
            assert f"R = {found[0]:.4f}" in ONE_LINE
    seconds = json.loads((RESULTS / "transformer_paper" / "final.json").read_text())["seconds"]
    assert f"of the {seconds / 60:.0f} minutes of training" in ONE_LINE


def test_the_ratios_are_those_of_the_results():
    results = json.loads((RESULTS / "benchmark.json").read_text())
    assert f"{results['training']['times_faster']:.2f} times" in README
    assert f"{100 * results['training']['loading_share']:.1f}%" in README
    assert f"{results['generation']['times_faster']:.0f} times" in README
    whole = results["script"]
    assert (f"takes {whole['seconds']:.0f} s and {whole['peak_gigabytes']:.1f} GB of memory, and the two files take "
            f"{whole['file_megabytes']:.0f} MB") in ONE_LINE
    assert all(f"{kde['times_faster']:.1f} times" in README for kde in results["kde"])
