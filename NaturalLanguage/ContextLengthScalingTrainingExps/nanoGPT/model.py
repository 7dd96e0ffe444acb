"""The paper's GPT (section 6): rotary positions on half of each head, tied embeddings (or not), no biases, no dropout.

Shapes: B windows, T positions, C width, H heads, D = C / H, V vocabulary.
"""

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

from attention import make_attention
from memory import MemoryAttention
from rope import THETA, scale_frequencies

INIT_STD = 0.02  # of GPT-2's first weights, whose width is 768 or more
LOSS_POSITIONS = 1024  # positions whose logits exist at the same time: 1,024 x 50,304 float32 are 206 MB
COMPILED_POSITIONS = 4096  # 412 MB in bfloat16; the output layer's gradient is read and written once a chunk


def rotary_tables(length, dims, device, rope=None):
    """Cosines and sines of the rotary angles, each (T, dims), for base 10,000; the halves of `dims` rotate together.

    rope: a configuration of rope.py that scales the frequencies for longer texts.
    """
    frequencies = THETA ** (-torch.arange(0, dims, 2, device=device, dtype=torch.float32) / dims)
    scale = 1.0
    if rope is not None:
        frequencies, scale = scale_frequencies(frequencies, **rope)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos() * scale, angles.sin() * scale


def rotate(x, cosines, sines):
    """Turn the first dims of each head by the angle of its position, and pass the rest: (B, H, T, D) to the same."""
    dims = cosines.shape[-1]
    turned, rest = x[..., :dims].float(), x[..., dims:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cosines + torch.cat((-second, first), dim=-1) * sines
    return torch.cat((turned.to(x.dtype), rest), dim=-1)


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and added to the stream."""

    def __init__(self, n_embd, n_head):
        super().__init__()
        self.n_head, self.memory = n_head, None
        self.attention_norm = nn.LayerNorm(n_embd, bias=False)
        self.query_key_value = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.attention_out = nn.Linear(n_embd, n_embd, bias=False)
        self.mlp_norm = nn.LayerNorm(n_embd, bias=False)
        self.mlp_in = nn.Linear(n_embd, 4 * n_embd, bias=False)
        self.mlp_out = nn.Linear(4 * n_embd, n_embd, bias=False)

    def forward(self, x, cosines, sines, attention, documents=None, store=None):
        B, T, C = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(B, T, 3, self.n_head, C // self.n_head)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if self.memory is not None:
            query, key = self.memory.normalise(query, key)
        unturned = query, key  # the memory has no positions
        query, key = rotate(query, cosines, sines), rotate(key, cosines, sines)
        attended = attention(query, key, value.contiguous(), documents)  # frees `heads`
        if store is not None and self.memory is not None:
            attended = self.memory(attended, *unturned, value, store)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


class GPT(nn.Module):
    """A causal transformer over token ids; `hidden` gives its last states, the losses come from the functions below.

    attention, rope, memory: dictionaries of settings, of attention.py, rope.py and memory.py; None: the paper's model.
    untied: the output layer has weights of its own. init_std: standard deviation of the first weights; untied
    embeddings begin with 1, as torch's do.
    """

    def __init__(self, vocab_size, n_layer=6, n_head=12, n_embd=768, attention=None, rope=None, memory=None,
                 untied=False, init_std=INIT_STD):
        super().__init__()
        self.n_head, self.rope, self.memory = n_head, rope, memory
        self.rotary_dims = n_embd // n_head // 2
        self.attention = make_attention(**attention or {})
        self.embedding = nn.Embedding(vocab_size, n_embd)  # and, transposed, the output layer where there is none
        self.output = nn.Linear(n_embd, vocab_size, bias=False) if untied else None
        self.blocks = nn.ModuleList(Block(n_embd, n_head) for _ in range(n_layer))
        if memory is not None:
            self.blocks[memory["layer"] - 1].memory = MemoryAttention(n_head, n_embd // n_head, memory["neighbours"])
        self.final_norm = nn.LayerNorm(n_embd, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_stream = name.endswith(("attention_out.weight", "mlp_out.weight"))
                nn.init.normal_(parameter, std=init_std / math.sqrt(2 * n_layer) if into_stream else init_std)
        if untied:
            nn.init.normal_(self.embedding.weight)

    @property
    def output_weight(self):
        """The matrix (V, C) of the output layer."""
        return (self.output or self.embedding).weight

    def hidden(self, tokens, documents=None, store=None):
        """States after the last layer norm (B, T, C) of token ids (B, T).

        documents: the number of each token's document (B, T), where documents must not see each other. store: the
        memory of these rows (memory.py), searched and then added to.
        """
        cosines, sines = rotary_tables(tokens.shape[1], self.rotary_dims, tokens.device, self.rope)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cosines, sines, self.attention, documents, store)
        return self.final_norm(x)

    def forward(self, tokens):
        """Logits (B, T, V) of the token after each position; of all positions at once, so for short inputs only."""
        return self.hidden(tokens) @ self.output_weight.T

    def flops_per_token(self, context_length):
        """Operations of a training step per token: 6 per matrix weight, and 12 x width per key that a query sees."""
        weights = sum(p.numel() for p in self.parameters() if p.dim() == 2)
        weights -= self.embedding.weight.numel() if self.output else 0  # rows that are only looked up
        return 6 * weights + 6 * len(self.blocks) * self.embedding.embedding_dim * self.attention.span(context_length)


def loss_and_gradient(logits, targets):
    """Sum of the cross entropies (float64) of logits (N, V) against targets (N, 1), and its gradient by the logits.

    float32 logits are overwritten by their gradient, step by step; of others the gradient is float32 too.
    """
    logits = logits.float()
    logits -= logits.amax(-1, keepdim=True)
    target_logits = logits.gather(-1, targets)
    normaliser = logits.exp_().sum(-1, keepdim=True)
    total = (normaliser.log() - target_logits).sum(dtype=torch.float64)
    gradient = logits.div_(normaliser)  # softmax, in the place of the logits
    return total, gradient.scatter_add_(-1, targets, gradient.new_full(targets.shape, -1.0))


def loss_and_gradient_at_once(logits, targets):
    """The same as one expression, of which a compiler makes two passes over the logits; the gradient has their dtype.

    Uncompiled, each step above reads and writes all logits: on a GPU some 50 bytes of traffic a logit, here 12.
    """
    dtype, logits = logits.dtype, logits.float()
    logits = logits - logits.amax(-1, keepdim=True)
    exponentials = logits.exp()
    normaliser = exponentials.sum(-1, keepdim=True)
    total = (normaliser.log() - logits.gather(-1, targets)).sum(dtype=torch.float64)
    is_target = torch.arange(logits.shape[-1], device=logits.device) == targets
    return total, (exponentials / normaliser - is_target.float()).to(dtype)


@functools.cache
def compiled_loss_and_gradient():
    return torch.compile(loss_and_gradient_at_once, dynamic=False)


class SummedCrossEntropy(torch.autograd.Function):
    """Sum over positions of -log softmax(states @ weight.T)[target], whose logits exist for one chunk at a time.

    The gradients of a chunk are computed while its logits exist, so that nothing is computed twice.
    """

    @staticmethod
    def forward(context, states, weight, targets, compiled):
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        positions, of_chunk = ((COMPILED_POSITIONS, compiled_loss_and_gradient()) if compiled else
                               (LOSS_POSITIONS, loss_and_gradient))
        total = torch.zeros((), device=states.device, dtype=torch.float64)
        state_gradient = torch.empty_like(states)
        weight_gradient = torch.zeros_like(weight)
        with torch.autocast(kind, enabled=False):
            matrix = weight.to(dtype)
            buffer = matrix.new_empty(min(positions, len(states)), len(matrix))
            for first in range(0, len(states), positions):
                rows = slice(first, first + positions)
                chunk = states[rows].to(dtype)
                loss, gradient = of_chunk(torch.mm(chunk, matrix.T, out=buffer[:len(chunk)]), targets[rows, None])
                total += loss
                gradient = gradient.to(dtype)
                state_gradient[rows] = gradient @ matrix
                if dtype == weight.dtype:
                    weight_gradient.addmm_(gradient.T, chunk)
                else:
                    weight_gradient += gradient.T @ chunk
        context.save_for_backward(state_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(context, gradient):
        state_gradient, weight_gradient = context.saved_tensors
        return state_gradient.mul_(gradient), weight_gradient.mul_(gradient), None, None  # torch refuses a second one


def summed_cross_entropy(states, weight, targets, compiled=False):
    """Sum of the cross entropies (nats, float64) of states (N, C) against targets (N,), differentiable in both.

    compiled: fuse what is done to a chunk's logits with torch.compile, for a GPU.
    """
    return SummedCrossEntropy.apply(states, weight, targets, compiled)


@torch.no_grad()
def cross_entropies(states, weight, targets):
    """Cross entropy (nats, float32) of each state (N, C) against its target (N,), in chunks: (N,)."""
    return torch.cat([F.cross_entropy((chunk @ weight.T).float(), target, reduction="none") for chunk, target
                      in zip(states.split(LOSS_POSITIONS), targets.split(LOSS_POSITIONS))])
