"""The subtasks of multitask sparse parity, and the Bayes risk of a model that sees the first bits only."""

import json
import math

from scripting import fail


def check_task_definition(pairs, source="the task definition"):
    """Check a task definition and return it as a list of pairs.

    pairs: a list of T pairs [a, b] of different bit positions, counted from 1; subtask t answers bit_a XOR bit_b.
    source: what to call it in an error message.
    Exits with code 2 on anything else. Source: paper section 4.
    """
    remedy = f"{source} must be a list of pairs of different bit positions counted from 1, such as [[21, 20], [21, 1]]"
    if not isinstance(pairs, list) or not pairs:
        fail(f"{remedy}; it is {'empty' if pairs == [] else 'no list'}")
    for number, pair in enumerate(pairs, start=1):
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(position) is int for position in pair)
        if not is_pair or min(pair) < 1 or pair[0] == pair[1]:
            fail(f"{remedy}; entry {number} is {json.dumps(pair)}")
    return pairs


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
    return [max(pair) <= context_length for pair in pairs]


def bayes_risk(pairs, context_length):
    """Cross entropy (nats) of the Bayes model that sees the first `context_length` bits.

    A subtask with an unseen bit costs log 2, the others nothing. A subtask whose bit lies beyond the sample itself has
    a random answer and is among the unseen ones at every context length. Source: paper section 4, R_Bayes(l).
    """
    solvable = solvable_tasks(pairs, context_length)
    return math.log(2) * solvable.count(False) / len(pairs)
