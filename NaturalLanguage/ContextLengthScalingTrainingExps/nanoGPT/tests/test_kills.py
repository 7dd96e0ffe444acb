"""kill -9 at random moments of the scripts from texts to a table: the same command then ends with the same result."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch

from helpers import make_texts, run_script, start_script

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", 2))  # of each script; more for a campaign
# What differs between undisturbed runs too, and what of a checkpoint's time is in a run's state.
NOT_RESULTS = {"seconds", "tokens_per_second", "peak_memory_gigabytes", "mfu", "environment"}
TRAINING = ("--context_length", 32, "--train_bin", "data/LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin", "--train_tokens",
            3000, "--n_layer", 2, "--n_head", 2, "--n_embd", 16, "--tokens_per_step", 256, "--eval_tokens", 512,
            "--max_iters", 150, "--full_context_targets", 40, "--eval_interval", 10, "--patience", 100,
            "--checkpoint_seconds", 0, "--threads", 1)
STAGES = [  # name, script, arguments, in the order in which they need each other's files
    ("preparing", "data/openwebtext/prepare.py", ("--source", "text", "--text_files", "texts/*.txt", "--percent", 100,
                                                  "--min_tokens", 100, "--tokenizer", "bpe:300", "--out_dir", "data")),
    ("training", "train.py", (*TRAINING, "--out_dir", "runs")),
    ("exporting", "export_hf.py", ("runs/ctl32_tok3000_seed0", "--out_dir", "model")),
    ("collecting", "collect_results.py", ("--runs", "runs", "--out_csv", "sweep.csv")),
]


def results_of(value):
    if isinstance(value, dict):
        return {name: results_of(entry) for name, entry in value.items() if name not in NOT_RESULTS}
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [results_of(entry) for entry in value] if isinstance(value, list) else value


def read(path):
    """The contents of a file in a form that can be compared; fails if it is not whole."""
    if path.suffix == ".json":
        return results_of(json.loads(path.read_text()))
    if path.suffix == ".pt":
        contents = torch.load(path, weights_only=True)
        if "curve_columns" in contents:
            timed = [contents["curve_columns"].index(name) for name in contents["curve_columns"] if name in NOT_RESULTS]
            for curve in contents["curves"].values():
                curve[:, timed] = 0
        return results_of(contents)
    if path.suffix == ".csv":
        return [results_of(row) for row in csv.DictReader(path.read_text().splitlines())]
    return path.read_bytes()


def result_files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"
            and path.suffix != ".lock" and ".tmp" not in str(path)]


def contents(folder):
    found = {str(path.relative_to(folder)): read(path) for path in result_files(folder)}
    found.pop("model/export.json", None)  # names the run's args.json, which holds its environment
    return found


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """{name: (folder before it, contents behind it, seconds)}, from one undisturbed run of all of them."""
    folder, found = tmp_path_factory.mktemp("stages") / "work", {}
    make_texts(folder / "texts")
    for name, script, arguments in STAGES:
        before = shutil.copytree(folder, folder.parent / name)
        began = time.monotonic()
        process = start_script(script, *arguments, cwd=folder)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        found[name] = before, contents(folder), time.monotonic() - began
    return found


@pytest.mark.parametrize("name, script, arguments", STAGES, ids=[stage[0] for stage in STAGES])
def test_kills(name, script, arguments, stages, tmp_path):
    before, expected, seconds = stages[name]
    chance, killed, attempt = random.Random(name), 0, 0
    while killed < KILLS:
        attempt += 1
        assert attempt < 5 * KILLS + 10
        folder = shutil.copytree(before, tmp_path / f"{attempt}")
        process, began = start_script(script, *arguments, cwd=folder), time.monotonic()
        try:
            process.communicate(timeout=chance.uniform(0.0, seconds))
            seconds = time.monotonic() - began  # faster than the first time
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for path in result_files(folder):
            if path.suffix in (".json", ".pt"):
                read(path)  # what has its final name is whole
        done = run_script(script, *arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert contents(folder) == expected
        shutil.rmtree(folder)
