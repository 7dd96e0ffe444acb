"""What several test files use: scripts called in this process, or run as a user runs them."""

import contextlib
import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from utils import STOP_SIGNALS, StopSignal, run_main

FOLDER = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
               "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

# 6 subtasks for samples of 10 bits; the last one's answers are random.
SMALL_TASKS = [[4, 3], [5, 1], [6, 2], [7, 5], [8, 1], [12, 11]]


def call(name, *arguments, cwd, check=True):
    """Call the main() of a script as `python NAME ARGUMENTS` in `cwd` would: a CompletedProcess."""
    arguments, out, err, code = [name, *map(str, arguments)], io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    former = sys.argv
    sys.argv = arguments
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_main(importlib.import_module(name.removesuffix(".py")).main)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = former
        plt.close("all")
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert not check or code == 0, err.getvalue()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(done, *words):
    """Assert that a script ended with exit code 2 and one line, in which these words are."""
    assert done.returncode == 2, done.stderr
    line, = done.stderr.splitlines()
    assert all(word in line for word in words), line


def stop_in(monkeypatch, module, name, is_last):
    """Have SIGTERM come in a module's function where is_last(*arguments, **options); the run then ends with code 9."""
    function = getattr(module, name)

    def signalled(*arguments, **options):
        if is_last(*arguments, **options):
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **options)

    def end(*_):
        raise SystemExit(9)

    monkeypatch.setattr(module, name, signalled)
    monkeypatch.setattr(StopSignal, "end", end)


def start(command, cwd, **variables):
    """Start a command in a session of its own, its output in one pipe."""
    return subprocess.Popen([*map(str, command)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env={**ENVIRONMENT, **variables}, start_new_session=True)


def run(command, cwd, **variables):
    """Run a command as a user does: its exit code and its output, stderr included."""
    process = start(command, cwd, **variables)
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def start_script(name, *arguments, cwd):
    return start([sys.executable, FOLDER / name, *arguments], cwd)


def copy_of_the_folder(parent):
    """The folder without anything that was made by running it, below a path with a space."""
    made = shutil.ignore_patterns("outputs", "data", "results", "tests", "__pycache__", "*.log")
    return shutil.copytree(FOLDER, parent / "a checkout" / "SyntheticDataset", ignore=made)
