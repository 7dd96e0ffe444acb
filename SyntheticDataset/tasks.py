"""The subtasks of multitask sparse parity, and the Bayes risk of a model that sees the first bits only."""

import json
import math

from utils import fail


def check_task_definition(pairs, source="the task definition"):
    """Check a task definition and return it as a list of pairs.

    pairs: a list of T pairs [a, b] of different bit positions, counted from 1; subtask t answers bit_a XOR bit_b. All
        of them may have a third entry, a positive weight: how often the subtask is asked, relative to the others.
    source: what to call it in an error message.
    Exits with code 2 on anything else. Source: paper section 4.
    """
    remedy = f"{source} must be a list of pairs of different bit positions counted from 1, such as [[21, 20], [21, 1]]"
    if not isinstance(pairs, list) or not pairs:
        fail(f"{remedy}; it is {'empty' if pairs == [] else 'no list'}")
    for number, pair in enumerate(pairs, start=1):
        is_pair = isinstance(pair, list) and len(pair) in (2, 3) and all(type(position) is int for position in pair[:2])
        if not is_pair or min(pair[:2]) < 1 or pair[0] == pair[1]:
            fail(f"{remedy}; entry {number} is {json.dumps(pair)}")
        weighted = len(pair) == 3 and type(pair[2]) in (int, float) and 0 < pair[2] < math.inf
        if len(pair) != len(pairs[0]) or (len(pair) == 3 and not weighted):
            fail(f"{source}: all subtasks or none must have a weight above 0; entry {number} is {json.dumps(pair)}")
    return pairs


def task_weights(pairs):
    """How often each of the T subtasks is asked: a list that sums to 1, equal where no weights are given."""
    weights = [pair[2] if len(pair) == 3 else 1 for pair in pairs]
    return [weight / math.fsum(weights) for weight in weights]


def load_task_definition(path):
    """Read and check a task definition file; exits with code 2 if it is missing or malformed."""
    try:
        with open(path, encoding="utf-8") as file:
            pairs = json.load(file)
    except OSError as error:
        fail(f"cannot read the task definition {path}: {error.strerror}; give one with --task_definition")
    except ValueError as error:
        fail(f"the task definition {path} is not JSON: {error}")
    return check_task_definition(pairs, str(path))


def solvable_tasks(pairs, context_length):
    """Say for each of the T subtasks whether both its bits are among the first `context_length` ones."""
    return [max(pair[:2]) <= context_length for pair in pairs]


def bayes_risk(pairs, context_length):
    """Cross entropy (nats) of the Bayes model that sees the first `context_length` bits.

    A subtask with an unseen bit costs log 2, the others nothing. A subtask whose bit lies beyond the sample itself has
    a random answer and is among the unseen ones at every context length. Source: paper section 4, R_Bayes(l).
    """
    solvable = solvable_tasks(pairs, context_length)
    return math.log(2) * math.fsum(weight for weight, known in zip(task_weights(pairs), solvable) if not known)
