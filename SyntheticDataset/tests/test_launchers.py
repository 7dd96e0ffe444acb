"""The shell scripts as a user runs them: reproduce.sh smoke from an empty folder, sweeps that fail or are killed."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from script_process import quick_python, run_script
from helpers import copy_of_the_folder

FIGURES = ("loss_vs_context", "approximation_loss", "training_curves", "intrinsic_dimension")
TINY = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "2000", "BI_CONTEXT_LENGTHS": "22"}


@pytest.fixture
def folder(tmp_path):
    return copy_of_the_folder(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder in which reproduce.sh smoke has run once from nothing."""
    folder = copy_of_the_folder(tmp_path_factory.mktemp("undisturbed"))
    code, output = run(folder, "SyntheticDataset/reproduce.sh", "smoke", **TINY)
    assert code == 0, output
    return folder


def start(folder, *command, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"PYTHON": sys.executable, **variables}
    return subprocess.Popen(["bash", *command], cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, env=environment, start_new_session=True)


def run(folder, *command, **variables):
    process = start(folder, *command, **variables)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def sweep(folder):
    """The rows of the sweep, without the time they took."""
    with open(folder / "outputs" / "smoke" / "sweep.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_reproduce_smoke_from_an_empty_folder(undisturbed):
    assert len(sweep(undisturbed)) == 2
    for figure in FIGURES:
        for suffix in ("pdf", "png"):
            assert (undisturbed / "outputs" / "smoke" / "figures" / f"{figure}.{suffix}").stat().st_size > 5000
    measures = list((undisturbed / "outputs" / "smoke" / "measures").glob("*.json"))
    assert len(measures) == 1
    made = [*(undisturbed / "outputs").rglob("*.pt"), *(undisturbed / "outputs").rglob("final.json"), *measures]
    stamps = {path: path.stat().st_mtime_ns for path in made}
    code, output = run(undisturbed, "SyntheticDataset/reproduce.sh", "smoke", **TINY, PYTHON=quick_python())
    assert code == 0 and output.count("finished before") == 3 and "there already" in output
    assert len(stamps) == 3 * 3 + 2 + 1 + 1 and stamps == {path: path.stat().st_mtime_ns for path in stamps}


def is_running(group):
    """Whether the process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_reproduce_killed_at_every_stage_ends_the_same(folder, undisturbed):
    """kill -9 of the top shell alone, of everything, and SIGTERM; what still runs then is not trampled on."""
    groups = []
    for seconds, kill in ((1.5, "all"), (5, "top"), (3, "all"), (6, "term")):
        process = start(folder, "SyntheticDataset/reproduce.sh", "smoke", **TINY)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            if kill == "top":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL if kill == "all" else signal.SIGTERM)
        process.wait()
        process.stdout.close()
        groups.append(process.pid)
    until = time.monotonic() + 60
    while any(map(is_running, groups)) and time.monotonic() < until:  # left alone, or saving: it holds its run's lock
        time.sleep(0.1)
    code, output = run(folder, "SyntheticDataset/reproduce.sh", "smoke", **TINY, PYTHON=quick_python())
    assert code == 0, output
    assert sweep(folder) == sweep(undisturbed)
    measures = [place / "outputs" / "smoke" / "measures" / "bi_mlp_ctl22_train4000_wd0.05_seed0.json"
                for place in (folder, undisturbed)]
    assert measures[0].read_text() == measures[1].read_text()


def test_unknown_preset(folder):
    code, output = run(folder, "SyntheticDataset/reproduce.sh", "huge")
    assert code == 2 and output == "reproduce.sh: unknown preset huge; use smoke, small or paper\n"


@pytest.fixture
def tiny_data(folder):
    done = run_script(folder / "generate_data.py", "--train_size", 1000, "--valid_size", 200, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_crashed_run_is_reported_and_the_others_finish(tiny_data):
    variables = {"CONTEXT_LENGTHS": "27 101", "TRAIN_SIZES": "1000 500", "SEEDS": "0", "PYTHON": quick_python()}
    flags = ("--num_epochs", "1", "--hidden_size", "8")
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", *flags, **variables)
    assert code == 1
    assert output.count("FAILED") == 2 and "2 of 4 runs failed" in output
    assert output.count("a context length of 101 was asked for") == 2
    assert len(list((tiny_data / "outputs" / "runs").glob("*/final.json"))) == 2
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", *flags, **variables | {"CONTEXT_LENGTHS": "27"})
    assert code == 0 and output.count("finished before") == 2


def test_a_sweep_of_transformers_is_found_again(tiny_data):
    variables = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "500", "SEEDS": "0"}
    flags = ("--model", "transformer", "--width", "8", "--n_layer", "1", "--n_head", "2", "--num_epochs", "1")
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", *flags, **variables)
    assert code == 0, output
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", "--collect", *flags, **variables)
    assert code == 0 and "2 finished runs of 2" in output, output
    with open(tiny_data / "outputs" / "sweep.csv") as file:
        assert [(row["model"], row["context_length"]) for row in csv.DictReader(file)] == [
            ("transformer", "22"), ("transformer", "27")]
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", "--submit", *flags, **variables)
    assert code == 0 and output == "all 2 cells have finished; nothing to submit\n"


def test_one_array_task_does_one_cell(tiny_data):
    variables = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "1000 500", "SEEDS": "0", "PYTHON": quick_python()}
    flags = ("--num_epochs", "1", "--hidden_size", "8")
    spool = tiny_data.parent / "spool"
    spool.mkdir()
    shutil.copy(tiny_data / "train_model.sh", spool / "slurm_script")  # Slurm runs a copy, elsewhere
    variables["SLURM_SUBMIT_DIR"] = str(tiny_data)
    code, output = run(tiny_data, "spool/slurm_script", *flags, SLURM_ARRAY_TASK_ID="2", **variables)
    assert code == 0, output
    runs = [path.parent.name for path in (tiny_data / "outputs" / "runs").glob("*/final.json")]
    assert runs == ["mlp_ctl22_train500_wd0.0008_seed0"]
    code, output = run(tiny_data, "SyntheticDataset/train_model.sh", *flags, IDX="4", **variables)
    assert code == 2 and "--array=0-3" in output


def test_sigterm_ends_the_sweep_and_its_runs(tiny_data):
    variables = {"CONTEXT_LENGTHS": "22 27 36", "TRAIN_SIZES": "1000", "SEEDS": "0"}
    process = start(tiny_data, "SyntheticDataset/train_model.sh", "--num_epochs", "100000",
                    "--early_stopping", "100000", **variables)
    deadline = time.monotonic() + 60
    while len(list((tiny_data / "outputs" / "runs").glob("*/metrics.csv"))) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=30) == 143
    time.sleep(1)
    process.stdout.close()
    # only what still runs: where nothing reaps orphans the dead stay listed
    left = subprocess.run(["pgrep", "-r", "DRS", "-s", str(process.pid)], capture_output=True, text=True).stdout.split()
    for survivor in left:
        os.kill(int(survivor), signal.SIGKILL)
    assert left == []
