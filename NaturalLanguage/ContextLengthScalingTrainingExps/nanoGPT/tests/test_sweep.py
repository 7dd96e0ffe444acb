"""The grid: sweep.py inside this process, and its launcher and the others as users run them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from helpers import FOLDER, TINY, bash, run_script, training_flags
from jobs import cause
from slurm_jobs import submit, wait_for


@pytest.fixture(scope="module")
def grid(small_bins, tmp_path_factory):
    """Flags of a sweep of two context lengths, and its folder, whose shorter cell has finished already."""
    folder = tmp_path_factory.mktemp("a sweep")
    done = run_script("train.py", *training_flags(small_bins, folder / "runs", "--max_iters", 10, context_length=16,
                                                  train_tokens=3000))
    assert done.returncode == 0, done.stderr
    return folder, ["--context_lengths", "16", "24", "--train_tokens", "3000", "--train_bin", str(small_bins),
                    "--out_dir", str(folder / "runs"), *map(str, TINY), "--max_iters=10"]


def sweep(*arguments):
    return run_script("sweep.py", *arguments)


def test_the_missing_cells_are_those_without_this_result(grid):
    """By what was asked for, however the flags are written and ordered; not because a file exists."""
    _, flags = grid
    done = sweep("--missing", *flags)
    assert (done.returncode, done.stdout) == (1, "ctl24_tok3000_seed0\n")
    done = sweep(*flags, "--context_lengths", "16", "--missing")
    assert (done.returncode, done.stdout) == (0, "all 1 cells have finished\n")
    for more, message in ((["--max_iters=20"], "max_iters 10, not 20"), (["--n_layer", "3"], "n_layer 2, not 3"),
                          (["--vary_data"], "data_seed None, not 0"), (["--no_such_flag"], "no_such_flag"),
                          (["--seed=3"], "a sweep takes --seeds, not --seed=3")):
        done = sweep(*flags, *more, "--missing")
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert sweep(*flags, "--max_iters=20", "--overwrite", "--missing").stdout.split() == ["ctl16_tok3000_seed0",
                                                                                         "ctl24_tok3000_seed0"]


@pytest.mark.parametrize("variable", ["CONTEXT_LENGTHS", "GPUS_PER_RUN"])
def test_a_wrong_variable_is_one_line(monkeypatch, variable):
    monkeypatch.setenv(variable, "many")
    done = sweep("--missing")
    assert done.returncode == 2 and "many" in done.stderr and done.stderr.count("\n") == 1


def test_the_submitted_array_is_that_of_the_missing_cells(grid, tmp_path, monkeypatch):
    """With a stand-in for sbatch that notes how it was called; the grid from the environment."""
    _, flags = grid
    (tmp_path / "sbatch").write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/notes"\necho "7;cluster"\n')
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEEDS", "0 1")
    more = flags[flags.index("--train_bin"):]
    assert sweep("--context_lengths", "16", "32", "--train_tokens=3000", *more, "--submit").returncode == 0
    called = (tmp_path / "notes").read_text().splitlines()
    assert called[0].startswith("--parsable --array=1-3%8 train_sweep.sh --context_lengths 16 32")
    assert called[1].startswith("--parsable --dependency=afterany:7 ") and " train_sweep.sh --collect " in called[1]
    assert len(called) == 2 and "--submit" not in called[0]


def test_the_launcher_skips_what_has_finished_and_tells_of_failures(grid):
    """A context length that does not divide the tokens of a step fails; the table and the figures are of the other."""
    folder, flags = grid
    before = (folder / "runs" / "ctl16_tok3000_seed0" / "final.json").stat().st_mtime_ns
    done = bash("train_sweep.sh", *flags)
    assert done.returncode == 1, done.stderr
    assert "ctl16_tok3000_seed0: finished before" in done.stdout and "1 of 2 runs failed" in done.stderr
    assert "FAILED (ctl24_tok3000_seed0, exit code 2): train.py: --tokens_per_step 256 is not" in done.stderr
    assert before == (folder / "runs" / "ctl16_tok3000_seed0" / "final.json").stat().st_mtime_ns
    done = sweep("--collect", *flags)
    assert done.returncode == 1 and "1 finished runs of 2" in done.stdout
    assert "missing: ctl24_tok3000_seed0" in done.stderr
    assert (folder / "sweep.csv").exists() and (folder / "figures" / "loss_vs_context.pdf").exists()


def test_the_cause_of_a_failure_is_what_the_script_said():
    """torchrun puts a report of its own behind it; of a crash it is the last line."""
    assert cause("W01 12:00 run.py:766\ntrain.py: cannot read x; give y\n====\nRoot Cause:\n====\n\n") == \
        "train.py: cannot read x; give y"
    assert cause("Traceback ...\nValueError: no\n") == "ValueError: no" and cause("") == "it printed nothing"


@pytest.mark.slow
def test_the_dry_run_prints_the_cost_of_each_context_length(grid):
    folder, flags = grid
    done = bash("train_sweep.sh", "--dry_run", *flags, "--context_lengths", 16, 32, "--out_dir", folder / "nothing")
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:2]] == ["context 16", "context 32"]
    assert "GB" in done.stdout and "2 runs of at most 30 passes" in done.stdout.splitlines()[-1]
    assert not (folder / "nothing").exists()


@pytest.mark.slow
def test_a_task_of_an_array_trains_one_cell(grid, small_bins, tmp_path):
    """As Slurm starts it: from a copy of the file elsewhere, with its variables set."""
    copy = shutil.copy(FOLDER / "train_sweep.sh", tmp_path / "slurm_script")
    variables = {"CONTEXT_LENGTHS": "16 32", "TRAIN_TOKENS": "3000", "SEEDS": "0 1", "TRAIN_BIN": str(small_bins),
                 "OUT_DIR": str(tmp_path / "runs"), "SLURM_SUBMIT_DIR": str(FOLDER)}
    done = bash(copy, *TINY, "--max_iters", 10, **variables, SLURM_ARRAY_TASK_ID="2")
    assert done.returncode == 0, done.stderr
    assert [path.parent.name for path in tmp_path.glob("runs/*/final.json")] == ["ctl16_tok3000_seed1"]
    done = bash(copy, **variables, SLURM_ARRAY_TASK_ID="4")
    assert done.returncode == 2 and "use --array=0-3" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how, lengths", [(signal.SIGTERM, ["16", "32"]), (signal.SIGINT, ["16"])])
def test_a_stopped_sweep_ends_its_runs_and_goes_on(grid, tmp_path, how, lengths):
    _, flags = grid
    flags = [*flags, "--context_lengths", *lengths, "--out_dir", str(tmp_path / "runs"), "--max_iters", "300",
             "--patience", "1000", "--checkpoint_seconds", "0"]
    process = subprocess.Popen(["bash", str(FOLDER / "train_sweep.sh"), *flags], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHON": sys.executable})
    while not list(tmp_path.glob("runs/*/ckpt_last.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + how and "start again to go on" in errors.splitlines()[-1]
    checkpoints = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/ckpt_last.pt")}
    time.sleep(1)
    assert checkpoints == {path: path.stat().st_mtime_ns for path in checkpoints}  # nobody trains any more
    assert bash("train_sweep.sh", *flags).returncode == 0
    assert len(list(tmp_path.glob("runs/*/final.json"))) == len(lengths)


@pytest.mark.slow
def test_a_second_sweep_over_the_same_cells_is_refused(grid, tmp_path):
    _, flags = grid
    flags = [*flags, "--context_lengths", "16", "--out_dir", str(tmp_path / "runs"), "--max_iters", "100000",
             "--patience", "100000"]
    process = subprocess.Popen([sys.executable, str(FOLDER / "sweep.py"), *flags], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob("runs/logs/*.log")):
            assert process.poll() is None
            time.sleep(0.02)
        done = bash("train_sweep.sh", *flags)
    finally:
        process.terminate()
        process.wait()
    assert done.returncode == 2 and "another sweep is running ctl16_tok3000_seed0" in done.stderr


@pytest.mark.slow
def test_the_script_of_one_run(small_bins, tmp_path):
    """train_script.sh writes the paper's configuration of the named part and trains with it; flags count more."""
    checkout = shutil.copytree(FOLDER, tmp_path / "a copy", ignore=shutil.ignore_patterns("outputs", "*.bin", "config"))
    for path in small_bins.parent.glob("LONGCONTEXTSUBSET_*"):
        name = path.name if "tokenizer" in path.name else path.name.replace("P100.0", "P2.0")
        shutil.copy(path, checkout / "data" / "openwebtext" / name)
    done = bash("train_script.sh", "32", "2p0", "--max_iters", 2, *TINY, cwd=checkout)
    assert done.returncode == 0, done.stderr
    config = json.loads((checkout / "config" / "LONGCONTEXT_train_gpt2_32ctl_2p0pct_small.json").read_text())
    assert config["warmup_iters"] == 2000 and config["tokens_per_step"] == 491_520 and config["n_layer"] == 6
    assert list(checkout.glob("outputs/runs/ctl32_tok*_seed0/final.json"))
    for bad, message in ((["32"], "give a context length"), (["32", "two"], "is not like 2p0")):
        done = bash("train_script.sh", *bad, cwd=checkout)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    in_a_job = {"SLURM_JOB_ID": "1", "LAUNCHED_IN": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = bash("train_script.sh", "32", "2p0", cwd=checkout, **in_a_job)
    assert done.returncode == 2 and "this job has no GPU; submit it with --gres=gpu:8" in done.stderr
    assert bash("train_script.sh", "32", "2p0", *TINY, "--max_iters", 2, cwd=checkout, **in_a_job).returncode == 0


@pytest.mark.slow
def test_the_smoke_preset_from_nothing_and_again(tmp_path):
    """From nothing as a job of Slurm, where SLURM_TESTS asks for one; started again, nothing is made twice."""
    out = tmp_path / "out of smoke"
    if os.environ.get("SLURM_TESTS") == "required":
        _, (job,) = submit(FOLDER, "sbatch", "--cpus-per-task=2", "--mem=2G", f"--output={tmp_path}/job.log",
                           "reproduce.sh", "smoke", PYTHON=sys.executable, OUT=str(out))
        record, = wait_for(job, seconds=900)
        assert record["ExitCode"] == "0:0", (tmp_path / "job.log").read_text()
    else:
        done = bash("reproduce.sh", "smoke", OUT=str(out))
        assert done.returncode == 0, done.stderr
    assert len(list(out.glob("figures/*.pdf"))) == 2 and (out / "models" / "ctl64" / "config.json").exists()
    made = {path: path.read_bytes() for path in out.rglob("final.json")}
    assert len(made) == 3
    done = bash("reproduce.sh", "smoke", OUT=str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("prepared before") == 1 and done.stdout.count("finished before") == 3
    assert "exported before" in done.stdout and made == {path: path.read_bytes() for path in made}


@pytest.mark.slow
def test_the_optimum_from_nothing_and_again(tmp_path):
    """Two sizes with their own schedules, a seed on a part of the corpus of its own; --dry_run writes no run."""
    out = tmp_path / "an optimum"
    done = bash("reproduce_optimum.sh", "smoke", "--dry_run", OUT=str(out), SEEDS="2", CONTEXT_LENGTHS="16 32",
                SCHEDULES="20000:10 40000:20:32,64 40000:30:64")
    assert done.returncode == 0 and not (out / "runs").exists(), done.stderr
    assert re.findall(r"--max_iters (\d+)|^(\d+) runs", done.stdout, re.M) == [
        ("10", ""), ("", "2"), ("20", ""), ("", "1")]
    done = bash("reproduce_optimum.sh", "smoke", OUT=str(out), SEEDS="2")
    assert done.returncode == 0, done.stderr
    runs = {path.parent: json.loads(path.read_text())["arguments"] for path in out.glob("runs/*/args.json")}
    assert len(runs) == 4 and len(list(out.glob("figures/*.pdf"))) == 2
    assert all(request["data_seed"] == request["seed"] == 2 and
               request["lr_decay_iters"] == request["max_iters"] == {20000: 10, 40000: 20}[request["train_tokens"]]
               for request in runs.values())
    done = bash("reproduce_optimum.sh", "smoke", OUT=str(out), SEEDS="2")
    assert done.returncode == 0 and done.stdout.count("finished before") == 4, done.stderr


def test_all_tokens_are_those_of_a_run_without_a_number(nanogpt, small_bins):
    flags = ("--train_bin", small_bins, *TINY, "--max_iters", 5, "--out_dir", "runs")
    nanogpt("train.py", "--context_length", 16, *flags)
    sweep = ("sweep.py", "--context_lengths", 16, *flags, "--missing", "--train_tokens")
    assert "all 1 cells have finished" in nanogpt(*sweep, "all").stdout
    assert "some is not" in nanogpt(*sweep, "some", check=False).stderr


@pytest.mark.parametrize("variable, value, said", [("MAX_ITERS", "10 1e3", "has 1e3; give numbers of steps"),
                                                   ("LEARNING_RATES", "1e-3 abc", "has abc; give numbers above 0"),
                                                   ("WEIGHT_DECAYS", "0.1 -1", "has -1; give numbers of at least 0"),
                                                   ("TOKENS_PER_STEP", "1k", "has 1k; give numbers of tokens")])
def test_a_setting_that_is_no_number_is_one_line(tmp_path, variable, value, said):
    done = bash("tune_settings.sh", OUT=str(tmp_path / "settings"), **{variable: value})
    assert done.returncode == 2 and done.stderr == f"tune_settings.sh: {variable} {said}\n"
    assert not (tmp_path / "settings").exists()


@pytest.mark.slow
def test_settings_are_compared_at_each_length(small_bins, tmp_path):
    """Two rates and two schedules; the table's losses are those of the runs, the best setting that of the lowest."""
    out = tmp_path / "settings"
    done = bash("tune_settings.sh", "--train_bin", small_bins, *TINY, OUT=str(out), LEARNING_RATES="1e-3 1e-2",
                TOKENS_PER_STEP="256", MAX_ITERS="4 10", CONTEXT_LENGTHS="16", TRAIN_TOKENS="3000")
    assert done.returncode == 0, done.stderr
    with open(out / "settings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {}
    for row in rows:
        rate = {"0.001": "1e-3", "0.01": "1e-2"}[row["learning_rate"]]
        run = out / "runs" / f"rate{rate}_decay0.1_step256_steps{row['max_iters']}" / "ctl16_tok3000_seed0"
        result = json.loads((run / "final.json").read_text())
        asked = json.loads((run / "args.json").read_text())["arguments"]
        assert float(row["best_valid_loss"]) == result["best_valid_loss"]
        assert str(asked["max_iters"]) == str(asked["lr_decay_iters"]) == row["max_iters"] == row["last_step"]
        losses[float(row["learning_rate"]), row["max_iters"]] = result["best_valid_loss"]
    rate, steps = min(losses, key=losses.get)
    assert len(losses) == len(rows) == 4
    assert f"context 16: {losses[rate, steps]:.4f} with learning_rate {rate}, max_iters {steps}\n" in done.stdout
    done = run_script("collect_settings.py", "--runs", tmp_path / "nothing")
    assert done.returncode == 2 and "no finished run" in done.stderr
