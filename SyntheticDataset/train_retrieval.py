"""Train a transformer to retrieve from limited data, and measure it at every visible length and gold position.

    python train_retrieval.py --train_dataset_size 2000 --seed 0 --device cpu           # 10 s on one core
    python train_retrieval.py --train_dataset_size 8000 --seed 0 --device cuda

A sample is --n_pairs key-value pairs and a query (see retrieval.py); the training set is the first samples of a seed.
Each batch shows the last l pairs, l drawn from --visible_lengths. --unanswerable_share of its samples have their gold
pair cut off: their answer counts as drawn anew each time, so that the model learns to answer such an input with the
prior, log(n_values) nats. The learning rate falls to 0 as a cosine; no step is chosen by a validation loss.
Writes SAVE_POSITION/TAG/ (see run.py), with, in grid.pt,
    visible_lengths   the l that were measured
    cross_entropy     float64 (lengths, n_pairs), nats, by visible length and gold distance (0: the last pair)
    accuracy          likewise: how often the right value has the largest logit
over --test_contexts contexts that are asked for each of their pairs. What a weighting by position gives (any gamma) is
a weighted mean over distances: draw_position_weighted.py. Started again, a finished run is skipped and an interrupted
one goes on to the same result.
"""

import csv
import math
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from retrieval import TrainingSet, build_model, draw_samples, measure_grid, retrieval_loss, run_tag
from run import begin, describe_environment
from transformer import check_heads
from utils import (Parser, StopSignal, choose_device, fail, load_tensors, non_negative_float, non_negative_int,
                   positive_int, save_json, save_tensors)

METRICS = ("step", "train_loss", "answerable_loss", "cut_off_loss", "accuracy", "learning_rate", "seconds")
LENGTHS = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64)


def draw(args, part, n, device):
    """The first n samples of a part ("train", "valid", "test") on the device."""
    samples = draw_samples(args.seed, part, n, args.n_pairs, args.n_keys, args.n_values)
    return [tensor.to(device) for tensor in samples]


def learning_rate(step, args):
    """Linear warm-up, then a cosine to 0 at the last step; steps count from 1."""
    warm_up = min(1.0, step / args.warmup_steps)
    return args.learning_rate * warm_up * (1 + math.cos(math.pi * step / args.num_steps)) / 2


def evaluate(model, samples, lengths):
    """Mean cross entropy of answerable and of cut-off queries, and the accuracy of the answerable ones."""
    losses, accuracies = measure_grid(model, samples, lengths)
    distances = torch.arange(losses.shape[1], device=losses.device)
    answerable = distances < torch.tensor(lengths, device=losses.device)[:, None]
    cut_off = losses[~answerable].mean().item() if not answerable.all() else None
    return {"answerable_loss": losses[answerable].mean().item(), "cut_off_loss": cut_off,
            "accuracy": accuracies[answerable].mean().item()}


def train(args, run_dir, model, training_set, valid, device):
    """Train to --num_steps, from the checkpoint if there is one. Returns the rows of metrics.csv.

    On SIGTERM or SIGUSR1 the run is saved after the step that it is in, and ends by that signal.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    state = {"step": 0, "history": [], "loss_sum": 0.0, "seconds": 0.0}
    checkpoint = run_dir / "ckpt_last.pt"
    if checkpoint.exists():
        saved = load_tensors(checkpoint, "the checkpoint", device)
        state = saved["state"]
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    clock = saved_at = time.monotonic()
    stop = StopSignal()

    with (open(run_dir / "metrics.csv", "w", newline="", encoding="utf-8") as file,
          tqdm(total=args.num_steps, initial=state["step"], unit="step", desc=run_dir.name) as bar):
        writer = csv.DictWriter(file, METRICS)
        writer.writeheader()
        writer.writerows(state["history"])
        while state["step"] < args.num_steps:
            state["step"] = step = state["step"] + 1
            optimizer.param_groups[0]["lr"] = learning_rate(step, args)
            keys, values, queries, targets = training_set.batch(step, args.batch_size, args.unanswerable_share)
            loss = retrieval_loss(model(keys, values, queries)[:, 0], targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            state["loss_sum"] += loss.item()
            bar.update()
            if step % args.eval_interval == 0 or step == args.num_steps:
                since = step - (state["history"][-1]["step"] if state["history"] else 0)
                row = {"step": step, "train_loss": state["loss_sum"] / since,
                       **evaluate(model, valid, args.visible_lengths),
                       "learning_rate": optimizer.param_groups[0]["lr"],
                       "seconds": round(state["seconds"] + time.monotonic() - clock, 2)}
                if not math.isfinite(row["train_loss"]):
                    fail(f"the loss became NaN or infinite before step {step} of {run_dir}; lower --learning_rate and "
                         "add --overwrite")
                state["history"].append(row)
                state["loss_sum"] = 0.0
                writer.writerow(row)
                file.flush()
                bar.set_postfix(train=f"{row['train_loss']:.4f}", accuracy=f"{row['accuracy']:.4f}")
            if stop.received or step == args.num_steps or time.monotonic() - saved_at >= args.checkpoint_seconds:
                saved_at = now = time.monotonic()
                state["seconds"], clock = state["seconds"] + now - clock, now
                save_tensors(checkpoint, {"state": state, "weights": model.state_dict(),
                                          "optimizer": optimizer.state_dict()})
            if stop.received:
                stop.end()
    return state["history"]


def parse_args():
    parser = Parser(__doc__)
    task = parser.add_argument_group("the task")
    task.add_argument("--n_pairs", type=positive_int, default=64, help="key-value pairs of a sample (L)")
    task.add_argument("--n_keys", type=positive_int, default=256, help="different keys")
    task.add_argument("--n_values", type=positive_int, default=16, help="different values")
    task.add_argument("--visible_lengths", type=positive_int, nargs="+", default=list(LENGTHS),
                      help="pairs that are shown, in training and when measured")
    task.add_argument("--train_dataset_size", type=positive_int, default=2000, help="training samples")
    task.add_argument("--test_contexts", type=positive_int, default=400, help="measured at the end, for every pair")
    model = parser.add_argument_group("the model")
    model.add_argument("--width", type=positive_int, default=64, help="of the hidden states")
    model.add_argument("--n_layer", type=positive_int, default=1, help="layers")
    model.add_argument("--n_head", type=positive_int, default=2, help="attention heads; of even width")
    model.add_argument("--rope_base", type=non_negative_float, default=1000.0, help="base of the rotary positions")
    training = parser.add_argument_group("training")
    training.add_argument("--num_steps", type=positive_int, default=500, help="steps")
    training.add_argument("--batch_size", type=positive_int, default=128, help="samples a step")
    training.add_argument("--unanswerable_share", type=non_negative_float, default=0.3,
                          help="of a batch's samples: their gold pair is cut off")
    training.add_argument("--learning_rate", type=non_negative_float, default=3e-3, help="of AdamW, after the warm-up")
    training.add_argument("--warmup_steps", type=positive_int, default=50, help="steps of warm-up")
    training.add_argument("--weight_decay", type=non_negative_float, default=0.5, help="of AdamW")
    training.add_argument("--eval_interval", type=positive_int, default=250, help="steps between evaluations")
    training.add_argument("--eval_contexts", type=positive_int, default=50, help="of an evaluation, other contexts")
    run = parser.add_argument_group("the run")
    run.add_argument("--seed", type=non_negative_int, default=0, help="of the weights, the samples and the batches")
    run.add_argument("--save_position", default="outputs/retrieval_runs", help="directory for the run's directory")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    run.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    run.add_argument("--checkpoint_seconds", type=non_negative_float, default=30.0,
                     help="seconds between checkpoints, each at the end of a step")
    run.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")
    args = parser.parse_args()
    check_heads(args.width, args.n_head)
    args.visible_lengths = sorted(set(args.visible_lengths))
    if args.visible_lengths[-1] > args.n_pairs:
        fail(f"--visible_lengths {args.visible_lengths[-1]} is more than the --n_pairs {args.n_pairs}")
    if args.n_keys < args.n_pairs:
        fail(f"--n_keys {args.n_keys} cannot give --n_pairs {args.n_pairs} different keys; raise it")
    if args.unanswerable_share >= 1 or args.rope_base <= 0:
        fail("--unanswerable_share must lie below 1, and --rope_base above 0")
    return args


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    run_dir = Path(args.save_position) / run_tag(args.train_dataset_size, args.seed)
    description = {"arguments": vars(args), "data": {}, "environment": describe_environment(device)}
    locked, result = begin(run_dir, description, args.overwrite)  # the lock is held until the program ends
    if result:
        return print(f"{run_dir.name}: finished before, accuracy {result['accuracy']:.4f} with all pairs visible")

    torch.manual_seed(args.seed)
    model = build_model(vars(args)).to(device)
    training_set = TrainingSet(draw(args, "train", args.train_dataset_size, device), args.visible_lengths, args.seed)
    if not training_set.answerable[0]:
        fail(f"none of the {args.train_dataset_size} samples has its gold pair among the last "
             f"{args.visible_lengths[0]}; raise --train_dataset_size or the shortest of --visible_lengths")
    history = train(args, run_dir, model, training_set, draw(args, "valid", args.eval_contexts, device), device)
    with tqdm(total=len(args.visible_lengths), unit="length", desc="measuring") as bar:
        losses, accuracies = measure_grid(model, draw(args, "test", args.test_contexts, device), args.visible_lengths,
                                          report=bar.update)
    save_tensors(run_dir / "last.pt", model.state_dict())
    save_tensors(run_dir / "grid.pt", {"visible_lengths": args.visible_lengths, "cross_entropy": losses.cpu(),
                                       "accuracy": accuracies.cpu()})
    last = history[-1]
    result = {"train_dataset_size": args.train_dataset_size, "seed": args.seed, "steps": args.num_steps,
              "train_loss": last["train_loss"], "answerable_loss": last["answerable_loss"],
              "cut_off_loss": last["cut_off_loss"], "accuracy": accuracies[-1].mean().item(),
              "parameters": sum(p.numel() for p in model.parameters()), "seconds": last["seconds"]}
    save_json(run_dir / "final.json", result)
    (run_dir / "ckpt_last.pt").unlink(missing_ok=True)
    print(f"{run_dir.name}: accuracy {result['accuracy']:.4f} with {args.visible_lengths[-1]} pairs visible, a cut-off "
          f"answer costs {f'{loss:.4f} nats' if (loss := last['cut_off_loss']) else 'nothing'}")


if __name__ == "__main__":
    main()
