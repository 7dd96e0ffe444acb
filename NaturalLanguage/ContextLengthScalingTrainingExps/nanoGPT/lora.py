"""Low-rank adaptation of the attention matrices (LoRA), with norms and embeddings trained too if wanted (LongLoRA).

Queries, keys, values and the attention's output each get a product of two thin matrices, beside frozen weights. The
product is 0 at first. `merge` adds it to the weights, which gives the plain model again.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


ALPHA = 16.0  # the product counts ALPHA / rank times
TRAINABLE = {"norms": ("attention_norm.weight", "mlp_norm.weight", "final_norm.weight"),
             "embeddings": ("embedding.weight", "output.weight")}  # of a tied model they are one


class LoraLinear(nn.Module):
    """A linear layer of `parts` stacked matrices (3 for queries, keys and values), each with a product of rank r.

    down (parts, r, in) begins as a linear layer's weights do, up (parts, out / parts, r) at 0.
    """

    def __init__(self, linear, rank, parts):
        super().__init__()
        self.weight = linear.weight
        self.down = nn.Parameter(torch.empty(parts, rank, linear.in_features, device=linear.weight.device))
        self.up = nn.Parameter(torch.zeros(parts, linear.out_features // parts, rank, device=linear.weight.device))
        nn.init.uniform_(self.down, -1 / math.sqrt(linear.in_features), 1 / math.sqrt(linear.in_features))

    def forward(self, x):
        parts, rank, _ = self.down.shape
        low = F.linear(x, self.down.flatten(0, 1)).unflatten(-1, (parts, rank))  # (..., parts, rank)
        added = torch.einsum("...pr,por->...po", low, self.up).flatten(-2)
        return F.linear(x, self.weight) + ALPHA / rank * added


def add_lora(model, rank, trainable=()):
    """Freeze a GPT but for LoRA of this rank in every attention and the named kinds of TRAINABLE. Returns the model."""
    wanted = tuple(ending for kind in trainable for ending in TRAINABLE[kind])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(wanted) and name.endswith(wanted))
    for block in model.blocks:
        block.query_key_value = LoraLinear(block.query_key_value, rank, 3)
        block.attention_out = LoraLinear(block.attention_out, rank, 1)
    return model


def merge(weights):
    """The state dictionary of the plain model that computes the same, from one of a model with LoRA (or without)."""
    merged = {name: value for name, value in weights.items() if not name.endswith((".down", ".up"))}
    for name, down in weights.items():
        if name.endswith(".down"):
            stem = name.removesuffix("down")
            product = weights[f"{stem}up"].double() @ down.double()  # (parts, out / parts, in)
            weight = merged[f"{stem}weight"]
            merged[f"{stem}weight"] = (weight + ALPHA / down.shape[1] * product.flatten(0, 1)).to(weight.dtype)
    return merged
