"""The folder under test, small settings, and a reference implementation of the model in plain float64."""

import math
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[1]
TINY = ("--n_layer", 2, "--n_head", 2, "--n_embd", 16, "--tokens_per_step", 256, "--eval_tokens", 512,
        "--full_context_targets", 40, "--eval_interval", 5, "--learning_rate", 3e-3, "--warmup_iters", 10,
        "--device", "cpu", "--threads", 1)
TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gigabytes", "mfu")


def make_texts(folder, n_files=60, n_words=400):
    """Text files of words that follow each other by chance, the same on every machine; returns their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.RandomState(7)  # the old generator, whose numbers never change
    words = ["".join("aeioubdkmnrst"[place] for place in generator.randint(13, size=generator.randint(2, 7)))
             for _ in range(80)]
    follows = generator.randint(80, size=(80, 4))
    for number in range(n_files):
        word, text = number % 80, []
        for _ in range(n_words):
            text.append(words[word])
            word = follows[word, generator.randint(4)]
        (folder / f"{number:03d}.txt").write_text(" ".join(text) + ".\n")
    return str(folder / "*.txt")


def reference_losses(weights, n_head, tokens):
    """Cross entropy at each position but the last of one window (T,), written out in float64, one head at a time."""
    weights = {name: value.double() for name, value in weights.items()}

    def norm(x, weight):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    def turn(x):  # pairs (i, i + dims / 2) of the first half of the head are complex numbers
        dims = x.shape[-1] // 2
        pairs = torch.complex(x[:, :dims // 2], x[:, dims // 2:dims])
        exponents = torch.arange(0, dims, 2, dtype=torch.float64) / dims
        angles = torch.arange(len(x), dtype=torch.float64)[:, None] * 10_000.0 ** -exponents
        turned = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((turned.real, turned.imag, x[:, dims:]), dim=-1)

    x = weights["embedding.weight"][tokens]
    width = x.shape[-1] // n_head
    for number in range(sum(name.endswith("mlp_in.weight") for name in weights)):
        block = {name.removeprefix(f"blocks.{number}.").removesuffix(".weight"): value
                 for name, value in weights.items() if name.startswith(f"blocks.{number}.")}
        query, key, value = (norm(x, block["attention_norm"]) @ block["query_key_value"].T).chunk(3, dim=-1)
        heads = []
        for head in range(n_head):
            part = slice(head * width, (head + 1) * width)
            scores = turn(query[:, part]) @ turn(key[:, part]).T / math.sqrt(width)
            future = torch.ones_like(scores).triu(1).bool()
            heads.append(torch.softmax(scores.masked_fill(future, -torch.inf), -1) @ value[:, part])
        x = x + torch.cat(heads, -1) @ block["attention_out"].T
        inner = norm(x, block["mlp_norm"]) @ block["mlp_in"].T
        x = x + (inner * (1 + torch.erf(inner / math.sqrt(2))) / 2) @ block["mlp_out"].T
    logits = norm(x, weights["final_norm.weight"]) @ weights["embedding.weight"].T
    return -torch.log_softmax(logits, -1)[torch.arange(len(tokens) - 1), tokens[1:]]
