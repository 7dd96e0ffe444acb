"""Helpers of the tests: the scripts are run as a user runs them, in processes and a folder of their own."""

import pytest

from script_process import run_script
from helpers import FOLDER, SMALL_TASKS


@pytest.fixture
def script(tmp_path):
    """Run a script of this folder in tmp_path: script("train_model.py", "--seed", 1) -> CompletedProcess."""

    def run(name, *arguments, check=True, **options):
        done = run_script(FOLDER / name, *arguments, cwd=tmp_path, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def small_data(script, tmp_path):
    """train.pt and valid.pt of a task with 6 subtasks in 10 bits, one of them with random answers, below data/."""
    (tmp_path / "tasks.json").write_text(str(SMALL_TASKS))
    script("generate_data.py", "--train_size", 700, "--valid_size", 300, "--context_bits", 10,
           "--task_definition", "tasks.json")
    return tmp_path / "data"
