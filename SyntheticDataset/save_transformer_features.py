"""Save the hidden states of trained transformers at every visible length (paper section 4.4).

    python save_transformer_features.py outputs/transformer_runs/*
    python save_transformer_features.py RUN --visible_context_length 17 50 --n_samples 20000

The hidden state is the one that the answer is read from: the last position, behind the subtask's token, after the
final norm. The samples are the same at every visible length, each subtask in as many as its frequency says, the bits
behind the visible ones "?". Writes RUN/features/RUN_visible{l}.pt, dictionaries with "features", float32 (n, width),
and what they are the features of, with the cross entropy that train_transformer.py measured and the Bayes risk, for
measure_features.py.
"""

from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from utils import Parser, choose_device, fail, load_json, load_tensors, make_directory, positive_int, save_tensors
from tasks import bayes_risk, solvable_tasks
from train_transformer import EVALUATION_BATCH, build_transformer
from transformer import TaskSampler, tokens


@torch.no_grad()
def extract_features(model, bits, tasks, visible):
    """Hidden states (n, width), float32 on the CPU, with the first `visible` bits shown."""
    return torch.cat([model.features(tokens(part, task, visible)).squeeze(1).float().cpu()
                      for part, task in zip(bits.split(EVALUATION_BATCH), tasks.split(EVALUATION_BATCH))])


def save_run(run_dir, args, device):
    """Write the features of one run. Exits with code 2 if it has not finished or a length was not measured."""
    description = load_json(run_dir / "args.json", "the arguments of the run")
    result = load_json(run_dir / "final.json", "the result of the run (has it finished?)")
    arguments, pairs = description["arguments"], description["data"]["task_definition"]
    model = build_transformer(arguments, len(pairs)).to(device)
    model.load_state_dict(load_tensors(run_dir / "last.pt", "the weights", device))
    sampler = TaskSampler(pairs, arguments["context_bits"], device)
    sampler.reseed(arguments["seed"], 2)
    bits, tasks = sampler.draw(args.n_samples)[0], sampler.draw_tasks(args.n_samples)
    measured = dict(zip(result["visible_context_length"], result["cross_entropy"]))
    folder = make_directory(run_dir / "features")
    for length in tqdm(args.visible_context_length or measured, desc=run_dir.name, unit="length"):
        if length not in measured:
            fail(f"--visible_context_length {length}: {run_dir} was measured from {min(measured)} to {max(measured)}")
        path = folder / f"{run_dir.name}_visible{length}.pt"
        if path.exists() and not args.overwrite and path.stat().st_mtime > (run_dir / "last.pt").stat().st_mtime:
            if len(load_tensors(path, "the features")["features"]) == args.n_samples:
                continue
        save_tensors(path, {
            "features": extract_features(model, bits, tasks, length), "visible_context_length": length,
            "seed": arguments["seed"], "n_visible_tasks": sum(solvable_tasks(pairs, length)),
            "cross_entropy": measured[length], "bayes_risk": bayes_risk(pairs, length)})


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", help="directories of finished runs of train_transformer.py")
    parser.add_argument("--visible_context_length", type=positive_int, nargs="+", help="(default: all measured ones)")
    parser.add_argument("--n_samples", type=positive_int, default=10_000, help="samples at each visible length")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace what is there")
    args = parser.parse_args()
    device = choose_device(args.device)
    for run in args.runs:
        save_run(Path(run), args, device)


if __name__ == "__main__":
    main()
