"""kill -9 at random moments of every script that writes: the same command then finishes, with the same result."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pytest
import torch

from helpers import FOLDER, call, start_script

KILLS = int(os.environ.get("KILLS", 2))  # of each script, more for a campaign; once in QUICK, with the fast tests
NOT_RESULTS = {"seconds", "mfu", "environment", "environments"}  # differ between undisturbed runs too
TRANSFORMER = ("--task_definition", "tasks.json", "--context_bits", 8, "--max_masked", 6, "--width", 16, "--n_layer", 2,
               "--n_head", 2, "--batch_size", 32, "--cycle_steps", 30, "--max_cycles", 1, "--settling_steps", 30,
               "--eval_interval", 15, "--checkpoint_seconds", 0)
RETRIEVAL = ("--train_dataset_size", 60, "--n_pairs", 8, "--n_keys", 12, "--n_values", 4, "--visible_lengths", 2, 4, 8,
             "--width", 16, "--num_steps", 60, "--warmup_steps", 2, "--eval_interval", 15, "--test_contexts", 6,
             "--checkpoint_seconds", 0)
STAGES = [  # script, arguments, in the order in which they need each other's files
    ("generate_data.py", ("--train_size", 200_000, "--valid_size", 1000)),
    ("generate_tasks.py", ("--context_bits", 8, "--first_max_bit", 3, "--out", "tasks.json")),
    ("train_model.py", ("--context_length", 22, "--train_dataset_size", 2000, "--hidden_size", 16, "--batch_size", 100,
                        "--num_epochs", 5, "--use_bi_mlp", "--task_hidden_size", 100, "--checkpoint_seconds", 0)),
    ("train_transformer.py", TRANSFORMER),
    ("train_retrieval.py", RETRIEVAL),
    ("save_feature_tensor.py", ("--model_state_dict_position", "outputs/runs/*_seed0", "outputs/transformer_runs/*",
                                "outputs/retrieval/runs/retrieval_*", "--n_samples", 2000)),
    ("measure_features.py", ("outputs/runs/*/features.pt", "outputs/transformer_runs/transformer_*/features/*.pt",
                             "outputs/retrieval/runs/retrieval_*/features/*.pt")),
    ("collect_results.py", ("--use_bi_mlp",)),
    ("collect_retrieval.py", ()),
]
QUICK = ("train_model.py", "measure_features.py")


def expand(arguments, folder):
    """The arguments, with patterns replaced by the paths that they match, as a shell does."""
    for argument in map(str, arguments):
        found = sorted(str(path.relative_to(folder)) for path in folder.glob(argument)) if "*" in argument else []
        yield from found or [argument]


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
    return path.is_file() and path.name != "lock" and ".tmp" not in path.name


def contents(folder):
    return {str(path.relative_to(folder)): read(path) for path in sorted(folder.rglob("*")) if is_result(path)}


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    return first == second


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """{script: (folder before it, contents behind it)}, from one undisturbed run of all of them."""
    folder, found = tmp_path_factory.mktemp("stages") / "work", {}
    folder.mkdir()
    for name, arguments in STAGES:
        before = shutil.copytree(folder, folder.parent / name)
        call(name, *expand(arguments, folder), cwd=folder)
        found[name] = before, contents(folder)
    return found


def kill_and_finish(name, kills, stages, tmp_path, wait):
    """Kill the script as often, each time in a fresh folder when wait(process, folder) returns, and finish it there."""
    arguments = dict(STAGES)[name]
    before, expected = stages[name]
    killed, attempt = 0, 0
    while killed < kills:
        attempt += 1
        assert attempt < 5 * kills + 10
        folder = shutil.copytree(before, tmp_path / f"{attempt}")
        process = start_script(name, *expand(arguments, folder), cwd=folder)
        wait(process, folder)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for path in folder.rglob("*"):
            if is_result(path) and path.suffix in (".json", ".pt"):
                read(path)  # what has its final name is whole
        call(name, *expand(arguments, folder), cwd=folder)
        found = contents(folder)
        assert found.keys() == expected.keys()
        assert [path for path in expected if not equal(expected[path], found[path])] == []
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", QUICK)
def test_a_kill(name, stages, tmp_path):
    """Soon after it has begun to write."""
    chance = random.Random(name)

    def wait(process, folder):
        there = len([*folder.rglob("*")])
        while process.poll() is None and len([*folder.rglob("*")]) == there:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))

    kill_and_finish(name, 1, stages, tmp_path, wait)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in STAGES])
def test_many_kills(name, stages, tmp_path):
    """At random moments of the time that it takes here and now; the first third of it is python's start."""
    began, chance = time.monotonic(), random.Random(name)
    before, _ = stages[name]
    folder = shutil.copytree(before, tmp_path / "timed")
    start_script(name, *expand(dict(STAGES)[name], before), cwd=folder).communicate()
    seconds = time.monotonic() - began

    def wait(process, _):
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.3 * seconds, seconds))

    kill_and_finish(name, KILLS, stages, tmp_path, wait)


def test_the_campaign_has_every_script_that_writes():
    scripts = {path.name for pattern in ("generate_*.py", "train_*.py", "save_*.py", "measure_*.py", "collect_*.py")
               for path in FOLDER.glob(pattern)}
    assert {name for name, _ in STAGES} == scripts
