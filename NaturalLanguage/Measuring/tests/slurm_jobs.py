"""Real jobs of a real Slurm, where there is one: submit as a user does, wait for them, look at how they ended."""

import os
import re
import shutil
import subprocess
import time

import pytest


def cluster_is_up():
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


needs_slurm = pytest.mark.skipif(not cluster_is_up() and os.environ.get("SLURM_TESTS") != "required",
                                 reason="needs Slurm")


def submit(folder, *command, **variables):
    """Run sbatch, or a launcher that calls it, in a folder. Returns what it printed and the numbers of the jobs."""
    before = jobs(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=60,
                          env={**environment, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, sorted(jobs(folder) - before)


def control(*command):
    """What scontrol prints."""
    return subprocess.run(["scontrol", *map(str, command)], capture_output=True, text=True, check=True).stdout


def parsed(line):
    """A line of `scontrol show job --oneliner` as a dictionary of Slurm's own names and values."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def jobs(folder):
    """The numbers of the jobs that were submitted in a folder; an array's tasks count as one."""
    lines = control("show", "job", "--oneliner").splitlines()
    found = [parsed(line) for line in lines if f" WorkDir={folder} " in line]
    return {int(record.get("ArrayJobId", record["JobId"])) for record in found}


def records(job):
    """The record of each task of a job."""
    return [parsed(line) for line in control("show", "job", "--oneliner", job).splitlines() if line]


def wait_for(job, states=("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"), seconds=300):
    """Wait until every task of a job is in one of the states. Returns their records."""
    deadline = time.monotonic() + seconds
    while not all(record["JobState"] in states for record in records(job)):
        assert time.monotonic() < deadline, control("show", "job", job)
        time.sleep(0.3)
    return records(job)
