"""The causal transformer of the ICLR version, its input and its batches (paper sections 4.2 and 4.3)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from utils import fail
from tasks import task_weights

MASKED = 2  # the token "?"; bits are 0 and 1, subtask t is 3 + t


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


def check_heads(width, n_head):
    """Exit with code 2 if the heads cannot have the same, even width, as rotary positions need."""
    if width % (2 * n_head):
        fail(f"--width {width} does not split into --n_head {n_head} heads of even width; change one of them")


def rotate(x, cos, sin):
    """Rotary positions: turn the pairs (i, i + half) of (..., length, head width) by angles (length, half)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Transformer(nn.Module):
    """Tokens (B, L + K), bits then K subtasks, to logits (B, K) of their answers, each read at its subtask.

    Every subtask stands at position L and sees the bits and itself, so it is answered as if it were asked alone.
    """

    def __init__(self, context_bits, n_tasks, width=208, n_layer=3, n_head=8, rope_base=4000.0):
        super().__init__()
        self.context_bits = context_bits
        self.embedding = nn.Embedding(3 + n_tasks, width)
        self.blocks = nn.ModuleList(Block(width, n_head) for _ in range(n_layer))
        self.final_norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, 1)
        dims = width // n_head
        angles = torch.arange(context_bits + 1)[:, None] * rope_base ** -(torch.arange(0, dims, 2) / dims)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02 if "embedding" in name else width ** -0.5)
        for block in self.blocks:  # what is added to the residual stream starts smaller, as in GPT-2
            for layer in (block.attention_out, block.mlp[2]):
                layer.weight.data /= (2 * n_layer) ** 0.5

    def features(self, tokens):
        """Hidden states (B, K, width) at the subtasks, after the final norm: what the answers are read from."""
        x = self.embedding(tokens)
        numbers = torch.arange(x.shape[1], device=x.device)
        place = numbers.clamp(max=self.context_bits)
        sees = (place < place[:, None]) | (numbers == numbers[:, None])
        cos, sin = self.cos[place], self.sin[place]
        for block in self.blocks[:-1]:
            x = block(x, cos, sin, sees)
        return self.final_norm(self.blocks[-1](x, cos, sin, sees, first=self.context_bits))

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


class TaskSampler:
    """Draws samples of a task definition on the device: fresh ones, a function of the seed and a number alone."""

    def __init__(self, pairs, context_bits, device):
        self.context_bits, self.device = context_bits, device
        self.bits = torch.tensor([pair[:2] for pair in pairs], device=device) - 1  # (T, 2), counted from 0
        self.tasks = torch.arange(len(pairs), device=device)[None]  # (1, T)
        self.weights = torch.tensor(task_weights(pairs), dtype=torch.float64, device=device)
        self.thresholds = self.weights.cumsum(0)[:-1]
        self.generator = torch.Generator(device=device)

    def reseed(self, *numbers):
        state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)
        self.generator.manual_seed(int(state))

    def draw(self, n):
        """Bits int64 (n, L) of n contexts, and the answers float32 (n, T) of every subtask."""
        bits = torch.randint(2, (n, self.context_bits), generator=self.generator, device=self.device)
        first, second = self.bits.T
        return bits, (bits[:, first] ^ bits[:, second]).float()

    def draw_tasks(self, n):
        """A subtask for each of n contexts, each subtask as often as its weight says, to within one: int64 (n, 1).

        Systematic sampling: n points at equal distances, shifted by one random number and in random order.
        """
        points = torch.randperm(n, generator=self.generator, device=self.device)
        shift = torch.rand(1, generator=self.generator, device=self.device, dtype=torch.float64)
        return torch.searchsorted(self.thresholds, (points + shift) / n, right=True)[:, None]

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
