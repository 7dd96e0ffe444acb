"""The causal transformer of the ICLR version, its input, batches and cross entropy (paper sections 4.2 and 4.3)."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tasks import task_weights
from training import optimizer_step, seeded

MASKED = 2  # the token "?"; bits are 0 and 1, subtask t is 3 + t
EVALUATION_CONTEXTS = 256  # at a time
TRANSFORMER_ARGUMENTS = ("context_bits", "width", "n_layer", "n_head", "rope_base")


class Block(nn.Module):
    """Attention and feed-forward layer, each behind an RMSNorm and added to its input."""

    def __init__(self, width, n_head):
        super().__init__()
        self.n_head = n_head
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def heads(self, x):
        """(B, length, m width) -> m tensors (B, heads, length, head width)."""
        return x.unflatten(2, (-1, self.n_head, self.query.in_features // self.n_head)).permute(2, 0, 3, 1, 4)

    def forward(self, x, cos, sin, sees, first=0):
        """x (B, n, width) to the states from number `first` on; `sees` (n, n) says what each attends to."""
        inputs = self.attention_norm(x)
        key, value = self.heads(self.key_value(inputs))
        query, = self.heads(self.query(inputs[:, first:]))
        attended = F.scaled_dot_product_attention(rotate(query, cos[first:], sin[first:]), rotate(key, cos, sin), value,
                                                  attn_mask=sees[first:])
        x = x[:, first:] + self.attention_out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x))


def rotate(x, cos, sin):
    """Rotary positions: turn the pairs (i, i + half) of (..., length, head width) by angles (length, half)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class QueryTransformer(nn.Module):
    """A causal transformer that is asked several queries behind one context: the base of those of both tasks.

    Every query stands at the position behind the context and sees the context and itself, so it is answered as if it
    were asked alone. A subclass makes its embeddings, then calls add_layers.
    """

    def add_layers(self, context_length, n_outputs, width, n_layer, n_head, frequencies, embedding_std):
        """The layers, rotary angles and first weights, of longest context and `frequencies` (head width / 2,)."""
        self.blocks = nn.ModuleList(Block(width, n_head) for _ in range(n_layer))
        self.final_norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, n_outputs)
        angles = torch.arange(context_length + 1)[:, None] * frequencies
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=embedding_std if "embedding" in name else width ** -0.5)
        for block in self.blocks:  # what is added to the residual stream starts smaller, as in GPT-2
            for layer in (block.attention_out, block.mlp[2]):
                layer.weight.data /= (2 * n_layer) ** 0.5

    def states(self, x, context_length):
        """Embeddings (B, context_length + K, width) to hidden states (B, K, width) at the queries, after the norm."""
        index = torch.arange(x.shape[1], device=x.device)
        position = index.clamp(max=context_length)
        sees = (position < position[:, None]) | (index == index[:, None])
        cos, sin = self.cos[position], self.sin[position]
        for block in self.blocks[:-1]:
            x = block(x, cos, sin, sees)
        return self.final_norm(self.blocks[-1](x, cos, sin, sees, first=context_length))


class Transformer(QueryTransformer):
    """Tokens (B, L + K), bits then K subtasks, to logits (B, K) of their answers, each read at its subtask."""

    def __init__(self, context_bits, n_tasks, width=208, n_layer=3, n_head=8, rope_base=4000.0):
        super().__init__()
        self.context_bits = context_bits
        self.embedding = nn.Embedding(3 + n_tasks, width)
        dims = width // n_head
        self.add_layers(context_bits, 1, width, n_layer, n_head, rope_base ** -(torch.arange(0, dims, 2) / dims),
                        embedding_std=0.02)

    def features(self, tokens):
        """Hidden states (B, K, width) at the subtasks, after the final norm: what the answers are read from."""
        return self.states(self.embedding(tokens), self.context_bits)

    def forward(self, tokens):
        return self.head(self.features(tokens)).squeeze(2)


class SampleTransformer(Transformer):
    """The causal transformer with the inputs and output of an MLP; it reads the visible bits only, and one subtask."""

    def context_features(self, bits, control):
        """Hidden states (B, width) at the active subtask, after the final norm."""
        tokens = torch.where(bits == 0.5, MASKED, bits.long())
        return self.features(torch.cat([tokens, 3 + control.argmax(1, keepdim=True)], dim=1)).squeeze(1)

    def forward(self, bits, control):
        return self.head(self.context_features(bits, control)).squeeze(1)


def systematic_sample(weights, order, shift):
    """Class numbers int64 (n,), each class as often as its weight says, to within one.

    Of n points at equal distances, shifted by one random number, in random order. weights: float64 (K,), of sum 1;
    order: a permutation of 0 ... n - 1, (n,); shift: float64 (1,), from 0 to 1.
    """
    return torch.searchsorted(weights.cumsum(0)[:-1], (order + shift) / len(order), right=True)


class TaskSampler:
    """Draws samples of a task definition on the device: fresh ones, a function of the seed and a number alone."""

    def __init__(self, tasks, context_bits, device):
        self.context_bits, self.device = context_bits, device
        self.bits = torch.tensor([(task.a, task.b) for task in tasks], device=device) - 1  # (T, 2), counted from 0
        self.tasks = torch.arange(len(tasks), device=device)[None]  # (1, T)
        self.weights = torch.tensor(task_weights(tasks), dtype=torch.float64, device=device)
        self.generator = torch.Generator(device=device)

    def reseed(self, *numbers):
        """Begin the stream of random numbers that belongs to these numbers."""
        seeded(self.generator, *numbers)

    def draw(self, n):
        """Bits int64 (n, L) of n contexts, and the answers float32 (n, T) of every subtask."""
        bits = torch.randint(2, (n, self.context_bits), generator=self.generator, device=self.device)
        first, second = self.bits.T
        return bits, (bits[:, first] ^ bits[:, second]).float()

    def draw_tasks(self, n):
        """A subtask for each of n contexts, each subtask as often as its weight says, to within one: int64 (n, 1)."""
        order = torch.randperm(n, generator=self.generator, device=self.device)
        shift = torch.rand(1, generator=self.generator, device=self.device, dtype=torch.float64)
        return systematic_sample(self.weights, order, shift)[:, None]

    def training_batch(self, seed, step, n, max_masked):
        """Tokens (n, L + T) and answers (n, T); in half of the contexts the last 0 to max_masked bits are "?"."""
        self.reseed(seed, 0, step)
        bits, answers = self.draw(n)
        masked = torch.randint(max_masked + 1, (n,), generator=self.generator, device=self.device)
        masked[:n // 2] = 0  # which half does not matter, as all contexts are drawn alike
        return tokens(bits, self.tasks, self.context_bits - masked), answers


def tokens(bits, tasks, visible):
    """Input (n, L + K): bits (n, L), the first `visible` ((n,) or a number) of them shown, and subtasks (n or 1, K)."""
    visible = torch.as_tensor(visible, device=bits.device).expand(len(bits))
    shown = torch.arange(bits.shape[1], device=bits.device) < visible[:, None]
    return torch.cat((torch.where(shown, bits, MASKED), 3 + tasks.expand(len(bits), -1)), dim=1)


def build_transformer(arguments, n_tasks):
    """The Transformer of a run's arguments."""
    return Transformer(n_tasks=n_tasks, **{name: arguments[name] for name in TRANSFORMER_ARGUMENTS})


def visible_lengths(tasks, context_bits):
    """The visible lengths that are measured: from the first that solves a subtask to all bits."""
    return range(min(task.last_bit for task in tasks), context_bits + 1)


def weighted_train_step(model, optimizer, inputs, answers, weights, precision):
    """One optimizer step on tokens (n, L + K) and answers (n, K), weighted (K,). Returns the loss (nats) before it."""
    with precision:
        logits = model(inputs).float()
    loss = (F.binary_cross_entropy_with_logits(logits, answers, reduction="none") @ weights).mean()
    optimizer_step(model, optimizer, loss)
    return loss.detach()


@torch.no_grad()
def cross_entropies(model, sampler, lengths, n_contexts, seed, report=lambda n: None):
    """Cross entropy (nats) at each visible length, its standard error, and the mean loss of each subtask there.

    float64 tensors (lengths,), (lengths,) and (lengths, T) on the CPU. Each of n_contexts contexts, the same ones at
    every length, is asked all subtasks; in the cross entropy a subtask counts by its frequency. `report` is called with
    1 after every length.
    """
    sampler.reseed(seed, 1)
    bits, answers = sampler.draw(n_contexts)
    means, errors = [], []
    for length in lengths:
        losses = torch.cat([
            F.binary_cross_entropy_with_logits(model(tokens(part, sampler.tasks, length)), answer, reduction="none")
            for part, answer in zip(bits.split(EVALUATION_CONTEXTS), answers.split(EVALUATION_CONTEXTS))]).double()
        means.append(losses.mean(dim=0))
        errors.append((losses @ sampler.weights).std() / math.sqrt(n_contexts))
        report(1)
    means = torch.stack(means)
    return (means @ sampler.weights).cpu(), torch.stack(errors).cpu(), means.cpu()


def flops_per_sample(model, sampler, n=8):
    """Operations of the matrix products of a training step, forward and backward, a sample (context and subtask)."""
    inputs, answers = sampler.training_batch(0, 0, n, max_masked=0)
    with FlopCounterMode(display=False) as counter:
        F.binary_cross_entropy_with_logits(model(inputs), answers).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / answers.numel()
