"""What a finished run of train.py has written, and whether two runs are the same."""

import csv
import json

import torch

from helpers import TIMINGS


def read_metrics(run_dir):
    """The rows of metrics.csv."""
    with open(run_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(run_dir, column="train_loss"):
    """A column of metrics.csv as numbers."""
    return [float(row[column]) for row in read_metrics(run_dir)]


def result(run_dir, *without):
    """What final.json says, but for the timings and these names."""
    final = json.loads((run_dir / "final.json").read_text())
    return {name: value for name, value in final.items() if name not in (*TIMINGS, *without)}


def assert_same_run(one, other):
    """Equal to the last bit, but for the timings."""
    assert result(one) == result(other)
    assert [{name: row[name] for name in row if name not in TIMINGS} for row in read_metrics(one)] == \
        [{name: row[name] for name in row if name not in TIMINGS} for row in read_metrics(other)]
    for file in ("best.pt", "losses.pt"):
        tensors = [torch.load(run / file, weights_only=True) for run in (one, other)]
        assert tensors[0].keys() == tensors[1].keys()
        assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
