"""Train an MLP, Bi-MLP or transformer on the first bits of the first samples (paper section 4; Appendix F).

    python train_model.py --context_length 36 --train_dataset_size 85000                  # the GPU if there is one
    python train_model.py --context_length 36 --train_dataset_size 85000 --device cuda:1
    python train_model.py --context_length 36 --use_bi_mlp                                # on all training samples
    python train_model.py --context_length 36 --model transformer --batch_size 128

Writes SAVE_POSITION/TAG/ (see runs.py). Started again, a finished run is skipped and an interrupted one goes on from
its last checkpoint to the same result. Cross entropies are in nats, means over all samples; weights are those of the
epoch with the lowest validation loss. The approximation loss is that validation loss minus the Bayes risk, and has two
parts: subtasks that could be solved and are not, and subtasks that cannot be solved and cost more than log 2.
"""

import csv
import math
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from mlp import build_model
from run import MODELS, begin, describe_environment, run_tag
from samples import load_samples
from utils import (Parser, StopSignal, choose_device, fail, load_tensors, non_negative_float, non_negative_int,
                       positive_int, save_json, save_tensors)
from tasks import bayes_risk, solvable_tasks
from transformer import check_heads

EVALUATION_BATCH = 8192
METRICS = ("epoch", "step", "train_loss", "valid_loss", "solvable_loss", "unsolvable_loss", "seconds")


def epoch_order(n, seed, epoch, device):
    """The order of the n training samples in an epoch, a function of (seed, epoch) alone: int64 (n,)."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    generator = torch.Generator(device=device).manual_seed(int(state))
    return torch.randperm(n, generator=generator, device=device)


def train_step(model, optimizer, samples, rows):
    """One optimizer step on the given samples. Returns the sum of their losses (nats) before it, left on the device."""
    bits, control, answers = samples.batch(rows)
    loss = F.binary_cross_entropy_with_logits(model(bits, control), answers)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach() * len(rows)


@torch.no_grad()
def loss_sums_by_task(model, samples):
    """Sum of the losses (nats) and number of samples of each subtask: two float64 tensors (T,) on the CPU."""
    sums = torch.zeros(2, len(samples.task_definition), dtype=torch.float64, device=samples.bits.device)
    for start in range(0, len(samples.bits), EVALUATION_BATCH):
        bits, control, answers = samples.batch(slice(start, start + EVALUATION_BATCH))
        losses = F.binary_cross_entropy_with_logits(model(bits, control), answers, reduction="none").double()
        sums += torch.stack([losses, torch.ones_like(losses)]) @ control.double()
    return sums.cpu()


def evaluate(model, samples, context_length):
    """Validation loss, the parts of it from solvable and unsolvable subtasks (they add up to it), loss per subtask."""
    sums, counts = loss_sums_by_task(model, samples)
    solvable = torch.tensor(solvable_tasks(samples.task_definition, context_length))
    n = counts.sum()
    task_losses = [loss if math.isfinite(loss) else None for loss in (sums / counts).tolist()]  # None: no sample of it
    return {
        "valid_loss": (sums.sum() / n).item(),
        "solvable_loss": (sums[solvable].sum() / n).item(),
        "unsolvable_loss": (sums[~solvable].sum() / n).item(),
        "task_losses": task_losses,
    }


def train(args, run_dir, model, train_samples, valid_samples):
    """Train until the validation loss has stopped falling, or --num_epochs. Returns the state of the finished run.

    Patience is counted in epochs and in optimizer steps, and both must have run out: parity is learned after a
    plateau of hundreds of steps, on which the validation loss does not fall although nothing overfits yet.
    """
    device = train_samples.bits.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay, fused=True)
    state = {"history": [], "best": None, "best_weights": None, "stopped": None, "seconds": 0.0,
             "batches": 0, "loss_sum": torch.zeros((), dtype=torch.float64, device=device)}  # of the epoch begun
    checkpoint = run_dir / "ckpt_last.pt"
    if checkpoint.exists():
        saved = load_tensors(checkpoint, "the checkpoint", device)
        state = saved["state"]
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    history = state["history"]
    step = history[-1]["step"] if history else 0
    started = saved_at = time.monotonic()
    stop = StopSignal()
    n = len(train_samples.bits)

    def save():
        nonlocal started, saved_at
        saved_at = time.monotonic()
        state["seconds"], started = state["seconds"] + saved_at - started, saved_at
        save_tensors(checkpoint, {"state": state, "weights": model.state_dict(), "optimizer": optimizer.state_dict()})
        if stop.received:
            stop.end()

    with (open(run_dir / "metrics.csv", "w", newline="", encoding="utf-8") as file,
          tqdm(total=args.num_epochs, initial=len(history), unit="epoch", desc=run_dir.name) as bar):
        writer = csv.DictWriter(file, METRICS)
        writer.writeheader()
        writer.writerows(history)
        for epoch in range(len(history) + 1, args.num_epochs + 1):
            if state["stopped"]:
                break
            batches = epoch_order(n, args.seed, epoch, device).split(args.batch_size)
            for rows in batches[state["batches"]:]:
                state["loss_sum"] += train_step(model, optimizer, train_samples, rows)
                state["batches"] += 1
                if stop.received or time.monotonic() - saved_at >= args.checkpoint_seconds:
                    save()
            loss_sum, state["batches"] = state["loss_sum"].item(), 0
            state["loss_sum"].zero_()
            step += len(batches)
            metrics = evaluate(model, valid_samples, args.context_length)
            if not math.isfinite(loss_sum) or not math.isfinite(metrics["valid_loss"]):
                fail(f"the loss became NaN or infinite in epoch {epoch} of {run_dir}; lower --learning_rate and add "
                     "--overwrite")
            task_losses = metrics.pop("task_losses")
            row = {"epoch": epoch, "step": step, "train_loss": loss_sum / n, **metrics,
                   "seconds": round(state["seconds"] + time.monotonic() - started, 2)}
            history.append(row)
            writer.writerow(row)
            file.flush()
            if state["best"] is None or row["valid_loss"] < state["best"]["valid_loss"]:
                state["best"] = {**row, "task_losses": task_losses}
                state["best_weights"] = {name: value.clone() for name, value in model.state_dict().items()}
            waited = {unit: row[unit] - state["best"][unit] for unit in ("epoch", "step")}
            if waited["epoch"] >= args.early_stopping and waited["step"] >= args.early_stopping_steps:
                state["stopped"] = "early"
            if state["stopped"] or epoch == args.num_epochs:
                save()
            bar.update()
            bar.set_postfix(train=f"{row['train_loss']:.4f}", valid=f"{row['valid_loss']:.4f}",
                            best=f"{state['best']['valid_loss']:.4f}")
    state["stopped"] = state["stopped"] or "num_epochs"
    return state


def summarise(args, state, pairs):
    """The contents of final.json: the swept arguments, the best and the last epoch, and the parts of the loss."""
    best, last = state["best"], state["history"][-1]
    risk = bayes_risk(pairs, args.context_length)
    result = {name: getattr(args, name)
              for name in ("model", "context_length", "train_dataset_size", "weight_decay", "seed")}
    result.update(stopped=state["stopped"], bayes_risk=risk, approximation_loss=best["valid_loss"] - risk)
    for name, row in (("best", best), ("last", last)):
        result.update({f"{name}_epoch": row["epoch"], f"{name}_step": row["step"],
                       f"{name}_train_loss": row["train_loss"], f"{name}_valid_loss": row["valid_loss"],
                       f"{name}_approximation_loss_solvable": row["solvable_loss"],
                       f"{name}_approximation_loss_unsolvable": row["unsolvable_loss"] - risk})
    result.update(seconds=last["seconds"], task_losses=best["task_losses"])
    return result


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--training_data_position", default="data/train.pt", help="file of generate_data.py")
    parser.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    parser.add_argument("--context_length", type=positive_int, required=True, help="visible bits")
    parser.add_argument("--train_dataset_size", type=positive_int, help="the first training samples (default: all)")
    parser.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    parser.add_argument("--model", choices=MODELS, default="mlp",
                        help="bi_mlp: a context feature that cannot see the active subtask")
    parser.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    parser.add_argument("--hidden_size", type=positive_int, default=400, help="MLP: width; the middle layer has half")
    parser.add_argument("--task_hidden_size", type=positive_int, default=400, help="Bi-MLP: width of the first layer")
    parser.add_argument("--next_size", type=positive_int, default=80, help="Bi-MLP: width of the context feature")
    parser.add_argument("--next_hidden_size", type=positive_int, default=200, help="Bi-MLP: width of the third layer")
    parser.add_argument("--width", type=positive_int, default=208, help="transformer: of the hidden states")
    parser.add_argument("--n_layer", type=positive_int, default=3, help="transformer: layers")
    parser.add_argument("--n_head", type=positive_int, default=8, help="transformer: attention heads; of even width")
    parser.add_argument("--output_size", type=int, default=1, choices=[1], help="logits per sample")
    parser.add_argument("--num_epochs", type=positive_int, default=200, help="passes over the training samples at most")
    parser.add_argument("--early_stopping", type=positive_int, default=25,
                        help="stop after so many epochs without a lower validation loss ...")
    parser.add_argument("--early_stopping_steps", type=non_negative_int, default=2000,
                        help="... and so many optimizer steps (0: epochs alone, as published)")
    parser.add_argument("--batch_size", type=positive_int, default=10_000, help="samples a step")
    parser.add_argument("--learning_rate", type=non_negative_float, default=1e-3, help="of AdamW")
    parser.add_argument("--weight_decay", type=non_negative_float, default=1e-4,
                        help="of AdamW; the paper's sweep has 8e-4")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the weights and of the batches")
    parser.add_argument("--save_position", default="outputs/runs", help="directory for the run's directory")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, default=1,
                        help="CPU threads; matrices this small gain nothing from more, so run more runs instead")
    parser.add_argument("--checkpoint_seconds", type=non_negative_float, default=10.0,
                        help="seconds between checkpoints, each at the end of a step")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")
    args = parser.parse_args()
    check_heads(args.width, args.n_head)
    return args


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    train_samples = load_samples(args.training_data_position, args.train_dataset_size, args.context_length, device)
    valid_samples = load_samples(args.validation_data_position, args.valid_dataset_size, args.context_length, device)
    pairs, source = train_samples.task_definition, train_samples.source
    if (valid_samples.task_definition, valid_samples.source) != (pairs, source):
        fail(f"{args.training_data_position} and {args.validation_data_position} are of different tasks, bits or "
             "seeds; make both with one call of generate_data.py")
    args.train_dataset_size, args.valid_dataset_size = len(train_samples.bits), len(valid_samples.bits)

    run_dir = Path(args.save_position) / run_tag(args.model, args.context_length, args.train_dataset_size,
                                                 args.weight_decay, args.seed)
    description = {"arguments": vars(args), "data": {**source, "task_definition": pairs},
                   "environment": describe_environment(device)}
    locked, result = begin(run_dir, description, args.overwrite)  # the lock is held until the program ends
    if result:
        print(f"{run_dir.name}: finished before, validation loss {result['best_valid_loss']:.4f}")
        return

    torch.manual_seed(args.seed)
    model = build_model(vars(args), args.context_length, len(pairs)).to(device)
    try:
        state = train(args, run_dir, model, train_samples, valid_samples)
    except OSError as error:
        fail(f"cannot write into {run_dir}: {error.strerror}; free some space and start again, it goes on from there")
    result = summarise(args, state, pairs)
    save_tensors(run_dir / "best.pt", state["best_weights"])
    save_tensors(run_dir / "last.pt", model.state_dict())
    save_json(run_dir / "final.json", result)
    (run_dir / "ckpt_last.pt").unlink(missing_ok=True)
    print(f"{run_dir.name}: validation loss {result['best_valid_loss']:.4f} at epoch {result['best_epoch']}, "
          f"Bayes risk {result['bayes_risk']:.4f}, training loss there {result['best_train_loss']:.4f}")


if __name__ == "__main__":
    main()
