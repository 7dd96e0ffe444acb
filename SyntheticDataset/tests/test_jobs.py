"""The slots in which the cells of a sweep run: a machine's GPUs or cores (jobs.py, the same text in every part)."""

import os

import pytest
import torch

import jobs


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


def test_without_the_files_of_a_gpu_runs_share_the_cores(monkeypatch):
    """torch, which takes seconds to import, is not asked."""
    monkeypatch.setattr(jobs, "GPU_FILES", ("no such file",))
    monkeypatch.setattr(jobs.sys, "platform", "linux")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("asked torch"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert jobs.visible_gpus() == []
    assert jobs.slots(cores_per_run=3) == [{"OMP_NUM_THREADS": "3"}] * 2
    assert jobs.slots(cores_per_run=16) == [{"OMP_NUM_THREADS": "16"}]
