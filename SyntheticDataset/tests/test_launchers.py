"""The launchers as a user runs them: presets from nothing, sweeps that fail, are stopped or are started twice."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers import call, copy_of_the_folder, run, start

TINY = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "2000", "SEEDS": "0", "BI_CONTEXT_LENGTHS": "22"}
FLAGS = ("--num_epochs", "1", "--hidden_size=8")
BASH = os.environ.get("BASH32") or "bash"  # a bash 3.2, as macOS has it, where there is one


@pytest.fixture
def folder(tmp_path):
    return copy_of_the_folder(tmp_path)


@pytest.fixture
def samples(folder):
    call("generate_data.py", "--train_size", 1000, "--valid_size", 200, cwd=folder)
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


@pytest.fixture
def calls(folder):
    """Run a launcher with a PYTHON that writes down its arguments, but for --list, which it obeys: those of each call
    of a script."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\ncase \" $* \" in *' --list '*) exec '{sys.executable}' \"$@\";; esac\n"
                      "printf '<%s>' \"$@\" >> calls.log\necho >> calls.log\n")
    python.chmod(0o755)

    def calls(*command, **variables):
        code, output = run([BASH, *command], folder, PYTHON=str(python), **variables)
        assert code == 0, output
        lines = (line[1:-1].split("><") for line in (folder / "calls.log").read_text().splitlines())
        return [words for words in lines if words[0].endswith(".py")]
    return calls


@pytest.mark.parametrize("launcher, variables, runs, wanted, scripts", [
    ("reproduce.sh", {"BI_CONTEXT_LENGTHS": "22 27", "BI_SEEDS": "1"}, "smoke/bi_runs/bi_mlp",
     ["ctl22_train4000_wd0.05_seed1", "ctl27_train4000_wd0.05_seed1"],
     "generate_data sweep sweep save_feature_tensor measure_features sweep sweep draw_intrinsic_dimension"),
    ("reproduce_transformer.sh", {"SEEDS": "1 3"}, "transformer_smoke/runs/transformer",
     ["bits16_width32_layers2_seed1", "bits16_width32_layers2_seed3"],
     "generate_tasks sweep sweep save_feature_tensor measure_features draw_entropy_vs_loss"),
    ("reproduce_retrieval.sh", {"TRAIN_SIZES": "100", "SEEDS": "1"}, "retrieval_smoke/runs/retrieval",
     ["train100_seed1"], "sweep sweep save_feature_tensor measure_features draw_position_weighted"),
])
def test_the_steps_of_a_preset_are_of_its_own_grid_alone(folder, calls, launcher, variables, runs, wanted, scripts):
    """Not of the runs that an earlier grid has left beside its own."""
    others = {name.replace(old, new) for name in wanted
              for old, new in (("seed1", "seed11"), ("train100", "train1000"), ("ctl22", "ctl2"))}
    for name in {*wanted, *others}:
        run_dir = folder / "outputs" / f"{runs}_{name}"
        (run_dir / "features").mkdir(parents=True)
        for file in ("last.pt", "features.pt", "features/some_gamma8_visible4.pt"):
            (run_dir / file).touch()
    made = calls(launcher, "smoke", **variables)
    assert [words[0].removesuffix(".py") for words in made] == scripts.split()
    for script in ("save_feature_tensor.py", "measure_features.py"):
        words, = (words for words in made if words[0] == script)
        used = [word.split("/")[3] for word in words if word.startswith(f"outputs/{runs}")]
        assert used == [f"{Path(runs).name}_{name}" for name in wanted]
    assert "--no-others" in words


def assert_the_smoke_preset_is_whole(folder):
    """Its figures and tables are there, and nothing is made twice."""
    out = folder / "outputs" / "smoke"
    for figure in ("loss_vs_context", "approximation_loss", "training_curves", "intrinsic_dimension"):
        assert all((out / "figures" / f"{figure}.{suffix}").stat().st_size > 5000 for suffix in ("pdf", "png"))
    for table, rows in (("sweep.csv", 2), ("bi_sweep.csv", 1), ("measures/measures.csv", 1)):
        assert len((out / table).read_text().splitlines()) == rows + 1
    stamps = {path: path.stat().st_mtime_ns for path in [*out.rglob("*.pt"), *out.rglob("final.json")]}
    code, output = run([BASH, "reproduce.sh", "smoke"], folder, **TINY)
    assert code == 0, output
    assert output.count("finished before") == 3 and "there already" in output
    assert len(stamps) == 2 + 3 * 3 + 2 and stamps == {path: path.stat().st_mtime_ns for path in stamps}


@pytest.mark.slow
def test_the_transformers_smoke_preset(folder):
    code, output = run([BASH, "reproduce_transformer.sh", "smoke"], folder, SEEDS="0 1")
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
    assert run([BASH, "reproduce.sh", "smoke"], whole, **TINY)[0] == 0
    assert_the_smoke_preset_is_whole(whole)
    for seconds, kill in ((2, "all"), (9, "top"), (5, "all"), (12, "term"), (20, "all")):
        process = start([BASH, "reproduce.sh", "smoke"], folder, **TINY)
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
        code, output = run([BASH, "reproduce.sh", "smoke"], folder, **TINY)
        if code == 0:
            break
        assert "another process" in output, output
        time.sleep(1)
    assert results(folder) == results(whole)


def test_unknown_preset(folder):
    for name in ("reproduce.sh", "reproduce_transformer.sh"):
        code, output = run(["bash", name, "huge"], folder)
        assert code == 2 and output.count("\n") == 1
        assert all(word in output for word in (name, "huge", "smoke", "small", "paper"))


@pytest.mark.parametrize("launcher", ["reproduce.sh", "reproduce_transformer.sh", "reproduce_retrieval.sh"])
@pytest.mark.parametrize("flag", ["--submit", "--cell=1"])
def test_what_a_sweep_is_to_do_is_refused_behind_a_preset(folder, launcher, flag):
    code, output = run(["bash", launcher, "smoke", "--device", "cpu", flag], folder)
    assert code == 2 and output.count("\n") == 1 and f"{launcher}: {flag} is of a sweep" in output


def test_flags_behind_a_preset_reach_the_sweep_as_they_are(calls):
    """With a space in one."""
    sweeps = [words for words in calls("reproduce_retrieval.sh", "smoke", "--device", "a b") if words[0] == "sweep.py"]
    assert len(sweeps) == 2 and all(words[words.index("--device") + 1] == "a b" for words in sweeps)


def test_a_failed_run_is_reported_with_its_cause_and_a_finished_one_is_kept(samples):
    """That the others finish: test_jobs.py."""
    call("train_model.py", *FLAGS, "--context_length", 27, "--train_dataset_size", 1000, "--weight_decay", 8e-4,
         cwd=samples)
    final, = (samples / "outputs" / "runs").glob("*/final.json")
    stamp = final.stat().st_mtime_ns
    grid = {"CONTEXT_LENGTHS": "27 101", "TRAIN_SIZES": "1000"}
    code, output = run([BASH, "train_model.sh", *FLAGS], samples, **grid)
    assert code == 1 and output.count("FAILED") == 1 and "1 of 2 runs failed" in output
    assert output.count("a context length of 101 was asked for") == 1 and "\r" not in output
    assert output.count("finished before") == 1 and final.stat().st_mtime_ns == stamp
    assert [*(samples / "outputs" / "runs").glob("*/final.json")] == [final]


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
