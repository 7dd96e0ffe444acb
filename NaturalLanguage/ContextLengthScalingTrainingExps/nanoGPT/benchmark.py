"""Time and weigh our trainer against a plain loop in nanoGPT's style, in one run.

    python benchmark.py                                       # the paper's model on the CPU, minutes
    python benchmark.py --device cuda --context_lengths 1024 5120 15360 --tokens 61440 --steps 10 --ours_only

The plain loop stacks slices of the memory map row by row, makes the logits of all positions at once, and lets a
non-fused AdamW update the same model. Both take the same tokens a step, as one forward pass, in processes of their own
that alternate; a speed is the median over the rounds. Writes OUT: tokens a second, peak memory (of the process; on a
GPU, of its allocations), their ratios, and on a GPU the share of the chip's dense bf16 peak (MFU). Tokens are random.
"""

from utils import Parser, choose_device, describe_environment, fail, positive_int, progress, run_main

import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from files import make_directory, save_json
from machine import can_compile, keep_freed_memory, peak_memory, peak_tflops
from model import GPT, summed_cross_entropy
from token_files import TrainingWindows


def our_step(model, optimizer, windows, step, args, precision, hidden):
    """A step of train.py, on one process."""
    batch = args.tokens // args.context_length
    inputs, targets = (part.to(args.device) for part in windows.batch(range(step * batch, (step + 1) * batch)))
    with precision:
        loss = summed_cross_entropy(hidden(inputs).flatten(0, 1), model.embedding.weight, targets.flatten(),
                                    args.compile)
    (loss / args.tokens).backward()
    finish(model, optimizer)


def plain_step(model, optimizer, tokens, step, args, precision, hidden):
    """A step of a plain loop: slices stacked row by row, logits of all positions, cross entropy of all of them."""
    length = args.context_length
    starts = np.random.default_rng(step).integers(len(tokens) - length, size=args.tokens // length)
    inputs = torch.stack([torch.from_numpy(tokens[i:i + length].astype(np.int64)) for i in starts])
    targets = torch.stack([torch.from_numpy(tokens[i + 1:i + 1 + length].astype(np.int64)) for i in starts])
    with precision:
        logits = hidden(inputs.to(args.device)) @ model.embedding.weight.T
        loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.to(args.device).view(-1))
    loss.backward()
    finish(model, optimizer)


def finish(model, optimizer):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(way, args):
    """Tokens a second and peak memory (bytes) of one way at args.context_length, in this process."""
    device = torch.device(args.device)
    torch.manual_seed(0)
    with tempfile.NamedTemporaryFile() as file:
        np.random.default_rng(0).integers(args.vocab_size, size=4 * args.tokens).astype(np.uint16).tofile(file.name)
        tokens = np.memmap(file.name, np.uint16, "r")
        model = GPT(args.vocab_size, args.n_layer, args.n_head, args.n_embd).to(device)
        ours = way == "ours"
        if ours and device.type == "cpu":
            keep_freed_memory()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=ours, foreach=False if not ours else None)
        precision = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        hidden = torch.compile(model.hidden, dynamic=False) if args.compile else model.hidden
        step, source = (our_step, TrainingWindows(tokens, args.context_length, 0)) if ours else (plain_step, tokens)
        for number in range(args.steps + 1):  # the first one warms up
            if number == 1:
                wait(device)
                began = time.perf_counter()
            step(model, optimizer, source, number, args, precision, hidden)
        wait(device)
        seconds = time.perf_counter() - began
    return {"tokens_per_second": args.steps * args.tokens / seconds, "peak_bytes": peak_memory(device),
            "flops_per_token": model.flops_per_token(args.context_length)}


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def compare(args, length):
    """Both ways at one context length, each `rounds` times in a process of its own: the entry of the results."""
    ways = ("ours",) if args.ours_only else ("ours", "plain")
    found = {way: [] for way in ways}
    for _ in progress(range(args.rounds), desc=f"context {length}", unit="round"):
        for way in ways:
            command = [sys.executable, __file__, "--way", way, "--context_length", str(length),
                       "--compile" if args.compile else "--no-compile"]
            for name in ("device", "tokens", "steps", "vocab_size", "n_layer", "n_head", "n_embd"):
                command += [f"--{name}", str(getattr(args, name))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                fail(f"measuring {way} at a context length of {length} failed; see the lines above")
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    entry = {"context_length": length}
    for way in ways:
        entry[way] = {"tokens_per_second": [round(run["tokens_per_second"], 1) for run in found[way]],
                      "peak_gigabytes": round(max(run["peak_bytes"] for run in found[way]) / 1e9, 3)}
    speed = {way: statistics.median(entry[way]["tokens_per_second"]) for way in ways}
    if not args.ours_only:
        entry["times_faster"] = speed["ours"] / speed["plain"]
        entry["memory_share"] = entry["ours"]["peak_gigabytes"] / entry["plain"]["peak_gigabytes"]
    peak = peak_tflops(torch.device(args.device))
    entry["mfu"] = speed["ours"] * found["ours"][0]["flops_per_token"] / (peak * 1e12) if peak else None
    return entry


def main():
    parser = Parser(__doc__)
    parser.add_argument("--context_lengths", type=positive_int, nargs="+", default=[256, 1024], help="tokens")
    parser.add_argument("--tokens", type=positive_int, default=8192, help="tokens a step")
    parser.add_argument("--steps", type=positive_int, default=1, help="steps timed in a round")
    parser.add_argument("--rounds", type=positive_int, default=2, help="rounds")
    parser.add_argument("--vocab_size", type=positive_int, default=50_304, help="tokens of the vocabulary")
    parser.add_argument("--n_layer", type=positive_int, default=6, help="blocks")
    parser.add_argument("--n_head", type=positive_int, default=12, help="attention heads")
    parser.add_argument("--n_embd", type=positive_int, default=768, help="width")
    parser.add_argument("--compile", action=BooleanOptionalAction,
                        help="compile the model, both ways, and our loss (default: as train.py does)")
    parser.add_argument("--ours_only", action=BooleanOptionalAction, default=False, help="leave out the plain loop")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--out", default="outputs/benchmark.json", help="file to write")
    parser.add_argument("--way", choices=("ours", "plain"), help="measure one way in this process and print it")
    parser.add_argument("--context_length", type=positive_int, help="of --way")
    args = parser.parse_args()
    device = choose_device(args.device)
    args.device = str(device)
    args.compile = can_compile(device) if args.compile is None else args.compile
    if args.way:
        print(json.dumps(measure(args.way, args)))
        return
    for length in args.context_lengths:
        if args.tokens % length:
            parser.error(f"--tokens {args.tokens} is not a multiple of the context length {length}")
    results = {"environment": describe_environment(device), "arguments": vars(args),
               "contexts": [compare(args, length) for length in args.context_lengths]}
    make_directory(Path(args.out).parent)
    save_json(args.out, results)
    for entry in results["contexts"]:
        speed = statistics.median(entry["ours"]["tokens_per_second"])
        line = f"context {entry['context_length']}: {speed:,.0f} tokens/s"
        if "times_faster" in entry:
            line += f", {entry['times_faster']:.2f} times the plain loop, {entry['memory_share']:.2f} of its memory"
        print(line + (f", MFU {100 * entry['mfu']:.1f}%" if entry["mfu"] else ""))
    print(f"-> {args.out}")


if __name__ == "__main__":
    run_main(main)
