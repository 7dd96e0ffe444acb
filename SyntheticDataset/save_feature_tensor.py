"""Save the hidden states of trained models (Fig. 18 of the paper's first version; Figs. 3, 4, 6 and 7).

    python save_feature_tensor.py --model_state_dict_position outputs/runs/bi_mlp_*
    python save_feature_tensor.py --model_state_dict_position RUN --visible_context_length 27 --save_position here.pt
    python save_feature_tensor.py --model_state_dict_position outputs/transformer_runs/transformer_*
    python save_feature_tensor.py --model_state_dict_position outputs/retrieval/runs/retrieval_* --gamma 8

Writes dictionaries with "features", float32 (n, width), the "dtype" in which they were computed, what they are the
features of, and the "request" that made them; what is there already for the same request is kept.

Of train_model.py's runs: on validation samples, features.pt beside the weights, or with several visible lengths
features/TAG_visible{l}.pt. The context feature of a Bi-MLP (80 wide), the middle layer of an MLP (200 wide), the state
of a transformer that the answer is read from. --visible_context_length hides the bits behind it from the trained model:
they are 0.5. Widths and context length are those of the run; give their flags only for weights without an args.json.

Of train_transformer.py's runs: RUN/features/TAG_visible{l}.pt at every length that was measured, of --n_samples samples
drawn from the run's seed, the same at every length, each subtask in as many as its frequency says; the bits behind the
visible ones are "?". The state is the one that the answer is read from, after the final norm.

Of train_retrieval.py's runs: RUN/features/TAG_gamma{gamma}_visible{l}.pt at every length that was measured, of
--n_samples samples drawn from the run's seed, the same at every length; the gold pair is at distance x from the query
with probability proportional to (1 - x / n_pairs)^gamma, each distance as often as that says. The state at the query,
after the final norm; "cross_entropy" is the mean over these samples (nats).
"""

from utils import Parser, choose_device, fail, non_negative_float, positive_int, progress, run_main

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from files import current, difference, identity, load_tensors, make_directory, save_tensors
from mlp import build_model
from retrieval import build_retrieval_model, draw_distances, draw_samples, features_name
from run import load_request
from samples import load_samples
from settings import MODELS, WIDTHS
from tasks import check_task_definition, solvable_tasks
from transformer import EVALUATION_CONTEXTS, TaskSampler, build_transformer, tokens, visible_lengths

SETTINGS = ("model", "context_length", *WIDTHS, "output_size")
RETRIEVAL_BATCH = 500  # samples of train_retrieval.py's runs whose states exist at the same time


class Extraction(NamedTuple):
    """What is to be saved of a model, before any hidden state is computed."""

    request: dict  # what makes it, but for the visible length
    about: dict  # "seed" and "context_length", which are saved too
    paths: dict  # {visible length: file}
    prepare: Callable  # () -> function of a visible length: {"features": float32 (n, width), what else depends on it}


@torch.no_grad()
def features_of_samples(model, samples, visible, batch_size):
    """Hidden states (n, width), float32 on the CPU, with the bits behind the visible ones replaced by 0.5."""
    features = []
    for start in range(0, len(samples.bits), batch_size):
        bits, control, _ = samples.batch(slice(start, start + batch_size))
        bits[:, visible:] = 0.5
        features.append(model.context_features(bits, control).cpu())
    return torch.cat(features)


@torch.no_grad()
def features_of_contexts(model, bits, active, visible):
    """Hidden states (n, width), float32 on the CPU, with the first `visible` bits shown."""
    return torch.cat([model.features(tokens(part, task, visible)).squeeze(1).float().cpu()
                      for part, task in zip(bits.split(EVALUATION_CONTEXTS), active.split(EVALUATION_CONTEXTS))])


@torch.no_grad()
def features_of_queries(model, keys, values, distances, visible):
    """Hidden states (n, width), float32 on the CPU, with the last `visible` pairs shown, and their cross entropy."""
    rows, gold = torch.arange(len(keys)), keys.shape[1] - 1 - distances
    queries, answers = keys[rows, gold][:, None], values[rows, gold]
    device = model.head.weight.device
    features, loss = [], 0.0
    for part in rows.split(RETRIEVAL_BATCH):
        states = model.features(keys[part, -visible:].to(device), values[part, -visible:].to(device),
                                queries[part].to(device))[:, 0]
        loss += F.cross_entropy(model.head(states), answers[part].to(device), reduction="sum").item()
        features.append(states.float().cpu())
    return torch.cat(features), loss / len(keys)


def load_weights(model, path, device):
    """Load weights into a model; exits with code 2 if they are those of another one."""
    try:
        model.load_state_dict(load_tensors(path, "the weights", device))
    except (RuntimeError, TypeError, AttributeError):
        fail(f"{path} does not fit the model that its run or the flags describe; give the flags it was trained with")
    return model.to(device)


def chosen_lengths(args, allowed, default):
    """The visible lengths asked for, of a range of allowed ones; exits with code 2 at another one."""
    lengths = [allowed[-1] if length == -1 else length for length in args.visible_context_length or default]
    for length in lengths:
        if length not in allowed:
            fail(f"--visible_context_length {length} is not within {allowed[0]} and the model's context length of "
                 f"{allowed[-1]}; give -1 for all of it")
    return lengths


def by_length(run_dir, lengths):
    """Where the features of a run at its visible lengths go: {length: path}."""
    return {length: run_dir / "features" / f"{run_dir.name}_visible{length}.pt" for length in lengths}


def read_settings(weights_path, args):
    """Widths and context length of a run from the args.json beside its weights, flags taking precedence; its seed, and
    what describes the samples that it was trained on. These two are None without an args.json."""
    data = None
    if weights_path.with_name("args.json").exists():
        request = load_request(weights_path.parent)
        run, data = request["arguments"], request["data"]
    else:
        run = {**{name: width for name, (width, _) in WIDTHS.items()}, "output_size": 1, "seed": None}
    given = {name: getattr(args, name) for name in SETTINGS}
    settings = {name: run.get(name) if value is None else value for name, value in given.items()}
    missing = [f"--{name}" for name, value in settings.items() if value is None]
    if missing:
        fail(f"there is no args.json beside {weights_path}; give {' and '.join(missing)}")
    return settings, run["seed"], data


def of_train_model(weights_path, args, device):
    """The Extraction of the network in a file of weights, on the validation samples."""
    settings, seed, data = read_settings(weights_path, args)
    context_length = settings["context_length"]
    lengths = chosen_lengths(args, range(context_length + 1), [context_length])
    samples = load_samples(args.validation_data_position, args.valid_dataset_size, context_length, device)
    if data is not None and (other := difference(data, samples.source)):
        fail(f"{weights_path} was trained on samples with {other} as in {args.validation_data_position}; give "
             "--validation_data_position the file that was made with its training samples")

    def prepare():
        model = load_weights(build_model(settings, context_length, len(samples.tasks)), weights_path, device)
        return lambda length: {"features": features_of_samples(model, samples, length, args.batch_size),
                               "n_visible_tasks": sum(solvable_tasks(samples.tasks, length))}

    request = {"weights": identity(weights_path), "settings": settings, "seed": seed,
               "samples": identity(args.validation_data_position), "n": len(samples.bits)}
    paths = (by_length(weights_path.parent, lengths) if len(lengths) > 1
             else {lengths[0]: weights_path.with_name("features.pt")})
    return Extraction(request, {"seed": seed, "context_length": context_length}, paths, prepare)


def of_train_transformer(weights_path, args, device):
    """The Extraction of a run of train_transformer.py."""
    run = load_request(weights_path.parent)
    arguments, tasks = run["arguments"], check_task_definition(run["data"]["task_definition"])
    seed, context_bits = arguments["seed"], arguments["context_bits"]
    measured = visible_lengths(tasks, context_bits)

    def prepare():
        model = load_weights(build_transformer(arguments, len(tasks)), weights_path, device)
        sampler = TaskSampler(tasks, context_bits, device)
        sampler.reseed(seed, 2)
        bits, active = sampler.draw(args.n_samples)[0], sampler.draw_tasks(args.n_samples)
        return lambda length: {"features": features_of_contexts(model, bits, active, length),
                               "n_visible_tasks": sum(solvable_tasks(tasks, length))}

    return Extraction({"weights": identity(weights_path), "n": args.n_samples, "run": run},
                      {"seed": seed, "context_length": context_bits},
                      by_length(weights_path.parent, chosen_lengths(args, measured, measured)), prepare)


def of_train_retrieval(weights_path, args, device):
    """The Extraction of a run of train_retrieval.py."""
    run = load_request(weights_path.parent)
    arguments, seed, n_pairs = run["arguments"], run["arguments"]["seed"], run["arguments"]["n_pairs"]
    lengths = chosen_lengths(args, range(1, n_pairs + 1), arguments["visible_lengths"])

    def prepare():
        model = load_weights(build_retrieval_model(arguments), weights_path, device)
        keys, values, _ = draw_samples(seed, "features", args.n_samples, n_pairs, arguments["n_keys"],
                                       arguments["n_values"])
        distances = draw_distances(seed, args.n_samples, n_pairs, args.gamma)
        return lambda length: dict(zip(("features", "cross_entropy"),
                                       features_of_queries(model, keys, values, distances, length)))

    paths = {length: weights_path.parent / "features"
             / f"{features_name(arguments['train_dataset_size'], seed, args.gamma, length)}.pt" for length in lengths}
    return Extraction({"weights": identity(weights_path), "n": args.n_samples, "gamma": args.gamma, "run": run},
                      {"seed": seed, "context_length": n_pairs}, paths, prepare)


EXTRACTIONS = {"train_model": of_train_model, "train_transformer": of_train_transformer,
               "train_retrieval": of_train_retrieval}


def save(position, args, device):
    """Write what is not there yet of the features of a run directory or of a file of weights."""
    directory = position if position.is_dir() else position.parent
    trainer = load_request(directory)["trainer"] if (directory / "args.json").exists() else "train_model"
    weights = directory / ("best.pt" if trainer == "train_model" else "last.pt") if position.is_dir() else position
    extraction, features_at = EXTRACTIONS[trainer](weights, args, device), None
    if args.save_position and len(extraction.paths) > 1:
        fail("--save_position is one file; give one --visible_context_length with it")
    for length, path in progress(extraction.paths.items(), desc=directory.name, unit="lengths", leave=False):
        path = Path(args.save_position or path)
        request = {**extraction.request, "visible_context_length": length}
        if not current(path, request):
            features_at = features_at or extraction.prepare()
            make_directory(path.parent)
            save_tensors(path, {**features_at(length), "dtype": "float32", **extraction.about,
                                "visible_context_length": length, "request": request})


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--model_state_dict_position", required=True, nargs="+",
                        help="run directories (of train_model.py the best weights are taken), or files of weights")
    parser.add_argument("--save_position", help="file to write (default: beside the weights, see above)")
    parser.add_argument("--visible_context_length", type=int, nargs="+",
                        help="bits or pairs the model is shown, -1 for all (default: of train_model.py's runs all, "
                             "of the others every measured length)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    samples = parser.add_argument_group("samples")
    samples.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    samples.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    samples.add_argument("--n_samples", type=positive_int, default=10_000,
                         help="of the other trainers' runs: samples at each visible length")
    samples.add_argument("--gamma", type=non_negative_float, default=8.0,
                         help="of train_retrieval.py's runs: the weighting by position")
    samples.add_argument("--batch_size", type=positive_int, default=10_000, help="samples at a time")
    network = parser.add_argument_group("network, for weights without an args.json beside them (default: the run's)")
    network.add_argument("--model", choices=MODELS, help="which network")
    network.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    network.add_argument("--context_length", type=positive_int, help="bits that it was trained on")
    for name, (_, text) in WIDTHS.items():
        network.add_argument(f"--{name}", type=positive_int, help=text)
    network.add_argument("--output_size", type=positive_int, help="logits per sample")
    args = parser.parse_args()
    if args.save_position and len(args.model_state_dict_position) > 1:
        fail("--save_position is one file; leave it out to write one beside the weights of each run")
    return args


def main():
    args = parse_args()
    device = choose_device(args.device)
    for position in progress(args.model_state_dict_position, unit="runs", desc="features"):
        save(Path(position), args, device)


if __name__ == "__main__":
    run_main(main)
