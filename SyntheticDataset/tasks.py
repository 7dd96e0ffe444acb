"""The subtasks of multitask sparse parity, and the Bayes risk of a model that sees the first bits only."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import fail

PAPER_TASKS = Path(__file__).with_name("task_definition.json")  # of the paper's first version


class Subtask(NamedTuple):
    """Answers bit a XOR bit b; bit positions are counted from 1."""

    a: int
    b: int
    weight: float | None = None  # how often it is asked, relative to the others; None for all: they are asked in turn

    @property
    def last_bit(self):
        """The later of the two bits: a model that sees so many can solve the subtask."""
        return max(self.a, self.b)


def check_task_definition(entries, source="the task definition"):
    """Check a task definition and return it as a list of Subtasks.

    entries: a list of T pairs [a, b] of different bit positions, counted from 1. All of them may have a third entry, a
        positive weight: how often the subtask is asked, relative to the others.
    source: what to call it in an error message.
    Exits with code 2 on anything else. Source: paper section 4.
    """
    remedy = f"{source} must be a list of pairs of different bit positions counted from 1, such as [[21, 20], [21, 1]]"
    if not isinstance(entries, list) or not entries:
        fail(f"{remedy}; it is {'empty' if entries == [] else 'no list'}")
    for number, entry in enumerate(entries, start=1):
        is_pair = isinstance(entry, list) and len(entry) in (2, 3) and all(type(bit) is int for bit in entry[:2])
        if not is_pair or min(entry[:2]) < 1 or entry[0] == entry[1]:
            fail(f"{remedy}; entry {number} is {json.dumps(entry)}")
        weighted = len(entry) == 3 and type(entry[2]) in (int, float) and 0 < entry[2] < math.inf
        if len(entry) != len(entries[0]) or (len(entry) == 3 and not weighted):
            fail(f"{source}: all subtasks or none must have a weight above 0; entry {number} is {json.dumps(entry)}")
    return [Subtask(*entry) for entry in entries]


def as_lists(tasks):
    """A task definition as it is written into files: [[a, b], ...] or, with weights, [[a, b, weight], ...]."""
    return [list(task[:2]) if task.weight is None else list(task) for task in tasks]


def load_task_definition(path):
    """Read and check a task definition file; exits with code 2 if it is missing or malformed."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        fail(f"cannot read the task definition {path}: {error.strerror}; give one with --task_definition")
    except ValueError as error:
        fail(f"the task definition {path} is not JSON: {error}")
    return check_task_definition(entries, str(path))


def task_weights(tasks):
    """How often each of the T subtasks is asked: a list that sums to 1, equal where no weights are given."""
    weights = [1 if task.weight is None else task.weight for task in tasks]
    return [weight / math.fsum(weights) for weight in weights]


def solvable_tasks(tasks, context_length):
    """Say for each of the T subtasks whether both its bits are among the first `context_length` ones."""
    return [task.last_bit <= context_length for task in tasks]


def bayes_risk(tasks, context_length):
    """Cross entropy (nats) of the Bayes model that sees the first `context_length` bits.

    A subtask with an unseen bit costs log 2, the others nothing. A subtask whose bit lies beyond the sample itself has
    a random answer and is among the unseen ones at every context length. Source: paper section 4, R_Bayes(l).
    """
    solvable = solvable_tasks(tasks, context_length)
    return math.log(2) * math.fsum(weight for weight, known in zip(task_weights(tasks), solvable) if not known)


def position_weighted_tasks(context_bits, first_max_bit, subtasks_per_bit, exponent, seed):
    """The subtasks of the ICLR version: for each later bit i, `subtasks_per_bit` with another bit drawn below i.

    A subtask with later bit i has the weight (i - 1)^-exponent, over their sum. Source: paper sections 4.1 and 4.2.
    """
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(first_max_bit, context_bits + 1):
        others = sorted(rng.choice(np.arange(1, i), size=subtasks_per_bit, replace=False).tolist())
        tasks += [Subtask(i, other, (i - 1) ** -exponent) for other in others]
    total = math.fsum(task.weight for task in tasks)
    return [task._replace(weight=task.weight / total) for task in tasks]
