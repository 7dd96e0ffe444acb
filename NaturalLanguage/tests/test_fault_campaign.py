"""kill -9 at random moments of every script that writes: the same command then finishes, with the undisturbed result.

The short form, of one kill a script, runs with the other tests; the whole campaign with: python -m pytest -m slow
"""

import csv
import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from helpers import make_texts
from script_process import run_script, start_script

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC, MEASURING = ROOT / "SyntheticDataset", ROOT / "NaturalLanguage" / "Measuring"
NANOGPT = ROOT / "NaturalLanguage" / "ContextLengthScalingTrainingExps" / "nanoGPT"
KILLS = 8  # of each script in the whole campaign
# What differs between undisturbed runs too; the last is a random number of the package datasets.
NOT_RESULTS = {"seconds", "tokens_per_second", "samples_per_second", "peak_memory_gigabytes", "mfu", "environment",
               "_fingerprint"}

TRANSFORMER = ("--task_definition", "tasks.json", "--context_bits", 8, "--max_masked", 6, "--width", 16, "--n_layer", 2,
               "--n_head", 2, "--batch_size", 32, "--cycle_steps", 50, "--max_cycles", 2, "--settling_steps", 50,
               "--eval_interval", 25, "--checkpoint_seconds", 0)
GPT = ("--context_length", 32, "--train_bin", "data/LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin", "--train_tokens",
       3000, "--n_layer", 2, "--n_head", 2, "--n_embd", 16, "--tokens_per_step", 256, "--eval_tokens", 512,
       "--max_iters", 150,
       "--full_context_targets", 40, "--eval_interval", 10, "--patience", 100, "--checkpoint_seconds", 0)
MEASURED = ("--model_name", "model", "--dataset_path", "corpus", "--window", 33, "--stride", 8, "--trim", 0, 0,
            "--n_samples", 90, "--out_dir", "measured")
STAGES = [  # name, script, arguments, in the order in which they need each other's files
    ("generating", SYNTHETIC / "generate_data.py", (
        "--task_definition", SYNTHETIC / "task_definition.json", "--train_size", 200_000, "--valid_size", 1000)),
    ("defining tasks", SYNTHETIC / "generate_tasks.py", ("--context_bits", 8, "--first_max_bit", 3, "--out",
                                                         "tasks.json")),
    ("training an MLP", SYNTHETIC / "train_model.py", (
        "--context_length", 22, "--train_dataset_size", 2000, "--hidden_size", 16, "--batch_size", 100, "--num_epochs",
        15, "--use_bi_mlp", "--checkpoint_seconds", 0)),
    ("training a transformer", SYNTHETIC / "train_transformer.py", TRANSFORMER),
    ("saving features", SYNTHETIC / "save_feature_tensor.py", ("--model_state_dict_position", "outputs/runs/*")),
    ("measuring features", SYNTHETIC / "measure_features.py", ("outputs/runs/*/features.pt",)),
    ("collecting", SYNTHETIC / "collect_results.py", ("--use_bi_mlp",)),
    ("preparing tokens", NANOGPT / "data" / "openwebtext" / "prepare.py", (
        "--source", "text", "--text_files", "texts/*.txt", "--percent", 100, "--min_tokens", 100, "--tokenizer",
        "bpe:300", "--out_dir", "data")),
    ("training a GPT", NANOGPT / "train.py", (*GPT, "--out_dir", "gpt_runs")),
    ("exporting", NANOGPT / "export_hf.py", ("gpt_runs/*_seed0", "--out_dir", "model")),
    ("collecting GPTs", NANOGPT / "collect_results.py", ("--runs", "gpt_runs", "--out_csv", "gpt_sweep.csv")),
    ("preparing documents", MEASURING / "prepare_data.py", (
        "--source", "text", "--text_files", "texts/*.txt", "--percent", 100, "--min_tokens", 150, "--model_name",
        "model", "--save_path", "corpus")),
    ("saving hidden states", MEASURING / "save_mid_features.py", (*MEASURED, "--seq_lens", 1, 8, 32)),
    ("measuring losses", MEASURING / "evaluate_CE.py", (*MEASURED, "--seq_lens", 1, 4, 8, 32)),
    ("computing spectra", MEASURING / "compute_eigvals.py", ("measured",)),
    ("measuring entropies", MEASURING / "measure_entropy.py", ("measured", "--draws", 3)),
]


def expand(arguments, folder):
    """The arguments, with patterns replaced by the paths that they match, as a shell does."""
    for argument in map(str, arguments):
        found = sorted(str(path.relative_to(folder)) for path in folder.glob(argument)) if "*" in argument else []
        yield from found if found and "texts" not in argument else [argument]


def results_of(value):
    if isinstance(value, dict):
        return {name: results_of(entry) for name, entry in value.items() if name not in NOT_RESULTS}
    return [results_of(entry) for entry in value] if isinstance(value, list) else value


def read(path):
    """The contents of a file in a form that can be compared; fails if it is not whole."""
    if path.suffix == ".json":
        return results_of(json.loads(path.read_text()))
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    if path.suffix == ".csv":
        return [results_of(row) for row in csv.DictReader(path.read_text().splitlines())]
    return path.read_bytes()


def is_result(path):
    return path.is_file() and path.name != "lock" and path.suffix != ".lock" and ".tmp" not in str(path)


def contents(folder):
    return {str(path.relative_to(folder)): read(path) for path in sorted(folder.rglob("*")) if is_result(path)}


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return one == other


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """{name: (folder before it, contents behind it, seconds)}, from one undisturbed run of all of them."""
    folder, found = tmp_path_factory.mktemp("stages") / "work", {}
    make_texts(folder / "texts")
    for name, script, arguments in STAGES:
        before = shutil.copytree(folder, folder.parent / name.replace(" ", "_"))
        began = time.monotonic()
        done = run_script(script, *expand(arguments, folder), cwd=folder)
        assert done.returncode == 0, done.stderr
        found[name] = before, contents(folder), time.monotonic() - began
    return found


def kill_and_finish(name, kills, stages, tmp_path):
    _, script, arguments = next(stage for stage in STAGES if stage[0] == name)
    before, expected, seconds = stages[name]
    chance, killed, attempt = random.Random(name), 0, 0
    while killed < kills:
        attempt += 1
        assert attempt < 5 * kills + 10
        folder = shutil.copytree(before, tmp_path / f"{attempt}")
        process, began = start_script(script, *expand(arguments, folder), cwd=folder), time.monotonic()
        process.join(chance.uniform(0.0, seconds))
        if process.exitcode == 0:
            seconds = time.monotonic() - began  # faster than the first time
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        for path in folder.rglob("*"):
            if is_result(path) and path.suffix in (".json", ".pt"):
                read(path)  # what has its final name is whole
        done = run_script(script, *expand(arguments, folder), cwd=folder)
        assert done.returncode == 0, done.stderr
        found = contents(folder)
        assert found.keys() == expected.keys()
        assert [path for path in expected if not equal(expected[path], found[path])] == []
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", [stage[0] for stage in STAGES])
def test_a_kill(name, stages, tmp_path):
    kill_and_finish(name, 1, stages, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [stage[0] for stage in STAGES])
def test_many_kills(name, stages, tmp_path):
    kill_and_finish(name, KILLS, stages, tmp_path)


def test_the_readme_counts_the_kills():
    assert f"{KILLS * len(STAGES)} kills" in " ".join((ROOT / "README.md").read_text().split())
