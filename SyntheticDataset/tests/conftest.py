"""Fixtures of the tests: scripts run in a folder of their own, and small samples there."""

import json
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests fill the cores, and threads would wait

from helpers import SMALL_TASKS, call


@pytest.fixture
def script(tmp_path):
    """Call a script of this folder in tmp_path: script("train_model.py", "--seed", 1) -> CompletedProcess."""
    return lambda name, *arguments, check=True: call(name, *arguments, cwd=tmp_path, check=check)


@pytest.fixture
def small_data(script, tmp_path):
    """train.pt and valid.pt of a task with 6 subtasks in 10 bits, one of them with random answers, below data/."""
    (tmp_path / "tasks.json").write_text(json.dumps(SMALL_TASKS))
    script("generate_data.py", "--train_size", 700, "--valid_size", 300, "--context_bits", 10,
           "--task_definition", "tasks.json")
    return tmp_path / "data"
