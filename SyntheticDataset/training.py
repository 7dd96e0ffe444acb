"""What training on the files of generate_data.py is made of: its arguments, batches, steps and evaluations."""

import math
from argparse import BooleanOptionalAction

import numpy as np
import torch
from torch.nn import functional as F

from tasks import solvable_tasks
from utils import Parser, fail, non_negative_float, non_negative_int, positive_int, seed

EVALUATION_SAMPLES = 8192  # at a time
MODELS = ("mlp", "bi_mlp", "transformer")
# The arguments that say which network it is; the paper's widths by default.
WIDTHS = {
    "hidden_size": (400, "MLP: width; the middle layer has half"),
    "task_hidden_size": (400, "Bi-MLP: width of the first layer"),
    "next_size": (80, "Bi-MLP: width of the context feature"),
    "next_hidden_size": (200, "Bi-MLP: width of the third layer"),
    "width": (208, "transformer: of the hidden states"),
    "n_layer": (3, "transformer: layers"),
    "n_head": (8, "transformer: attention heads; of even width"),
}


def training_parser(description):
    """The parser of train_model.py, which a sweep reads the flags of its cells with too."""
    parser = Parser(description)
    data = parser.add_argument_group("data")
    data.add_argument("--training_data_position", default="data/train.pt", help="file of generate_data.py")
    data.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    data.add_argument("--context_length", type=positive_int, required=True, help="visible bits")
    data.add_argument("--train_dataset_size", type=positive_int, help="the first training samples (default: all)")
    data.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    network = parser.add_argument_group("network")
    network.add_argument("--model", choices=MODELS, default="mlp",
                         help="bi_mlp: a context feature that cannot see the active subtask")
    network.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    for name, (width, text) in WIDTHS.items():
        network.add_argument(f"--{name}", type=positive_int, default=width, help=text)
    network.add_argument("--output_size", type=int, default=1, choices=[1], help="logits per sample")
    training = parser.add_argument_group("training")
    training.add_argument("--num_epochs", type=positive_int, default=200,
                          help="passes over the training samples at most")
    training.add_argument("--early_stopping", type=positive_int, default=25,
                          help="stop after so many epochs without a lower validation loss ...")
    training.add_argument("--early_stopping_steps", type=non_negative_int, default=2000,
                          help="... and so many optimizer steps (0: epochs alone, as published)")
    training.add_argument("--batch_size", type=positive_int, default=10_000, help="samples a step")
    training.add_argument("--learning_rate", type=non_negative_float, default=1e-3, help="of AdamW")
    training.add_argument("--weight_decay", type=non_negative_float, default=1e-4,
                          help="of AdamW; the paper's sweep has 8e-4")
    training.add_argument("--seed", type=seed, default=0, help="seed of the weights and of the batches")
    add_run_arguments(parser, "outputs/runs", checkpoint_seconds=10.0)
    return parser


def add_run_arguments(parser, save_position, checkpoint_seconds):
    """The flags that say where and how a run is made, of all trainers."""
    run = parser.add_argument_group("run")
    run.add_argument("--save_position", default=save_position, help="directory for the run's directory")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    run.add_argument("--threads", type=positive_int, default=1,
                     help="CPU threads; matrices this small gain nothing from more, so run more runs instead")
    run.add_argument("--checkpoint_seconds", type=non_negative_float, default=checkpoint_seconds,
                     help="seconds between checkpoints, each at the end of a step")
    run.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")


def check_heads(width, n_head):
    """Exit with code 2 if the heads cannot have the same, even width, as rotary positions need."""
    if width % (2 * n_head):
        fail(f"--width {width} does not split into --n_head {n_head} heads of even width; change one of them")


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
