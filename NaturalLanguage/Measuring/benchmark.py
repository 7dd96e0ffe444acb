"""Time and weigh the measuring against the plain ways, in one run: print and save the ratios.

    python benchmark.py --out outputs/benchmark.json

scoring   losses and hidden states of chunks by scorer.py in one pass that sends the last position alone through the
          output layer, against two passes of the plain way: the logits of all positions, of which the last ones give
          the losses, and then all hidden states (and logits again), of which the last are kept. A random Llama, 8
          chunks at once in the plain way, each way in a process of its own, whose peak memory is compared.
kde       the entropies of entropies.py against scipy.stats.gaussian_kde.
memory    time and peak memory of the same entropies at the size of an 8B model's hidden states.
Both ways must agree on the result. Seconds are medians over --rounds, in which the ways take turns.
"""

from utils import Parser, choose_device, describe_environment, fail, positive_int, progress, run_main

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from entropies import kde_entropies
from files import make_directory, save_json
from scorer import Scorer
from spectra import decompose

PLAIN_BATCH = 8  # chunks at once, as published


def build_model(args, device):
    """A random Llama of the sizes given, the same in every process."""
    from transformers import AutoModelForCausalLM, LlamaConfig
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(LlamaConfig(
        vocab_size=args.vocab_size, hidden_size=args.width, intermediate_size=4 * args.width,
        num_hidden_layers=args.layers, num_attention_heads=max(args.width // 64, 1),
        max_position_embeddings=args.context_length, tie_word_embeddings=True)).to(device).eval()


@torch.inference_mode()
def score_plainly(model, tokens):
    """Losses (n,) and last hidden states (n, width) by two passes with logits for every position."""
    losses, states = [], []
    for batch in tokens.split(PLAIN_BATCH):
        logits = model(batch[:, :-1]).logits.float()
        losses.append(torch.nn.functional.cross_entropy(logits[:, -1], batch[:, -1], reduction="none"))
    for batch in tokens.split(PLAIN_BATCH):
        states.append(model(batch[:, :-1], output_hidden_states=True).hidden_states[-1][:, -1])
    return torch.cat(losses).double().cpu(), torch.cat(states).float().cpu()


def peak_gigabytes(device):
    """Most memory held so far: allocations on the device if it is a GPU, else the memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def score_once(args):
    """One process of the comparison: print its seconds and peak memory as JSON, save its results."""
    device = choose_device(args.device)
    model = build_model(args, device)
    tokens = torch.randint(args.vocab_size, (args.chunks, args.context_length + 1),
                           generator=torch.Generator().manual_seed(1))
    scorer = Scorer(model) if args.way == "ours" else None
    started = time.perf_counter()
    losses, states = scorer.score(tokens) if scorer else score_plainly(model, tokens.to(device))
    seconds = time.perf_counter() - started
    torch.save({"losses": losses, "states": states}, args.results)
    print(json.dumps({"seconds": seconds, "peak_gigabytes": peak_gigabytes(device)}))


def weigh_kde(args):
    """The process of the memory's figure: print seconds and peak memory as JSON."""
    device = choose_device(args.device)
    features = torch.randn(args.large_n, args.large_width, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    kde_entropies(features, decompose(features, "float32", device))
    print(json.dumps({"n": args.large_n, "width": args.large_width, "seconds": time.perf_counter() - started,
                      "peak_gigabytes": peak_gigabytes(device)}))


def run_way(args, way, *flags):
    """Start this script for one way; returns what it printed last, a JSON."""
    names = ("vocab_size", "width", "layers", "context_length", "chunks", "large_n", "large_width", "device")
    done = subprocess.run([sys.executable, __file__, *(f"--{name}={getattr(args, name)}" for name in names),
                           f"--way={way}", *flags], capture_output=True, text=True)
    if done.returncode:
        fail(f"the way {way} failed: {done.stderr[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_scoring(args):
    """Seconds and gigabytes of both ways, and their ratios."""
    found = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in progress(range(args.rounds), desc="scoring", unit="round"):
            results = {}
            for way in found:
                path = Path(folder) / f"{way}.pt"
                found[way].append(run_way(args, way, f"--results={path}"))
                results[way] = torch.load(path, weights_only=True)
            for name in ("losses", "states"):
                torch.testing.assert_close(results["ours"][name], results["plain"][name], rtol=1e-3, atol=1e-3)
    seconds, peaks = ({way: statistics.median(entry[name] for entry in entries) for way, entries in found.items()}
                      for name in ("seconds", "peak_gigabytes"))
    return {"chunks": args.chunks, "context_length": args.context_length, "vocab_size": args.vocab_size,
            "layers": args.layers, "width": args.width, "seconds": seconds, "peak_gigabytes": peaks,
            "times_faster": seconds["plain"] / seconds["ours"], "memory_share": peaks["ours"] / peaks["plain"]}


def compare_kde(n, width, rounds):
    """Seconds of both ways for (n, width) features, and their ratio."""
    from scipy.stats import gaussian_kde
    features = torch.randn(n, width, generator=torch.Generator().manual_seed(0)).double()
    seconds = {"ours": [], "scipy": []}
    for _ in progress(range(rounds), desc=f"KDE {n} x {width}", unit="round"):
        started = time.perf_counter()
        ours = kde_entropies(features, decompose(features, "float64"))["kde_entropy"]
        seconds["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        points = features.T.numpy()
        scipys = -gaussian_kde(points).logpdf(points).mean()
        seconds["scipy"].append(time.perf_counter() - started)
        if abs(ours / scipys - 1) > 1e-9:
            fail(f"the entropies differ: ours {ours}, scipy's {scipys}")
    seconds = {way: statistics.median(values) for way, values in seconds.items()}
    return {"n": n, "width": width, "seconds": seconds, "times_faster": seconds["scipy"] / seconds["ours"]}


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--layers", type=positive_int, default=4, help="of the model")
    add("--width", type=positive_int, default=256, help="of the model")
    add("--vocab_size", type=positive_int, default=128_256, help="of the model")
    add("--context_length", type=positive_int, default=512, help="visible tokens")
    add("--chunks", type=positive_int, default=32, help="chunks to score")
    add("--kde_n", type=positive_int, default=10_000, help="samples for the KDE")
    add("--kde_width", type=positive_int, default=1024, help="width for the KDE")
    add("--large_n", type=positive_int, default=10_000, help="samples for the memory of the KDE")
    add("--large_width", type=positive_int, default=4096, help="width for the memory of the KDE")
    add("--rounds", type=positive_int, default=3, help="rounds of the scoring; the KDE takes one")
    add("--device", default="cpu", help="of the scoring: cpu, cuda, ...")
    add("--out", default="outputs/benchmark.json", help="file for the results")
    add("--way", choices=("ours", "plain", "kde"), help="run one way in this process (used by the script itself)")
    add("--results", help="with --way: file for its losses and states")
    args = parser.parse_args()
    if args.way:
        return weigh_kde(args) if args.way == "kde" else score_once(args)
    make_directory(Path(args.out).parent)
    results = {"scoring": compare_scoring(args), "kde": compare_kde(args.kde_n, args.kde_width, 1),
               "memory": run_way(args, "kde"),
               "environment": describe_environment(choose_device(args.device))}
    save_json(args.out, results)
    scoring, kde, memory = (results[name] for name in ("scoring", "kde", "memory"))
    print(f"scoring: {scoring['times_faster']:.2f} times faster, {scoring['memory_share']:.2f} of the memory; KDE: "
          f"{kde['times_faster']:.1f} times faster, {memory['peak_gigabytes']:.2f} GB -> {args.out}")


if __name__ == "__main__":
    run_main(main)
