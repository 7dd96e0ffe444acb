"""Compare the scripts here with the plain ways of doing the same, in one run: print and save the ratios.

    python benchmark.py --out outputs/benchmark.json
    python benchmark.py --device cuda

training     an epoch of the MLP: bytes on the device, batches by indexing (train_model.py) against a DataLoader that
             hands out one sample at a time; the same model, data, batch size and number of threads
generation   generate_data.py's way against a Python loop with a set of tuples
script       the whole of generate_data.py at the paper's size, with its peak memory and its files
kde          entropy.py's kde_entropy against scipy.stats.gaussian_kde
transformer  a training step of train_transformer.py, each context asked every subtask, against one subtask a context
Each figure is the median over --repeats of the two ways in turn. The two KDE entropies must be equal; of the others it
is checked that there are as many samples, and that the losses, of other batches, are of the same size.
"""

from utils import Parser, choose_device, describe_environment, positive_int, progress, run_main

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch.utils.data import DataLoader, Dataset

from entropy import kde_entropy
from files import make_directory, save_json
from mlp import MLP
from samples import Samples, make_splits, unpack_bits
from tasks import PAPER_TASKS, load_task_definition, position_weighted_tasks
from training import epoch_order, train_step
from transformer import TaskSampler, Transformer, weighted_train_step

CONTEXT_LENGTH = 36


class OneByOne(Dataset):
    """The same samples, floats from the start: context bits, control bits and answer of one sample at a time."""

    def __init__(self, samples):
        self.bits, self.control, self.answers = samples.batch(slice(None))

    def __len__(self):
        return len(self.answers)

    def __getitem__(self, i):
        return self.bits[i], self.control[i], self.answers[i]


def train_epoch(model, optimizer, samples, batch_size, order):
    """An epoch of train_model.py."""
    return sum(train_step(model, optimizer, samples, rows) for rows in order.split(batch_size)).item()


def train_epoch_one_by_one(model, optimizer, dataset, batch_size, device):
    """The epoch as a loader of single samples makes it: a copy to the device and a loss read back for every batch."""
    loss_sum = 0.0
    for bits, control, answers in DataLoader(dataset, batch_size=batch_size, shuffle=True):
        bits, control, answers = bits.to(device), control.to(device), answers.to(device)
        loss = torch.nn.functional.binary_cross_entropy(torch.sigmoid(model(bits, control)), answers)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss_sum += loss.item() * len(answers)
    return loss_sum


def generate_one_by_one(n, context_bits, tasks):
    """n distinct bit strings and their answers, with a set of tuples."""
    rng = np.random.default_rng(114)
    seen, bits, answers = set(), [], []
    while len(bits) < n:
        row = tuple(rng.integers(0, 2, context_bits).tolist())
        if row in seen:
            continue
        seen.add(row)
        a, b = tasks[len(bits) % len(tasks)][:2]
        answers.append(row[a - 1] ^ row[b - 1] if max(a, b) <= context_bits else int(rng.integers(0, 2)))
        bits.append(row)
    return torch.tensor(bits), torch.tensor(answers)


def timed(function, device):
    """Seconds that a call takes, the device's own work included, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def compare(name, ways, repeats, device):
    """Time several ways in turn: {way: median seconds} and {way: last result}."""
    seconds, results = {way: [] for way in ways}, {}
    for _ in progress(range(repeats), desc=name, unit="rounds"):
        for way, function in ways.items():
            took, results[way] = timed(function, device)
            seconds[way].append(took)
    return {way: statistics.median(values) for way, values in seconds.items()}, results


def benchmark_training(n, batch_size, tasks, repeats, device):
    """An epoch of train_model.py, its loading alone, and one sample at a time."""
    contents = next(make_splits(n, 1, 100, tasks, seed=114))
    bits = unpack_bits(contents["packed_bits"], CONTEXT_LENGTH)
    on_cpu = Samples(bits, contents["task"], contents["answer"], tasks, {})
    samples = on_cpu._replace(**{name: getattr(on_cpu, name).to(device) for name in ("bits", "task", "answer")})
    models = {}
    for way in ("ours", "one by one"):
        torch.manual_seed(0)
        model = MLP(CONTEXT_LENGTH, len(tasks)).to(device)
        models[way] = model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=8e-4, fused=way == "ours")
    order, dataset = epoch_order(n, 0, 1, device), OneByOne(on_cpu)

    def load():
        for rows in order.split(batch_size):
            samples.batch(rows)

    train_epoch(*models["ours"], samples, batch_size, order)  # warm-up
    seconds, losses = compare("training", {
        "ours": lambda: train_epoch(*models["ours"], samples, batch_size, order),
        "loading": load,
        "one by one": lambda: train_epoch_one_by_one(*models["one by one"], dataset, batch_size, device),
    }, repeats, device)
    assert all(0 < losses[way] / n < 1 for way in models), losses
    return {"n": n, "batch_size": batch_size, "context_length": CONTEXT_LENGTH, "seconds": seconds,
            "times_faster": seconds["one by one"] / seconds["ours"],
            "loading_share": seconds["loading"] / seconds["ours"]}


def benchmark_generation(n, tasks, repeats, device):
    """make_splits against a set of tuples."""
    seconds, results = compare("generation", {
        "ours": lambda: next(make_splits(n, 1, 100, tasks, seed=114)),
        "set of tuples": lambda: generate_one_by_one(n, 100, tasks),
    }, repeats, device)
    assert len(results["ours"]["answer"]) == len(results["set of tuples"][1]) == n
    return {"n": n, "seconds": seconds, "times_faster": seconds["set of tuples"] / seconds["ours"]}


def benchmark_script(train_size):
    """Seconds, peak memory (GB) and size of the files (MB) of generate_data.py, with a fifth as many for validation."""
    script = Path(__file__).with_name("generate_data.py")
    with tempfile.TemporaryDirectory() as out_dir:
        started = time.perf_counter()
        subprocess.run([sys.executable, script, "--train_size", str(train_size), "--valid_size", str(train_size // 5),
                        "--out_dir", out_dir], check=True)
        seconds = time.perf_counter() - started
        megabytes = sum(path.stat().st_size for path in Path(out_dir).iterdir()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"train_size": train_size, "valid_size": train_size // 5, "seconds": seconds, "peak_gigabytes": peak / 1e9,
            "file_megabytes": megabytes}


def benchmark_kde(n, width, repeats, device):
    """kde_entropy of correlated features against scipy; both give the same."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
    on_device = torch.from_numpy(features).to(device)
    seconds, results = compare("kde", {
        "ours": lambda: kde_entropy(on_device)["kde_entropy"],
        "scipy": lambda: -gaussian_kde(features.T).logpdf(features.T).mean(),
    }, repeats, device)
    assert abs(results["ours"] / results["scipy"] - 1) < 1e-9, results
    return {"n": n, "width": width, "seconds": seconds, "times_faster": seconds["scipy"] / seconds["ours"]}


def benchmark_transformer(batch_size, repeats, device):
    """A step that asks each context every subtask against one that asks it one, for as many samples."""
    tasks = position_weighted_tasks(context_bits=60, first_max_bit=11, subtasks_per_bit=2, exponent=1.15, seed=114)
    torch.manual_seed(0)
    model, sampler = Transformer(60, len(tasks)).to(device), TaskSampler(tasks, 60, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    precision = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def every_subtask():
        batch = sampler.training_batch(0, 1, batch_size, max_masked=50)
        return weighted_train_step(model, optimizer, *batch, sampler.weights.float(), precision).item()

    def one_subtask():
        inputs, answers = sampler.training_batch(0, 1, batch_size * len(tasks), max_masked=50)
        asked = sampler.draw_tasks(len(inputs))
        inputs = torch.cat((inputs[:, :60], inputs[:, 60:].gather(1, asked)), dim=1)
        return weighted_train_step(model, optimizer, inputs, answers.gather(1, asked),
                                   torch.ones(1, device=device), precision).item()

    seconds, losses = compare("transformer", {
        "ours": every_subtask,
        "independent samples": one_subtask,
    }, repeats, device)
    assert abs(losses["ours"] - losses["independent samples"]) < 0.3, losses  # untrained, of different samples
    return {"samples": batch_size * len(tasks), "seconds": seconds,
            "times_faster": seconds["independent samples"] / seconds["ours"]}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--train_size", type=positive_int, default=85_000, help="samples of the epoch")
    parser.add_argument("--batch_size", type=positive_int, default=10_000, help="samples a step")
    parser.add_argument("--generation_size", type=positive_int, default=100_000, help="samples to generate")
    parser.add_argument("--script_train_size", type=positive_int, default=10_000_000,
                        help="training samples for the whole of generate_data.py")
    parser.add_argument("--kde_shapes", nargs="+", default=["4000x256", "10000x80"], metavar="NxWIDTH",
                        help="numbers of samples and their widths")
    parser.add_argument("--transformer_batch_size", type=positive_int, default=20, help="contexts of its step")
    parser.add_argument("--repeats", type=positive_int, default=5, help="rounds, of which the median is taken")
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    parser.add_argument("--task_definition", default=PAPER_TASKS,
                        help="JSON list of pairs of bit positions (default: task_definition.json beside this script)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--out", default="outputs/benchmark.json", help="file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    tasks = load_task_definition(args.task_definition)
    try:
        shapes = [tuple(map(int, shape.split("x"))) for shape in args.kde_shapes]
        (_, _), *_ = shapes
    except ValueError:
        parser.error(f"--kde_shapes {' '.join(args.kde_shapes)} are not of the form 4000x256")

    make_directory(Path(args.out).parent)
    results = {
        "environment": describe_environment(device),
        "training": benchmark_training(args.train_size, args.batch_size, tasks, args.repeats, device),
        "generation": benchmark_generation(args.generation_size, tasks, args.repeats, device),
        "script": benchmark_script(args.script_train_size),
        "kde": [benchmark_kde(n, width, args.repeats, device) for n, width in shapes],
        "transformer": benchmark_transformer(args.transformer_batch_size, args.repeats, device),
    }
    training, generation, whole = results["training"], results["generation"], results["script"]
    print(f"training: {training['times_faster']:.2f} times faster than one sample at a time, "
          f"loading is {100 * training['loading_share']:.1f}% of our epoch")
    print(f"generation: {generation['times_faster']:.0f} times faster than a set of tuples")
    print(f"generate_data.py: {whole['train_size']} + {whole['valid_size']} samples in {whole['seconds']:.0f} s, "
          f"{whole['peak_gigabytes']:.1f} GB of memory, {whole['file_megabytes']:.0f} MB of files")
    for kde in results["kde"]:
        print(f"kde: {kde['times_faster']:.1f} times faster than scipy at n = {kde['n']}, d = {kde['width']}")
    print(f"transformer: a step that asks each context every subtask is "
          f"{results['transformer']['times_faster']:.1f} times faster than one that asks it one, for as many samples")
    save_json(args.out, results)
    print(f"-> {args.out}")


if __name__ == "__main__":
    run_main(main)
