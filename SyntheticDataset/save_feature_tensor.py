"""Save the hidden states of trained MLPs or Bi-MLPs on validation samples (paper section 4, first version; Fig. 18).

    python save_feature_tensor.py --model_state_dict_position outputs/runs/bi_mlp_*
    python save_feature_tensor.py --model_state_dict_position RUN --visible_context_length 27 --save_position here.pt

Widths and context length are those of the run; give their flags only for weights without an args.json beside them.
Writes dictionaries with "features", float32 (n, width): the context feature of a Bi-MLP (80 wide), the middle layer of
an MLP (200 wide); and with what they are the features of. --visible_context_length hides the bits behind it from the
trained model: they are 0.5. A file that is there already, newer than the weights and of the same kind, is kept.
"""

from pathlib import Path

import torch
from tqdm import tqdm

from mlp import build_model
from run import MODELS
from samples import load_samples
from utils import Parser, choose_device, fail, load_json, load_tensors, make_directory, positive_int, save_tensors
from tasks import solvable_tasks

PAPER_WIDTHS = {"hidden_size": 400, "task_hidden_size": 400, "next_size": 80, "next_hidden_size": 200,
                "output_size": 1, "width": 208, "n_layer": 3, "n_head": 8}


@torch.no_grad()
def extract_features(model, samples, visible_context_length, batch_size):
    """Hidden states (n, width), float32 on the CPU, with the bits behind visible_context_length replaced by 0.5."""
    features = []
    for start in range(0, len(samples.bits), batch_size):
        bits, control, _ = samples.batch(slice(start, start + batch_size))
        bits[:, visible_context_length:] = 0.5
        features.append(model.context_features(bits, control).cpu())
    return torch.cat(features)


def read_settings(weights_path, args):
    """Widths, context length and seed of a run from the args.json beside its weights, flags taking precedence."""
    path = weights_path.with_name("args.json")
    run = load_json(path, "the arguments of the run")["arguments"] if path.exists() else {**PAPER_WIDTHS, "seed": None}
    settings = {name: getattr(args, name) for name in ("context_length", "model", *PAPER_WIDTHS)}
    settings = {name: run.get(name) if value is None else value for name, value in settings.items()}
    missing = [f"--{name}" for name, value in settings.items() if value is None]
    if missing:
        fail(f"there is no args.json beside {weights_path}; give {' and '.join(missing)}")
    return {**settings, "seed": run["seed"]}


def save_features(weights_path, save_path, args, device):
    """Rebuild one model, run it on the validation samples and write its features."""
    settings = read_settings(weights_path, args)
    context_length = settings["context_length"]
    visible = context_length if args.visible_context_length == -1 else args.visible_context_length
    if not 0 <= visible <= context_length:
        fail(f"--visible_context_length {visible} is not within the model's context length of {context_length}; "
             "give -1 for all of it")
    weights = load_tensors(weights_path, "the weights", device)
    samples = load_samples(args.validation_data_position, args.valid_dataset_size, context_length, device)
    about = {
        "context_length": context_length,
        "visible_context_length": visible,
        "n_visible_tasks": sum(solvable_tasks(samples.task_definition, visible)),
        "seed": settings["seed"],
    }
    if save_path.exists() and save_path.stat().st_mtime > weights_path.stat().st_mtime:
        old = load_tensors(save_path, "the features file")
        if len(old.pop("features")) == len(samples.bits) and old == about:
            return
    model = build_model(settings, context_length, len(samples.task_definition)).to(device)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        fail(f"{weights_path} does not fit a model of {settings} and {len(samples.task_definition)} subtasks; give the "
             "flags that it was trained with")
    make_directory(save_path.parent)
    save_tensors(save_path, {"features": extract_features(model, samples, visible, args.batch_size), **about})


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--model_state_dict_position", required=True, nargs="+",
                        help="run directories of train_model.py (their best weights are taken), or files of weights")
    parser.add_argument("--save_position", help="file to write (default: features.pt beside the weights)")
    parser.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    parser.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    parser.add_argument("--visible_context_length", type=int, default=-1, help="bits the model is shown (-1: all)")
    parser.add_argument("--batch_size", type=positive_int, default=10_000, help="samples at a time")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--model", choices=MODELS, help="overrides the run's")
    parser.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    for name in ("context_length", *PAPER_WIDTHS):
        parser.add_argument(f"--{name}", type=positive_int, help="overrides the run's")
    args = parser.parse_args()
    if args.save_position and len(args.model_state_dict_position) > 1:
        fail("--save_position is one file; leave it out to write features.pt beside the weights of each run")
    return args


def main():
    args = parse_args()
    device = choose_device(args.device)
    for position in tqdm(args.model_state_dict_position, unit="run", desc="features"):
        weights_path = Path(position) / "best.pt" if Path(position).is_dir() else Path(position)
        save_path = Path(args.save_position) if args.save_position else weights_path.with_name("features.pt")
        save_features(weights_path, save_path, args, device)


if __name__ == "__main__":
    main()
