"""The launchers of this part, submitted to a real Slurm: time limits, failing nodes, several nodes."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from finished_runs import result
from helpers import FOLDER, TINY, make_texts
from slurm_jobs import control, jobs, needs_slurm, records, submit, wait_for

pytestmark = [needs_slurm, pytest.mark.slow]
STEPS = 2000
FLAGS = (*map(str, TINY), "--eval_interval", "50", "--patience", "1000", "--max_iters", str(STEPS), "--train_tokens",
         "6000", "--checkpoint_seconds", "1000")  # so never by the clock
RUN = "ctl32_tok6000_seed0"
SBATCH = ("sbatch", "--cpus-per-task=2", "--mem=2G")


def copy_of_the_folder(small_bins, parent):
    """With a corpus where train_script.sh 32 2p0 looks for it."""
    copy = shutil.copytree(FOLDER, parent / "nanoGPT", ignore=shutil.ignore_patterns(
        "outputs", "*.bin", "config", "results", "tests", "__pycache__", "*.log"))
    for path in small_bins.parent.glob("LONGCONTEXTSUBSET_*"):
        name = path.name if "tokenizer" in path.name else path.name.replace("P100.0", "P2.0")
        shutil.copy(path, copy / "data" / "openwebtext" / name)
    return copy


@pytest.fixture
def folder(small_bins, tmp_path):
    return copy_of_the_folder(small_bins, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(small_bins, tmp_path_factory):
    """The directory of a run on one process that nothing interrupts."""
    folder = copy_of_the_folder(small_bins, tmp_path_factory.mktemp("undisturbed"))
    subprocess.run(["bash", "train_script.sh", "32", "2p0", *FLAGS], cwd=folder, capture_output=True, check=True,
                   env={**os.environ, "PYTHON": sys.executable}, timeout=300)
    return folder / "outputs" / "runs" / RUN


@pytest.fixture(scope="module", autouse=True)
def limited(small_bins, tmp_path_factory):
    """A job whose lives have a minute each, of which Slurm takes 35 s back by USR1; it runs beside the other tests."""
    folder = copy_of_the_folder(small_bins, tmp_path_factory.mktemp("limited"))
    _, (job,) = submit(folder, *SBATCH, "--nodelist=node1", "--time=1", "--signal=B:USR1@35", "train_script.sh", "32",
                       "2p0", *FLAGS, "--max_iters", 8 * STEPS, PYTHON=sys.executable)
    return folder, job


def assert_same_bits(run_dir, other):
    assert result(run_dir) == result(other)
    weights = [torch.load(folder / "best.pt", weights_only=True) for folder in (run_dir, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def wait_for_training(folder, job, run_dir, rows=4, seconds=300):
    """Until a job has logged some rows; two-node jobs beside other work have taken more than two minutes."""
    deadline, metrics = time.monotonic() + seconds, folder / run_dir / RUN / "metrics.csv"
    while not metrics.exists() or metrics.read_text().count("\n") < rows:
        assert time.monotonic() < deadline, control("show", "job", job) + log(folder, job)
        time.sleep(0.05)


def log(folder, job):
    return (folder / f"train_script_{job}.log").read_text()


def test_usr1_to_one_of_two_jobs_on_two_nodes(folder, undisturbed):
    """They share the nodes, each with a rendezvous of its own; the one that is stopped and requeued loses no step.

    They take a quarter of the undisturbed run's steps: two processes need many times as long for each.
    """
    flags = (*FLAGS, "--max_iters", STEPS // 4)
    jobs = [submit(folder, *SBATCH, "--nodes=2", "--nodelist=node[1-2]", "train_script.sh", "32", "2p0", *flags,
                   "--out_dir", name, PYTHON=sys.executable)[1][0] for name in ("first", "second")]
    wait_for_training(folder, jobs[0], "first")
    subprocess.run(["scancel", "--batch", "--signal=USR1", str(jobs[0])], check=True)
    for job, name, restarts in zip(jobs, ("first", "second"), ("1", "0")):
        record, = wait_for(job)
        assert (record["JobState"], record["Restarts"]) == ("COMPLETED", restarts), log(folder, job)
        assert result(folder / name / RUN)["processes"] == 2
    assert_same_bits(folder / "first" / RUN, folder / "second" / RUN)
    with open(undisturbed / "metrics.csv", newline="") as file:
        expected = min(float(row["valid_loss"]) for row in csv.DictReader(file) if int(row["step"]) <= STEPS // 4)
    assert result(folder / "first" / RUN)["best_valid_loss"] == pytest.approx(expected, abs=1e-3)


def test_a_second_job_on_the_same_run_is_refused(folder):
    command = (*SBATCH, "train_script.sh", "32", "2p0", *FLAGS, "--max_iters", 1_000_000)
    _, (job,) = submit(folder, *command, PYTHON=sys.executable)
    wait_for_training(folder, job, "outputs/runs")
    _, (second,) = submit(folder, *command, PYTHON=sys.executable)
    refused, = wait_for(second)
    subprocess.run(["scancel", str(job)], check=True)
    assert refused["ExitCode"] == "2:0"
    assert "train.py: another process is training in outputs/runs/" + RUN in log(folder, second).splitlines()[-1]


def test_a_run_goes_on_when_its_node_fails(folder, undisturbed):
    _, (job,) = submit(folder, *SBATCH, "--exclude=node1", "train_script.sh", "32", "2p0", *FLAGS,  # where `limited` is
                       PYTHON=sys.executable)
    wait_for_training(folder, job, "outputs/runs")
    node = records(job)[0]["NodeList"]
    try:
        control("update", f"nodename={node}", "state=down", "reason=test")
        record, = wait_for(job)
    finally:  # refused where it came back by itself
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), log(folder, job)
    assert_same_bits(folder / "outputs" / "runs" / RUN, undisturbed)


def test_a_sweep(folder, small_bins):
    train_bin = folder / "data" / "openwebtext" / small_bins.name.replace("P100.0", "P2.0")
    _, (array, collector) = submit(
        folder, "bash", "train_sweep.sh", "--submit", *map(str, TINY), "--max_iters", "10", SBATCH_TIMELIMIT="5",
        CONTEXT_LENGTHS="16 32", TRAIN_TOKENS="3000", TRAIN_BIN=str(train_bin), PYTHON=sys.executable)
    assert [record["ExitCode"] for record in wait_for(array)] == ["0:0"] * 2
    assert [record["ExitCode"] for record in wait_for(collector)] == ["0:0"]
    assert (folder / "outputs" / "figures" / "loss_vs_context.pdf").exists()


def test_a_plan(folder):
    """One job plans and submits the runs, and a job behind them gives the advice; then nothing is left to submit."""
    make_texts(folder / "my texts", n_files=14, n_words=500)  # enough for the smallest pilot only
    command = ("bash", "plan_context_length.sh", "my texts/*.txt", "--target_tokens", "30000", "--tokenizer", "bpe:300",
               "--out_dir", "a plan", "--n_layer", "1", "--n_head", "2", "--n_embd", "16", "--tokens_per_step", "512",
               "--max_iters", "8", "--submit")
    before = jobs(folder)
    _, (planning,) = submit(folder, *command, SBATCH_TIMELIMIT="20", MAX_TASKS="2", PYTHON=sys.executable)
    record, = wait_for(planning, seconds=900)
    text = (folder / f"plan_context_length_plan_{planning}.log").read_text()
    assert record["ExitCode"] == "0:0" and "hours on 2 slots" in text, text
    array, collector = sorted(jobs(folder) - before - {planning})
    assert {record["ExitCode"] for record in wait_for(array, seconds=900)} == {"0:0"}
    record, = wait_for(collector, seconds=900)
    text = (folder / f"plan_context_length_collect_{collector}.log").read_text()
    assert record["ExitCode"] == "0:0" and "\n5. To add: " in text, text
    assert len(list(folder.glob("a plan/runs/*/final.json"))) == json.loads(
        (folder / "a plan" / "plan.json").read_text())["runs"] == len(records(array))
    printed, submitted = submit(folder, *command, PYTHON=sys.executable)
    assert "cells have finished; nothing to submit" in printed and not submitted


def test_a_job_that_only_ever_reaches_its_time_limit_finishes(limited):
    folder, job = limited
    record, = wait_for(job, seconds=600)
    assert record["JobState"] == "COMPLETED" and int(record["Restarts"]) >= 1, log(folder, job)
    assert log(folder, job).count(f"job {job} is requeued") == int(record["Restarts"])
