"""Save the hidden states of trained models (paper section 4, first version, Fig. 18; section 4.4, Figs. 6 and 7).

    python save_feature_tensor.py --model_state_dict_position outputs/runs/bi_mlp_*
    python save_feature_tensor.py --model_state_dict_position RUN --visible_context_length 27 --save_position here.pt
    python save_feature_tensor.py --model_state_dict_position outputs/transformer_runs/*

Writes dictionaries with "features", float32 (n, width), the "dtype" in which they were computed, what they are the
features of, and the "request" that made them; what is there already for the same request is kept.

Of train_model.py's runs: on validation samples, features.pt beside the weights, or with several visible lengths
features/TAG_visible{l}.pt. The context feature of a Bi-MLP (80 wide), the middle layer of an MLP (200 wide), the state
of a transformer that the answer is read from. --visible_context_length hides the bits behind it from the trained model:
they are 0.5. Widths and context length are those of the run; give their flags only for weights without an args.json.

Of train_transformer.py's runs: RUN/features/TAG_visible{l}.pt at every length that was measured, of --n_samples samples
drawn from the run's seed, the same at every length, each subtask in as many as its frequency says; the bits behind the
visible ones are "?". The state is the one that the answer is read from, after the final norm.
"""

from pathlib import Path

import torch

from files import current, identity, load_tensors, make_directory, save_tensors
from mlp import build_model
from run import load_request
from samples import load_samples
from tasks import check_task_definition, solvable_tasks
from training import MODELS, WIDTHS
from transformer import EVALUATION_BATCH, TaskSampler, build_transformer, tokens, visible_lengths
from utils import Parser, choose_device, fail, positive_int, progress, run_main

SETTINGS = ("model", "context_length", *WIDTHS, "output_size")


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
                      for part, task in zip(bits.split(EVALUATION_BATCH), active.split(EVALUATION_BATCH))])


def load_weights(model, path, device):
    """Load weights into a model; exits with code 2 if they are those of another one."""
    try:
        model.load_state_dict(load_tensors(path, "the weights", device))
    except (RuntimeError, TypeError, AttributeError):
        fail(f"{path} does not fit the model that its run or the flags describe; give the flags it was trained with")
    return model.to(device)


def by_length(run_dir, visible):
    """Where the features of a run at one of several visible lengths go."""
    return run_dir / "features" / f"{run_dir.name}_visible{visible}.pt"


def read_settings(weights_path, args):
    """Widths, context length and seed of a run from the args.json beside its weights, flags taking precedence."""
    if weights_path.with_name("args.json").exists():
        run = load_request(weights_path.parent)["arguments"]
    else:
        run = {**{name: width for name, (width, _) in WIDTHS.items()}, "output_size": 1, "seed": None}
    given = {name: getattr(args, name) for name in SETTINGS}
    settings = {name: run.get(name) if value is None else value for name, value in given.items()}
    missing = [f"--{name}" for name, value in settings.items() if value is None]
    if missing:
        fail(f"there is no args.json beside {weights_path}; give {' and '.join(missing)}")
    return settings, run["seed"]


def save_mlp(weights_path, args, device):
    """Write the features of the network in a file of weights on the validation samples."""
    settings, seed = read_settings(weights_path, args)
    context_length = settings["context_length"]
    lengths = [context_length if length == -1 else length for length in args.visible_context_length or [-1]]
    for length in lengths:
        if not 0 <= length <= context_length:
            fail(f"--visible_context_length {length} is not within the model's context length of {context_length}; "
                 "give -1 for all of it")
    samples = load_samples(args.validation_data_position, args.valid_dataset_size, context_length, device)
    request = {"weights": identity(weights_path), "settings": settings, "seed": seed,
               "samples": identity(args.validation_data_position), "n": len(samples.bits)}
    model = None
    for length in lengths:
        path = weights_path.with_name("features.pt") if len(lengths) == 1 else by_length(weights_path.parent, length)
        path = Path(args.save_position or path)
        if current(path, {**request, "visible_context_length": length}):
            continue
        model = model or load_weights(build_model(settings, context_length, len(samples.tasks)), weights_path, device)
        make_directory(path.parent)
        save_tensors(path, {
            "features": features_of_samples(model, samples, length, args.batch_size), "dtype": "float32", "seed": seed,
            "context_length": context_length, "visible_context_length": length,
            "n_visible_tasks": sum(solvable_tasks(samples.tasks, length)),
            "request": {**request, "visible_context_length": length}})


def save_transformer(weights_path, args, device):
    """Write the features of a run of train_transformer.py at each visible length."""
    run_dir, run = weights_path.parent, load_request(weights_path.parent)
    arguments, tasks = run["arguments"], check_task_definition(run["data"]["task_definition"])
    measured = visible_lengths(tasks, arguments["context_bits"])
    lengths = [arguments["context_bits"] if length == -1 else length
               for length in args.visible_context_length or measured]
    if args.save_position and len(lengths) > 1:
        fail("--save_position is one file; give one --visible_context_length with it")
    for length in lengths:
        if length not in measured:
            fail(f"--visible_context_length {length}: {run_dir} was measured from {measured[0]} to {measured[-1]}")
    request = {"weights": identity(weights_path), "n": args.n_samples, "run": run}
    model = None
    for length in progress(lengths, desc=run_dir.name, unit="lengths"):
        path = Path(args.save_position or by_length(run_dir, length))
        if current(path, {**request, "visible_context_length": length}):
            continue
        if model is None:
            model = load_weights(build_transformer(arguments, len(tasks)), weights_path, device)
            sampler = TaskSampler(tasks, arguments["context_bits"], device)
            sampler.reseed(arguments["seed"], 2)
            bits, active = sampler.draw(args.n_samples)[0], sampler.draw_tasks(args.n_samples)
        make_directory(path.parent)
        save_tensors(path, {
            "features": features_of_contexts(model, bits, active, length), "dtype": "float32",
            "seed": arguments["seed"], "context_length": arguments["context_bits"], "visible_context_length": length,
            "n_visible_tasks": sum(solvable_tasks(tasks, length)),
            "request": {**request, "visible_context_length": length}})


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--model_state_dict_position", required=True, nargs="+",
                        help="run directories (of train_model.py the best weights are taken), or files of weights")
    parser.add_argument("--save_position", help="file to write (default: beside the weights, see above)")
    parser.add_argument("--visible_context_length", type=int, nargs="+",
                        help="bits the model is shown, -1 for all (default: all; of train_transformer.py's runs every "
                             "measured length)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    samples = parser.add_argument_group("samples")
    samples.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    samples.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    samples.add_argument("--n_samples", type=positive_int, default=10_000,
                         help="of train_transformer.py's runs: samples at each visible length")
    samples.add_argument("--batch_size", type=positive_int, default=10_000, help="samples at a time")
    network = parser.add_argument_group("network, for weights without an args.json beside them (default: the run's)")
    network.add_argument("--model", choices=MODELS, help="which network")
    network.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    network.add_argument("--context_length", type=positive_int, help="bits that it was trained on")
    for name, (_, text) in WIDTHS.items():
        network.add_argument(f"--{name}", type=positive_int, help=text)
    network.add_argument("--output_size", type=positive_int, help="logits per sample")
    args = parser.parse_args()
    if args.save_position and max(len(args.model_state_dict_position), len(args.visible_context_length or [])) > 1:
        fail("--save_position is one file; leave it out to write one beside the weights of each run")
    return args


def is_of_train_transformer(directory):
    """Whether a directory holds a run of train_transformer.py."""
    return (directory / "args.json").exists() and load_request(directory)["trainer"] == "train_transformer"


def main():
    args = parse_args()
    device = choose_device(args.device)
    for position in map(Path, progress(args.model_state_dict_position, unit="runs", desc="features")):
        directory = position if position.is_dir() else position.parent
        of_transformer = is_of_train_transformer(directory)
        weights_path = directory / ("last.pt" if of_transformer else "best.pt") if position.is_dir() else position
        if of_transformer:
            save_transformer(weights_path, args, device)
        else:
            save_mlp(weights_path, args, device)


if __name__ == "__main__":
    run_main(main)
