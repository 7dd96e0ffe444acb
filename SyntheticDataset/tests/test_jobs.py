"""The slots in which the cells of a sweep run, and how it ends (jobs.py, the same text in every part)."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch

import jobs
import utils
from files import begins_anew
from helpers import FOLDER
from utils import STOP_SIGNALS

SWEEP = """
from jobs import Cell, run_cells
run_cells([Cell("sleeper", ["-c", "import time; open('running', 'w'); time.sleep(60)"], lambda: False)], [{}], "logs")
"""


@pytest.fixture
def gpus(monkeypatch):
    """A machine with four GPUs: its files, and what torch counts of those that CUDA_VISIBLE_DEVICES names."""
    def count():
        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        return 4 if names is None else len(names.split(",")) if names else 0

    monkeypatch.setattr(jobs, "GPU_FILES", ("null",))
    monkeypatch.setattr(torch.cuda, "device_count", count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def devices(slots):
    return [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots]


@pytest.mark.parametrize("named, expected", [(None, ["0", "1", "2", "3"]), ("2,3", ["2", "3"]), ("", [])])
def test_the_gpus_are_those_that_may_be_used(gpus, monkeypatch, named, expected):
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert jobs.visible_gpus() == expected


def test_runs_share_the_gpus(gpus, monkeypatch):
    assert devices(jobs.slots(gpus_per_run=2)) == ["0,1", "2,3"]
    assert devices(jobs.slots(gpus_per_run=3)) == ["0,1,2"]
    assert sorted(devices(jobs.slots(runs_per_gpu=2))) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices(jobs.slots()) == ["3"]


def test_more_gpus_a_run_than_there_are_is_refused(gpus, capsys):
    with pytest.raises(SystemExit, match="2"):
        jobs.slots(gpus_per_run=8)
    assert "8 GPUs (GPUS_PER_RUN), and 4 are visible here" in capsys.readouterr().err


def test_without_the_files_of_a_gpu_runs_share_the_cores(monkeypatch):
    """torch, which takes seconds to import, is not asked."""
    monkeypatch.setattr(jobs, "GPU_FILES", ("no such file",))
    monkeypatch.setattr(jobs.sys, "platform", "linux")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked torch"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert jobs.visible_gpus() == []
    assert jobs.slots(cores_per_run=3) == [{"OMP_NUM_THREADS": "3"}] * 2
    assert jobs.slots(cores_per_run=16) == [{"OMP_NUM_THREADS": "16"}]


def start_sweep(folder, ignored=()):
    """A sweep of one cell that sleeps, in a process of its own that ignores these signals; when the cell runs."""
    def set_signals():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    (folder / "sweep.py").write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    process = subprocess.Popen([sys.executable, "sweep.py", "--overwrite"], cwd=folder, env=environment, text=True,
                               stderr=subprocess.PIPE, preexec_fn=set_signals)
    while not (folder / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def sleepers(folder):
    """The cells of start_sweep that run in a folder."""
    found = subprocess.run(["pgrep", "-r", "DRS", "-f", "open.'running'"], capture_output=True, text=True).stdout
    return [number for number in found.split() if os.path.exists(f"/proc/{number}/cwd")
            and os.readlink(f"/proc/{number}/cwd") == str(folder)]


@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_a_sweep_and_its_runs(tmp_path, number):
    """SIGHUP is that of a terminal that is closed."""
    process = start_sweep(tmp_path)
    assert len(sleepers(tmp_path)) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number and sleepers(tmp_path) == []
    assert signal.Signals(number).name in errors.splitlines()[-1] and "--overwrite" in errors.splitlines()[-1]


@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="needs /proc")
def test_under_nohup_a_sweep_outlives_its_terminal(tmp_path):
    process = start_sweep(tmp_path, [signal.SIGHUP])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None and len(sleepers(tmp_path)) == 1
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_a_failed_run_is_reported_with_its_cause_and_the_others_finish(tmp_path, capfd):
    """One at a time; the next ones begin when it has failed."""
    def cell(name, code):
        return jobs.Cell(name, ["-c", code], lambda: (tmp_path / name).exists())

    made = [cell(name, f"open({str(tmp_path / name)!r}, 'w'); print('{name} is made')") for name in ("one", "two")]
    cells = [made[0], cell("bad", "raise SystemExit('why it\\nfailed')"), made[1]]
    with pytest.raises(SystemExit, match="1"):
        jobs.run_cells(cells, [{}], tmp_path / "logs")
    out, err = capfd.readouterr()
    assert [line for line in out.splitlines() if line[0] == "["] == ["[1/3] one is made", "[3/3] two is made"]
    assert err.count("FAILED") == 1 and "(bad, exit code 1): failed\n" in err and "1 of 3 runs failed" in err
    jobs.run_cells(made, [{}], tmp_path / "logs")
    assert capfd.readouterr().out.count("finished before") == 2


def test_the_bar_shows_how_many_runs_have_ended_and_where_the_others_are(tmp_path, monkeypatch, capfd):
    """As a line, where stderr is no terminal; the second run waits until it has been there."""
    monkeypatch.setattr(jobs, "STATUS_INTERVAL", 0.0)
    monkeypatch.setattr(utils, "LINE_INTERVAL", 0.0)
    wait = "import time; print('step 1 of 2, loss 3', flush=True); time.sleep(1)"
    jobs.run_cells([jobs.Cell("one", ["-c", "pass"], lambda: False), jobs.Cell("two", ["-c", wait], lambda: False)],
                   [{}], tmp_path / "logs")
    lines = capfd.readouterr().err.splitlines()
    assert any(line.startswith("runs: 1/2 run, ") and line.endswith(", now=step 1 of 2") for line in lines)
    assert any(line.startswith("runs: 2/2 run, ") for line in lines)


def test_a_cell_that_is_asked_for_twice_is_refused(capsys):
    cells = [jobs.Cell(name, [], lambda: False) for name in ("one", "other", "one")]
    with pytest.raises(SystemExit, match="2"):
        jobs.dispatch(Namespace(), cells, "launcher.sh", None, "logs")
    assert "one is asked for twice" in capsys.readouterr().err


def test_a_requeued_job_overwrites_once(tmp_path, monkeypatch):
    """Not what an earlier life of the same job has begun; in its first life, and what another job made, it does."""
    about = tmp_path / "args.json"
    about.write_text(json.dumps({"slurm_job": "7"}))
    for job, restarts, expected in ((None, None, True), ("7", None, True), ("7", "0", True), ("7", "1", False),
                                    ("8", "1", True)):
        for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        assert begins_anew(True, about) == expected and not begins_anew(False, about)
        assert begins_anew(True, tmp_path / "nothing")
