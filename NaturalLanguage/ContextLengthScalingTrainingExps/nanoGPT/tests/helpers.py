"""The folder under test, small settings, how its scripts are run, and a reference implementation of the model."""

import contextlib
import io
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[1]
TINY = ("--n_layer", 2, "--n_head", 2, "--n_embd", 16, "--tokens_per_step", 256, "--eval_tokens", 512,
        "--full_context_targets", 40, "--eval_interval", 5, "--learning_rate", 3e-3, "--warmup_iters", 10,
        "--device", "cpu", "--threads", 1)
TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gigabytes", "mfu")


def run_script(script, *arguments, cwd="."):
    """Run a script of the folder inside this process: a CompletedProcess with its exit code, stdout and stderr."""
    code, former = 0, (sys.argv, os.getcwd())
    sys.argv = [str(FOLDER / script), *map(str, arguments)]
    os.chdir(cwd)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            os.chdir(former[1])
    command, sys.argv = sys.argv, former[0]
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def start_script(script, *arguments, cwd, **options):
    """Start a script as a process of its own, as users do."""
    return subprocess.Popen([sys.executable, str(FOLDER / script), *map(str, arguments)], cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def bash(*command, cwd=FOLDER, **variables):
    """Run a launcher with this python and these variables: a CompletedProcess."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    return subprocess.run([os.environ.get("BASH32", "bash"), *map(str, command)], cwd=cwd, capture_output=True,
                          text=True, env={**environment, "PYTHON": sys.executable, **variables}, timeout=500)


def training_flags(bins, out_dir, *more, context_length=32, train_tokens=6000):
    """Flags of a tiny run of train.py."""
    return ("--context_length", context_length, "--train_bin", bins, "--train_tokens", train_tokens, "--out_dir",
            out_dir, *TINY, *more)


def make_texts(folder, n_files=60, n_words=400):
    """Text files of words that follow each other by chance, the same on every machine; returns their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.RandomState(7)  # the old generator, whose numbers never change
    words = ["".join("aeioubdkmnrst"[letter] for letter in generator.randint(13, size=generator.randint(2, 7)))
             for _ in range(80)]
    follows = generator.randint(80, size=(80, 4))
    for number in range(n_files):
        word, text = number % 80, []
        for _ in range(n_words):
            text.append(words[word])
            word = follows[word, generator.randint(4)]
        (folder / f"{number:03d}.txt").write_text(" ".join(text) + ".\n")
    return str(folder / "*.txt")


def small_model(moved=False, **settings):
    """A GPT of 97 tokens, 3 blocks, 4 heads and width 48, always the same; moved: no parameter at its initial value."""
    from model import GPT
    torch.manual_seed(3)
    small = GPT(97, 3, 4, 48, **settings)
    with torch.no_grad():
        for parameter in small.parameters() if moved else ():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return small


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
    logits = norm(x, weights["final_norm.weight"]) @ weights.get("output.weight", weights["embedding.weight"]).T
    return -torch.log_softmax(logits, -1)[torch.arange(len(tokens) - 1), tokens[1:]]
