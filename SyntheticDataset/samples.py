"""Samples of multitask sparse parity: drawn from a seed, read from generate_data.py's files, turned into batches."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from files import load_tensors
from tasks import as_lists, check_task_definition, task_weights
from utils import fail

CHUNK_SIZE = 1_000_000  # bit strings drawn at a time; the samples do not depend on it
TRAIN, VALID = 0, 1


def generator_for(seed, split, purpose):
    """A numpy generator of its own for each seed, split and purpose ("bits", "answers" or "tasks")."""
    return np.random.default_rng([seed, split, ("bits", "answers", "tasks").index(purpose)])


def first_occurrences(words):
    """Mark the rows of uint64 (n, w) that equal no earlier row: bool (n,)."""
    first_words = np.sort(words[:, 0])
    shared = first_words[1:][first_words[1:] == first_words[:-1]]
    suspects = np.flatnonzero(np.isin(words[:, 0], shared))  # few or none of 100 bits: sort whole rows here only
    is_first = np.ones(len(words), dtype=bool)
    if len(suspects):
        _, first_indices = np.unique(words[suspects], axis=0, return_index=True)
        is_first[suspects] = False
        is_first[suspects[first_indices]] = True
    return is_first


def distinct_bit_strings(size, context_bits, rng, others, chunk_size=CHUNK_SIZE, bar=None):
    """The first `size` distinct strings of a random stream that are not among `others` either.

    Returns uint64 (size, w) with w = ceil(context_bits / 64), the bytes of a row in np.packbits order, zeros behind
    the last bit. A longer request begins with the strings of a shorter one, and chunk_size changes nothing: every
    draw takes exactly one output of the generator per word.
    """
    n_words = math.ceil(context_bits / 64)
    keep_bits = np.packbits(np.arange(n_words * 64) < context_bits).view("<u8")
    found = np.empty((0, n_words), dtype="<u8")
    while len(found) < size:
        missing = size - len(found)
        drawn = [others, found]
        while missing > 0:
            n_rows = min(chunk_size, missing)
            drawn.append(rng.integers(0, 2**64, size=(n_rows, n_words), dtype=np.uint64).astype("<u8") & keep_bits)
            missing -= n_rows
            if bar is not None:
                bar.update(n_rows)
        drawn = np.concatenate(drawn)
        found = drawn[len(others) :][first_occurrences(drawn)[len(others) :]]
    return found


def choose_tasks(n, tasks, rng):
    """Active subtask of every sample (n,): i mod T for sample i, or drawn by the subtasks' weights."""
    if tasks[0].weight is None:
        active = np.arange(n) % len(tasks)
    else:
        active = np.searchsorted(np.cumsum(task_weights(tasks))[:-1], rng.random(n), side="right")
    return active.astype(np.uint8 if len(tasks) <= 256 else np.int32)


def answer_samples(packed_bits, active, tasks, context_bits, rng):
    """The answer of every sample, uint8 (n,), to its active subtask, `active` (n,).

    A subtask with a bit beyond context_bits gets random answers, drawn so that a longer set begins with a shorter one.
    """
    n = len(packed_bits)
    random_words = rng.integers(0, 2**64, size=math.ceil(n / 64), dtype=np.uint64).astype("<u8")
    answer = np.unpackbits(random_words.view(np.uint8), count=n)
    for number, task in enumerate(tasks):
        if task.last_bit <= context_bits:
            asked = slice(number, None, len(tasks)) if task.weight is None else active == number
            rows = packed_bits[asked]
            bit_a, bit_b = (rows[:, (p - 1) // 8] >> (7 - (p - 1) % 8) & 1 for p in (task.a, task.b))
            answer[asked] = bit_a ^ bit_b
    return answer


def make_splits(train_size, valid_size, context_bits, tasks, seed, chunk_size=CHUNK_SIZE, bar=None):
    """Yield the contents of train.pt, then of valid.pt, as generate_data.py describes them.

    All bit strings of both are distinct. The first N training samples depend on (seed, context_bits, tasks) alone, not
    on the sizes; validation samples leave out the strings of the training set.
    """
    n_bytes = math.ceil(context_bits / 8)
    others = np.empty((0, math.ceil(context_bits / 64)), dtype="<u8")
    for split, size in ((TRAIN, train_size), (VALID, valid_size)):
        words = distinct_bit_strings(size, context_bits, generator_for(seed, split, "bits"), others, chunk_size, bar)
        packed_bits = np.ascontiguousarray(words.view(np.uint8).reshape(size, -1)[:, :n_bytes])
        active = choose_tasks(size, tasks, generator_for(seed, split, "tasks"))
        answer = answer_samples(packed_bits, active, tasks, context_bits, generator_for(seed, split, "answers"))
        others = words
        yield {
            "packed_bits": torch.from_numpy(packed_bits),
            "task": torch.from_numpy(active),
            "answer": torch.from_numpy(answer),
            "context_bits": context_bits,
            "task_definition": as_lists(tasks),
            "seed": seed,
        }


class Samples(NamedTuple):
    """n samples on one device, a byte per visible bit."""

    bits: torch.Tensor  # uint8 (n, context_length), the first bits of each sample
    task: torch.Tensor  # uint8 or int32 (n,), the active subtask, counted from 0
    answer: torch.Tensor  # uint8 (n,)
    tasks: list  # T Subtasks
    source: dict  # context_bits and seed of the file, and its task_definition

    def batch(self, rows):
        """Bits (B, context_length), one-hot control (B, T) and answers (B,), float32, of an index or a slice."""
        control = F.one_hot(self.task[rows].long(), len(self.tasks)).float()
        return self.bits[rows].float(), control, self.answer[rows].float()


def unpack_bits(packed_bits, n_bits, chunk_size=1_000_000):
    """The first n_bits of each row of np.packbits bytes: uint8 (n, ceil(bits / 8)) -> uint8 (n, n_bits)."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed_bits.device)
    bits = torch.empty(len(packed_bits), n_bits, dtype=torch.uint8, device=packed_bits.device)
    for start in range(0, len(packed_bits), chunk_size):
        chunk = packed_bits[start : start + chunk_size, : (n_bits + 7) // 8]
        bits[start : start + chunk_size] = (chunk.unsqueeze(2) >> shifts & 1).flatten(1)[:, :n_bits]
    return bits


def open_samples(path):
    """The contents of a file of generate_data.py, not yet read into memory; exits with code 2 if it cannot be used."""
    contents = load_tensors(path, "the data file", mmap=True)
    missing = {"packed_bits", "task", "answer", "context_bits", "seed", "task_definition"} - contents.keys()
    if missing:
        fail(f"the data file {path} has no {sorted(missing)[0]}; make it again with generate_data.py")
    check_task_definition(contents["task_definition"], f"the task definition in {path}")
    packed_bits, n_bytes = contents["packed_bits"], (contents["context_bits"] + 7) // 8
    if not len(packed_bits) == len(contents["task"]) == len(contents["answer"]) or packed_bits.shape[1] != n_bytes:
        fail(f"the data file {path} does not fit together; make it again with generate_data.py")
    return contents


def source_of(contents):
    """What makes the samples of a file those and no others: {"context_bits", "seed", "task_definition"}."""
    return {name: contents[name] for name in ("context_bits", "seed", "task_definition")}


def load_samples(path, size, context_length, device):
    """Read the first `size` samples (all if None) and the first `context_length` bits (all if None) onto a device.

    Exits with code 2 if the file is missing, damaged or holds fewer samples or bits than that.
    """
    contents = open_samples(path)
    packed_bits, context_bits = contents["packed_bits"], contents["context_bits"]
    size = len(packed_bits) if size is None else size
    context_length = context_bits if context_length is None else context_length
    if not 1 <= size <= len(packed_bits):
        fail(f"{path} holds {len(packed_bits)} samples, {size} were asked for; make more with generate_data.py")
    if not 1 <= context_length <= context_bits:
        fail(f"the samples of {path} have {context_bits} bits, a context length of {context_length} was asked for")
    return Samples(unpack_bits(packed_bits[:size].to(device), context_length), contents["task"][:size].to(device),
                   contents["answer"][:size].to(device), check_task_definition(contents["task_definition"]),
                   source_of(contents))
