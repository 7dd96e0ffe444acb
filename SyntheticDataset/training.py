"""What training on the files of generate_data.py is made of: its batches, steps and evaluations."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from tasks import solvable_tasks

EVALUATION_SAMPLES = 8192  # at a time


def seeded(generator, *numbers):
    """A torch.Generator, returned at the beginning of the stream of random numbers that belongs to these numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return generator.manual_seed(int(state))


def epoch_order(n, seed, epoch, device):
    """The order of the n training samples in an epoch, a function of (seed, epoch) alone: int64 (n,) on the device."""
    return torch.randperm(n, generator=seeded(torch.Generator(), seed, epoch)).to(device)


def optimizer_step(model, optimizer, loss):
    """One step down the gradient of a loss, clipped to the norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def train_step(model, optimizer, samples, rows):
    """One optimizer step on the given samples. Returns the sum of their losses (nats) before it, left on the device."""
    bits, control, answers = samples.batch(rows)
    loss = F.binary_cross_entropy_with_logits(model(bits, control), answers)
    optimizer_step(model, optimizer, loss)
    return loss.detach() * len(rows)


@torch.no_grad()
def loss_sums_by_task(model, samples):
    """Sum of the losses (nats) and number of samples of each subtask: two float64 tensors (T,) on the CPU."""
    sums = torch.zeros(2, len(samples.tasks), dtype=torch.float64, device=samples.bits.device)
    for start in range(0, len(samples.bits), EVALUATION_SAMPLES):
        bits, control, answers = samples.batch(slice(start, start + EVALUATION_SAMPLES))
        losses = F.binary_cross_entropy_with_logits(model(bits, control), answers, reduction="none").double()
        sums += torch.stack([losses, torch.ones_like(losses)]) @ control.double()
    return sums.cpu()


def evaluate(model, samples, context_length):
    """Validation loss, the parts of it from solvable and unsolvable subtasks (they add up to it), loss per subtask."""
    sums, counts = loss_sums_by_task(model, samples)
    solvable = torch.tensor(solvable_tasks(samples.tasks, context_length))
    n = counts.sum()
    task_losses = [loss if math.isfinite(loss) else None for loss in (sums / counts).tolist()]  # None: no sample of it
    return {
        "valid_loss": (sums.sum() / n).item(),
        "solvable_loss": (sums[solvable].sum() / n).item(),
        "unsolvable_loss": (sums[~solvable].sum() / n).item(),
        "task_losses": task_losses,
    }
