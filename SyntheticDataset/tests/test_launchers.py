"""The launchers as a user runs them: presets from nothing, sweeps that fail, are stopped or are started twice."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from helpers import copy_of_the_folder, run, start

TINY = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "2000", "SEEDS": "0", "BI_CONTEXT_LENGTHS": "22"}
FLAGS = ("--num_epochs", "1", "--hidden_size=8")
BASH32 = os.environ.get("BASH32", "")  # a bash 3.2, as macOS has it


@pytest.fixture
def folder(tmp_path):
    return copy_of_the_folder(tmp_path)


@pytest.fixture
def samples(folder):
    code, output = run([sys.executable, "generate_data.py", "--train_size", 1000, "--valid_size", 200], folder)
    assert code == 0, output
    return folder


def results(folder):
    """Everything that the smoke preset made, but for the time that it took and the figures."""
    found = {}
    for path in sorted((folder / "outputs" / "smoke").rglob("*")):
        if path.suffix == ".csv":
            with open(path, newline="") as file:
                rows = csv.DictReader(file)
                found[path.name] = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
        elif path.suffix == ".pt":
            found[str(path.relative_to(folder))] = str(torch.load(path, weights_only=True))
    return found


def test_the_smoke_preset(folder):
    """From nothing, in a folder with a space in its path."""
    code, output = run(["bash", "reproduce.sh", "smoke"], folder, **TINY)
    assert code == 0, output
    out = folder / "outputs" / "smoke"
    for figure in ("loss_vs_context", "approximation_loss", "training_curves", "intrinsic_dimension"):
        assert all((out / "figures" / f"{figure}.{suffix}").stat().st_size > 5000 for suffix in ("pdf", "png"))
    for table, rows in (("sweep.csv", 2), ("bi_sweep.csv", 1), ("measures/measures.csv", 1)):
        assert len((out / table).read_text().splitlines()) == rows + 1


def assert_nothing_is_made_twice(folder, shell):
    """In a folder where the smoke preset has ended."""
    out = folder / "outputs" / "smoke"
    stamps = {path: path.stat().st_mtime_ns for path in [*out.rglob("*.pt"), *out.rglob("final.json")]}
    code, output = run([shell, "reproduce.sh", "smoke"], folder, **TINY)
    assert code == 0, output
    assert output.count("finished before") == 3 and "there already" in output
    assert len(stamps) == 2 + 3 * 3 + 2 and stamps == {path: path.stat().st_mtime_ns for path in stamps}


@pytest.mark.slow
@pytest.mark.skipif(not BASH32, reason="needs BASH32, a bash 3.2")
def test_the_smoke_preset_under_bash_3_2(folder):
    code, output = run([BASH32, "reproduce.sh", "smoke"], folder, **TINY)
    assert code == 0, output
    assert_nothing_is_made_twice(folder, BASH32)


@pytest.mark.slow
def test_the_transformers_smoke_preset(folder):
    code, output = run([BASH32 or "bash", "reproduce_transformer.sh", "smoke"], folder, SEEDS="0 1")
    assert code == 0, output
    out = folder / "outputs" / "transformer_smoke"
    assert (out / "figures" / "entropy_vs_loss.pdf").exists()
    assert len((out / "measures" / "measures.csv").read_text().splitlines()) == 1 + 2 * 12


def is_running(group):
    """Whether the process group has a process left that is not dead."""
    return subprocess.run(["pgrep", "-r", "DRS", "-g", str(group)], capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_preset_again_and_killed_at_every_stage(tmp_path):
    """Undisturbed and started again, it makes nothing twice; killed, it ends the same.

    kill -9 of the top shell alone, of everything, and SIGTERM; what still runs then is not trampled on.
    """
    whole, folder = copy_of_the_folder(tmp_path / "whole"), copy_of_the_folder(tmp_path / "killed")
    assert run(["bash", "reproduce.sh", "smoke"], whole, **TINY)[0] == 0
    assert_nothing_is_made_twice(whole, "bash")
    for seconds, kill in ((2, "all"), (9, "top"), (5, "all"), (12, "term"), (20, "all")):
        process = start(["bash", "reproduce.sh", "smoke"], folder, **TINY)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            if kill == "top":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL if kill == "all" else signal.SIGTERM)
        process.wait()
        process.stdout.close()
        until = time.monotonic() + 90
        while is_running(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
    for _ in range(20):  # a run whose sweep was killed goes on by itself: until it ends it is refused to others
        code, output = run(["bash", "reproduce.sh", "smoke"], folder, **TINY)
        if code == 0:
            break
        assert "another process" in output, output
        time.sleep(1)
    assert results(folder) == results(whole)


def test_unknown_preset(folder):
    for name in ("reproduce.sh", "reproduce_transformer.sh"):
        code, output = run(["bash", name, "huge"], folder)
        assert code == 2 and output == f"{name}: unknown preset huge; use smoke, small or paper\n"


def test_flags_behind_a_preset_reach_the_trainer_as_they_are(folder):
    """With a space in one; PYTHON is what writes down its arguments."""
    python = folder / "python"
    python.write_text("#!/bin/sh\nprintf '<%s>' \"$@\" >> calls.log\necho >> calls.log\n")
    python.chmod(0o755)
    code, output = run(["bash", "reproduce_retrieval.sh", "smoke", "--device", "a b"], folder, PYTHON=str(python),
                       JOBS="1")
    assert code == 0, output
    trained = [line for line in (folder / "calls.log").read_text().splitlines() if "train_retrieval.py" in line]
    assert len(trained) == 4 and all("<--device><a b>" in line for line in trained)
    assert sum("<--train_dataset_size><200><--seed><1>" in line for line in trained) == 1


def test_a_failed_run_is_reported_with_its_cause_and_the_others_finish(samples):
    grid = {"CONTEXT_LENGTHS": "27 101", "TRAIN_SIZES": "1000"}
    code, output = run(["bash", "train_model.sh", *FLAGS], samples, **grid)
    assert code == 1 and output.count("FAILED") == 1 and "1 of 2 runs failed" in output
    assert output.count("a context length of 101 was asked for") == 1 and "\r" not in output
    assert len(list((samples / "outputs" / "runs").glob("*/final.json"))) == 1
    code, output = run(["bash", "train_model.sh", *FLAGS], samples, **grid | {"CONTEXT_LENGTHS": "27"})
    assert code == 0 and output.count("finished before") == 1


@pytest.mark.slow
def test_one_array_task_does_one_cell(samples):
    grid = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "1000 500"}
    spool = samples.parent / "spool"
    spool.mkdir()
    shutil.copy(samples / "train_model.sh", spool / "slurm_script")  # Slurm runs a copy, elsewhere
    code, output = run(["bash", spool / "slurm_script", *FLAGS], samples, SLURM_SUBMIT_DIR=str(samples),
                       SLURM_ARRAY_TASK_ID="2", **grid)
    assert code == 0, output
    runs = [path.parent.name for path in (samples / "outputs" / "runs").glob("*/final.json")]
    assert runs == ["mlp_ctl22_train500_wd0.0008_seed0"]
    code, output = run(["bash", "train_model.sh", *FLAGS], samples, IDX="4", **grid)
    assert code == 2 and "--array=0-3" in output


@pytest.mark.slow
def test_a_sweep_of_transformers_is_found_again_however_its_flags_are_written(samples):
    grid = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "500"}
    apart, joined = ("--model", "transformer"), ("--model=transformer",)
    for model, mode, expected in ((apart, (), "2 runs, "), (joined, ("--collect",), "2 finished runs of 2"),
                                  (joined, ("--submit",), "nothing to submit")):
        code, output = run(["bash", "train_model.sh", "--width", "8", "--n_layer=1", "--n_head", "2", "--num_epochs",
                            "1", *model, *mode], samples, **grid)
        assert code == 0 and expected in output, output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sweep_and_its_runs_and_a_second_sweep_is_refused(samples, number):
    grid = {"CONTEXT_LENGTHS": "22 27 36", "TRAIN_SIZES": "1000"}
    command = ["bash", "train_model.sh", "--num_epochs", "100000", "--early_stopping", "100000"]
    process = start(command, samples, **grid)
    deadline = time.monotonic() + 60
    while not list((samples / "outputs" / "runs").glob("*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.1)
    code, output = run(command, samples, **grid)
    assert code == 2 and "another sweep is running" in output.splitlines()[-1]
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) != 0
    time.sleep(1)
    process.stdout.close()
    left = subprocess.run(["pgrep", "-r", "DRS", "-f", str(samples / "train_model.py")], capture_output=True, text=True)
    assert left.stdout == ""
    assert list((samples / "outputs" / "runs").glob("*/ckpt_last.pt"))
