"""Read the samples that generate_data.py wrote, and turn them into batches on the training device."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from utils import fail, load_tensors
from tasks import check_task_definition


class Samples(NamedTuple):
    """n samples on one device, a byte per visible bit."""

    bits: torch.Tensor  # uint8 (n, context_length), the first bits of each sample
    task: torch.Tensor  # uint8 or int32 (n,), the active subtask, counted from 0
    answer: torch.Tensor  # uint8 (n,)
    task_definition: list  # T pairs of bit positions, counted from 1
    source: dict  # context_bits and seed of the file

    def batch(self, rows):
        """Bits (B, context_length), one-hot control (B, T) and answers (B,), float32, of an index or a slice."""
        control = F.one_hot(self.task[rows].long(), len(self.task_definition)).float()
        return self.bits[rows].float(), control, self.answer[rows].float()


def unpack_bits(packed_bits, n_bits, chunk_size=1_000_000):
    """The first n_bits of each row of np.packbits bytes: uint8 (n, ceil(bits / 8)) -> uint8 (n, n_bits)."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed_bits.device)
    bits = torch.empty(len(packed_bits), n_bits, dtype=torch.uint8, device=packed_bits.device)
    for start in range(0, len(packed_bits), chunk_size):
        chunk = packed_bits[start : start + chunk_size, : (n_bits + 7) // 8]
        bits[start : start + chunk_size] = (chunk.unsqueeze(2) >> shifts & 1).flatten(1)[:, :n_bits]
    return bits


def load_samples(path, size, context_length, device):
    """Read the first `size` samples (all if None) and the first `context_length` bits (all if None) onto a device.

    Exits with code 2 if the file is missing, damaged or holds fewer samples or bits than that.
    """
    contents = load_tensors(path, "the data file", mmap=True)
    try:
        packed_bits, task, answer = (contents[name] for name in ("packed_bits", "task", "answer"))
        context_bits, seed, pairs = (contents[name] for name in ("context_bits", "seed", "task_definition"))
    except KeyError as error:
        fail(f"the data file {path} has no {error}; make it again with generate_data.py")
    check_task_definition(pairs, f"the task definition in {path}")
    if not len(packed_bits) == len(task) == len(answer) or packed_bits.shape[1] != (context_bits + 7) // 8:
        fail(f"the data file {path} does not fit together; make it again with generate_data.py")
    size = len(packed_bits) if size is None else size
    context_length = context_bits if context_length is None else context_length
    if not 1 <= size <= len(packed_bits):
        fail(f"{path} holds {len(packed_bits)} samples, {size} were asked for; make more with generate_data.py")
    if not 1 <= context_length <= context_bits:
        fail(f"the samples of {path} have {context_bits} bits, a context length of {context_length} was asked for")
    bits = unpack_bits(packed_bits[:size].to(device), context_length)
    source = {"context_bits": context_bits, "seed": seed}
    return Samples(bits, task[:size].to(device), answer[:size].to(device), pairs, source)
