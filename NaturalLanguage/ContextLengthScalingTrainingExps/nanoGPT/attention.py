"""Causal attention in full and three kinds that cost less than the square of the length.

Each kind is a module: module(query, key, value, documents) takes and gives (B, H, T, D); with documents (B, T), the
number of the document of each token, a token sees its own document only. `counts` says how often a query sees a key:
attention of all pairs with the mask log(counts) is the same thing at quadratic cost, the truth of the tests.
Sources: LongLoRA (shifted sparse), LongNet (dilated), Mistral and Longformer (sliding window).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

FUSED = {"cpu"}  # devices where `attend` has a fused kernel
SCORES_AT_ONCE = 2 ** 26  # of `attend` where there is no fused kernel: 256 MB in float32


def visible(documents):
    """Whether a query sees a key, causally and in its own document: (..., n) to bool (..., n, n)."""
    return (documents[..., :, None] == documents[..., None, :]).tril()


def grouped(x, size):
    """Cut (B, H, T, ...) into groups of `size` positions, each like a head of its own: (B, H * T / size, size, ...)."""
    B, H, T = x.shape[:3]
    return x.reshape(B, H * (T // size), size, *x.shape[3:])


def within_groups(query, key, value, size, documents=None):
    """Causal attention within consecutive groups of `size` positions, which divides T."""
    mask = None
    if documents is not None:
        mask = visible(grouped(documents[:, None].expand(-1, query.shape[1], -1), size))
    parts = (grouped(x, size) for x in (query, key, value))
    return F.scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=mask is None).reshape(query.shape)


class Full(nn.Module):
    """Each token sees every token up to itself."""

    def forward(self, query, key, value, documents=None):
        if documents is None:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible(documents)[:, None])

    def counts(self, length, n_head):
        """How often each query sees each key: (H, T, T)."""
        return torch.ones(n_head, length, length).tril()

    def span(self, length):
        """Twice the mean number of keys that a query sees in training (leading order), for counts of operations."""
        return length


class ShiftedSparse(Full):
    """LongLoRA's S2: in training, groups of `group` tokens, shifted by half a group for the second half of the heads.

    The first and the last half-group of the shifted heads are groups of their own: the published roll lets the first
    see the end of the text. In evaluation (`model.eval()`) attention is full. Raises ValueError for a length that the
    group does not divide.
    """

    def __init__(self, group):
        super().__init__()
        self.group = group

    def forward(self, query, key, value, documents=None):
        if not self.training:
            return super().forward(query, key, value, documents)
        length, heads, half = query.shape[2], query.shape[1] // 2, self.group // 2
        if length % self.group:
            raise ValueError(f"groups of {self.group} tokens do not divide a length of {length}")

        def attended(head, first, last, size):
            parts = (x[:, head, first:last] for x in (query, key, value))
            return within_groups(*parts, size, None if documents is None else documents[:, first:last])

        plain, shifted = slice(heads), slice(heads, None)
        parts = [attended(shifted, 0, half, half), attended(shifted, length - half, length, half)]
        if length > self.group:
            parts.insert(1, attended(shifted, half, length - half, self.group))
        return torch.cat((attended(plain, 0, length, self.group), torch.cat(parts, 2)), 1)

    def counts(self, length, n_head):
        shift = torch.where(torch.arange(n_head) < n_head // 2, 0, self.group // 2)
        groups = (torch.arange(length) + shift[:, None]) // self.group  # (H, T)
        return visible(groups).float()

    def span(self, length):
        return self.group


class SlidingWindow(Full):
    """Each token sees itself and the window - 1 tokens before it; blocks of `window` queries see twice as many keys."""

    def __init__(self, window):
        super().__init__()
        self.window = window

    def forward(self, query, key, value, documents=None):
        (B, H, T, _), window = query.shape, self.window
        if T <= window:
            return super().forward(query, key, value, documents)
        fill = -T % window  # behind the end, where no token looks
        query, key, value = (F.pad(x, (0, 0, 0, fill)) for x in (query, key, value))
        later = grouped(query[:, :, window:], window)
        keys, values = (torch.cat((grouped(x[:, :, :-window], window), grouped(x[:, :, window:], window)), 2)
                        for x in (key, value))
        distance = (torch.arange(window)[:, None] + window - torch.arange(2 * window)).to(query.device)
        mask = (distance >= 0) & (distance < window)  # (window, 2 window)
        if documents is not None:
            each = F.pad(documents, (0, fill), value=-1)[:, None].expand(-1, H, -1)
            of_queries, of_first = grouped(each[:, :, window:], window), grouped(each[:, :, :-window], window)
            mask = mask & (of_queries[..., :, None] == torch.cat((of_first, of_queries), -1)[..., None, :])
            documents = documents[:, :window]
        first = super().forward(*(x[:, :, :window] for x in (query, key, value)), documents)
        later = F.scaled_dot_product_attention(later, keys, values, attn_mask=mask)
        return torch.cat((first, later.reshape(B, H, -1, query.shape[-1])), 2)[:, :, :T]

    def counts(self, length, n_head):
        return super().counts(length, n_head).triu(1 - self.window)

    def span(self, length):
        return min(length, 2 * self.window)


def pattern(x, width, rate):
    """The positions of a (width, rate) pair, as a view of x (B, H, T, ...).

    Within each segment of `width` tokens, heads of block b (of `rate` blocks) take the positions b, b + rate, ...
    Shape: (B, rate, H / rate, T / width, width / rate, ...).
    """
    B, H, T = x.shape[:3]
    cut = x.view(B, rate, H // rate, T // width, width // rate, rate, *x.shape[3:])
    return cut.diagonal(0, 1, 5).movedim(-1, 1)


def attend(query, key, value, mask):
    """Causal attention of (B, H, n, D) and the logarithms of its denominators (B, H, n); mask: additive, or None."""
    if query.device.type in FUSED:  # the kernel of scaled_dot_product_attention, which keeps the denominators to itself
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, mask is None, attn_mask=mask)
    parts = [(scores.softmax(-1).to(value.dtype) @ value[:, rows], scores.logsumexp(-1))
             for rows, scores in scores_in_parts(query, key, mask)]
    return tuple(torch.cat(part, 1) for part in zip(*parts))


def attend_backward(gradient, query, key, value, out, denominators, mask):
    """Gradients by query, key and value, of attention whose output and denominators may count more keys than these."""
    if query.device.type in FUSED:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, query, key, value, out, denominators, 0.0, mask is None, attn_mask=mask)
    parts = []
    for rows, scores in scores_in_parts(query, key, mask):
        weights = (scores - denominators[:, rows, :, None]).exp()
        wanted = gradient[:, rows]
        by_score = weights * (wanted @ value[:, rows].mT - (wanted * out[:, rows]).sum(-1, keepdim=True))
        by_score = (by_score / math.sqrt(query.shape[-1])).to(query.dtype)
        parts.append((by_score @ key[:, rows], by_score.mT @ query[:, rows], weights.to(query.dtype).mT @ wanted))
    return tuple(torch.cat(part, 1) for part in zip(*parts))


def scores_in_parts(query, key, mask):
    """Masked scores in float32 for some of the heads at a time: pairs of a slice of heads and (B, heads, n, n)."""
    B, H, n, D = query.shape
    step = max(1, SCORES_AT_ONCE // (B * n * n))
    future = torch.full((n, n), -torch.inf, device=query.device).triu(1)
    for first in range(0, H, step):
        rows = slice(first, first + step)
        scores = (query[:, rows] @ key[:, rows].mT).float() / math.sqrt(D)
        yield rows, scores + (future if mask is None else mask[:, rows])


class Patterns(torch.autograd.Function):
    """Attention over the keys of all (width, rate) pairs, a key counted once for each pair that shows it.

    Each pair is computed by itself; outputs are mixed in proportion to the softmax denominators, which gives one
    softmax over all. So with the denominators of the mix each pair's backward pass gives its part of the exact gradient
    (torchscale treats the mixing weights as constants).
    """

    @staticmethod
    def select(x, width, rate, fill=0.0):
        """The positions of a pair, in (B, heads and segments, width / rate, ...); T is filled up to whole segments."""
        missing = -x.shape[2] % width
        if missing:
            x = F.pad(x, (0, 0) * (x.dim() - 3) + (0, missing), value=fill)
        return pattern(x.contiguous(), width, rate).flatten(1, 3)

    @staticmethod
    def scatter(part, x, width, rate, fill):
        """The inverse of select: a tensor like x with `part` in the positions of the pair and `fill` elsewhere."""
        whole = part.new_full((*x.shape[:2], x.shape[2] + -x.shape[2] % width, *part.shape[3:]), fill)
        view = pattern(whole, width, rate)
        view.copy_(part.reshape(view.shape))
        return whole[:, :, :x.shape[2]]

    @staticmethod
    def mask(documents, n_head, width, rate, dtype):
        if documents is None:
            return None
        each = Patterns.select(documents[:, None].expand(-1, n_head, -1), width, rate, fill=-1)
        return torch.zeros((), dtype=dtype, device=each.device).where(visible(each), -torch.inf)

    @staticmethod
    def forward(context, query, key, value, documents, pairs):
        out, total = torch.zeros_like(query), None
        for pair in pairs:
            mask = Patterns.mask(documents, query.shape[1], *pair, query.dtype)
            part, sums = attend(*(Patterns.select(x, *pair) for x in (query, key, value)), mask)
            part, sums = Patterns.scatter(part, query, *pair, 0.0), Patterns.scatter(sums, query, *pair, -torch.inf)
            if total is None:
                out, total = part, sums
                continue
            new = torch.logaddexp(total, sums)
            out = (out * (total - new).exp()[..., None] + part * (sums - new).exp()[..., None]).to(query.dtype)
            total = new
        context.save_for_backward(query, key, value, documents, out, total)
        context.pairs = pairs
        return out

    @staticmethod
    def backward(context, gradient):
        query, key, value, documents, out, total = context.saved_tensors
        sums = None
        for pair in context.pairs:
            mask = Patterns.mask(documents, query.shape[1], *pair, query.dtype)
            selected = (Patterns.select(x, *pair) for x in (gradient, query, key, value, out, total))
            parts = attend_backward(*selected, mask)
            parts = [Patterns.scatter(part, query, *pair, 0.0) for part in parts]
            sums = parts if sums is None else [former + part for former, part in zip(sums, parts)]
        return *sums, None, None


class Dilated(Full):
    """LongNet's dilated attention: pairs of a segment's width and a rate, mixed by their softmax denominators.

    The pair with rate 1 comes first, so that every query has a denominator. A segment wider than the text is the text.
    """

    def __init__(self, pairs):
        super().__init__()
        self.pairs = sorted((tuple(pair) for pair in pairs), key=lambda pair: pair[1])

    def pairs_for(self, length):
        return [(min(width, math.ceil(length / rate) * rate), rate) for width, rate in self.pairs]

    def forward(self, query, key, value, documents=None):
        return Patterns.apply(query, key, value, documents, self.pairs_for(query.shape[2]))

    def counts(self, length, n_head):
        position, total = torch.arange(length), torch.zeros(n_head, length, length)
        for width, rate in self.pairs:
            offset = torch.arange(n_head) // (n_head // rate)
            chosen = position % width % rate == offset[:, None]  # (H, T)
            segment = position // width
            total += chosen[:, :, None] & chosen[:, None, :] & (segment[:, None] == segment).tril()
        return total

    def span(self, length):
        return sum(width / rate**2 for width, rate in self.pairs_for(length))


KINDS = {"full": Full, "shifted_sparse": ShiftedSparse, "dilated": Dilated, "sliding_window": SlidingWindow}


def make_attention(kind="full", **settings):
    """The module of a configuration of long_context_flags.attention_config (or of none: full attention)."""
    return KINDS[kind](**settings)
