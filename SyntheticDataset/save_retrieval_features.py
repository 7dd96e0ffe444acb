"""Save the hidden states of trained retrieval models at every visible length, for one weighting by position.

    python save_retrieval_features.py outputs/retrieval/runs/retrieval_train4000_seed* --gamma 8

The hidden state is the one that the answer is read from: at the query, after the final norm. The samples are the same
at every visible length; the gold pair is at distance x from the query with probability proportional to
(1 - x / n_pairs)^gamma, each distance as often as that says, to within one. Writes
RUN/features/RUN_gamma{gamma}_visible{l}.pt, dictionaries with "features", float32 (n, width), and what they are the
features of, with the mean cross entropy (nats) of these samples, for measure_features.py: the entropy of the truncated
samples (paper Figs. 3 and 4).
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from files import current, identity, load_tensors, make_directory, save_tensors
from retrieval import PARTS, build_model, draw_samples, features_name, position_weights
from run import load_request
from utils import Parser, choose_device, fail, non_negative_float, positive_int, progress, run_main

BATCH = 500  # samples whose states exist at the same time


def draw_distances(seed, n, n_pairs, gamma):
    """Gold distances int64 (n,) by systematic sampling: n points at equal distances, shifted by one random number."""
    generator = np.random.default_rng([seed, PARTS["features"]])
    points = (generator.permutation(n) + generator.random()) / n
    thresholds = position_weights(n_pairs, gamma).cumsum(0)[:-1]
    return torch.searchsorted(thresholds, torch.from_numpy(points), right=True)


@torch.no_grad()
def extract_features(model, keys, values, distances, visible):
    """Hidden states (n, width), float32 on the CPU, with the last `visible` pairs shown, and their cross entropy."""
    rows, gold = torch.arange(len(keys)), keys.shape[1] - 1 - distances
    queries, answers = keys[rows, gold][:, None], values[rows, gold]
    device = model.head.weight.device
    features, loss = [], 0.0
    for part in rows.split(BATCH):
        states = model.features(keys[part, -visible:].to(device), values[part, -visible:].to(device),
                                queries[part].to(device))[:, 0]
        loss += F.cross_entropy(model.head(states), answers[part].to(device), reduction="sum").item()
        features.append(states.float().cpu())
    return torch.cat(features), loss / len(keys)


def save_run(run_dir, args, device):
    """Write the features of one run. Exits with code 2 if it has not finished or a length cannot be shown."""
    request = load_request(run_dir)
    arguments, n_pairs = request["arguments"], request["arguments"]["n_pairs"]
    if not (run_dir / "final.json").exists():
        fail(f"{run_dir} has not finished; start train_retrieval.py with its arguments again")
    lengths = args.visible_context_length or arguments["visible_lengths"]
    if max(lengths) > n_pairs:
        fail(f"--visible_context_length {max(lengths)}: {run_dir} has {n_pairs} pairs")
    model = build_model(arguments).to(device)
    model.load_state_dict(load_tensors(run_dir / "last.pt", "the weights", device))
    keys, values, _ = draw_samples(arguments["seed"], "features", args.n_samples, n_pairs, arguments["n_keys"],
                                   arguments["n_values"])
    distances = draw_distances(arguments["seed"], args.n_samples, n_pairs, args.gamma)
    request = {"weights": identity(run_dir / "last.pt"), "n": args.n_samples, "gamma": args.gamma, "run": request}
    folder = make_directory(run_dir / "features")
    for length in progress(lengths, desc=run_dir.name, unit="lengths", leave=False):
        name = features_name(arguments["train_dataset_size"], arguments["seed"], args.gamma, length)
        wanted = {**request, "visible_context_length": length}
        if current(folder / f"{name}.pt", wanted):
            continue
        features, loss = extract_features(model, keys, values, distances, length)
        save_tensors(folder / f"{name}.pt", {
            "features": features, "dtype": "float32", "seed": arguments["seed"], "context_length": n_pairs,
            "visible_context_length": length, "cross_entropy": loss, "request": wanted})


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", help="directories of finished runs of train_retrieval.py")
    parser.add_argument("--gamma", type=non_negative_float, default=8.0, help="the weighting by position")
    parser.add_argument("--visible_context_length", type=positive_int, nargs="+",
                        help="visible lengths (default: those that the run measured)")
    parser.add_argument("--n_samples", type=positive_int, default=2000, help="samples at each visible length")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    args = parser.parse_args()
    device = choose_device(args.device)
    for run in args.runs:
        save_run(Path(run), args, device)


if __name__ == "__main__":
    run_main(main)
