"""Train the causal transformer on position-weighted subtasks until it meets the Bayes model (paper section 4, Table 1).

    python train_transformer.py --task_definition weighted_tasks.json                        # the paper's model
    python train_transformer.py --task_definition small_tasks.json --context_bits 16 --max_masked 12 --width 64 ...
    python train_transformer.py --task_definition weighted_tasks.json --device cuda --dtype bfloat16 --compile

Every batch is drawn fresh on the device from (seed, step): --batch_size contexts. Half of them are whole, of the others
the last X bits are "?", X uniform on 0 to --max_masked. Each is asked every subtask at once, and the loss weights the
answers by the subtasks' frequencies: the mean over samples of a context and a subtask, without the noise of drawing the
subtask. Writes SAVE_POSITION/TAG/ (see runs.py). The cross entropy is measured in the same way at each visible length
from the first solvable one to all bits: metrics.csv logs its difference from the Bayes risk, final.json holds both. A
subtask is learned after a plateau of its own: the learning rate falls to 0 in cycles until every subtask is learned at
the end of one, and then once more in the settling steps, with a new optimizer and a weight decay of their own. Started
again, a finished run is skipped and an interrupted one goes on to the same result.
"""

import csv
import math
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from run import begin, describe_environment
from utils import (Parser, StopSignal, choose_device, fail, load_tensors, non_negative_float, non_negative_int,
                       positive_int, save_json, save_tensors)
from tasks import bayes_risk, load_task_definition
from transformer import TaskSampler, Transformer, check_heads, tokens

EVALUATION_BATCH = 256  # contexts
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165}  # dense bf16, by part of the GPU's name
METRICS = ("step", "train_loss", "largest_task_loss", "largest_difference", "learning_rate", "seconds")
MODEL_ARGUMENTS = ("context_bits", "width", "n_layer", "n_head", "rope_base")


def run_tag(args):
    """The name of a run's directory, a function of the swept arguments alone."""
    return f"transformer_bits{args.context_bits}_width{args.width}_layers{args.n_layer}_seed{args.seed}"


def build_transformer(arguments, n_tasks):
    """The Transformer of a run's arguments."""
    return Transformer(n_tasks=n_tasks, **{name: arguments[name] for name in MODEL_ARGUMENTS})


def visible_lengths(pairs, context_bits):
    """The visible lengths that are measured: from the first that solves a subtask to all bits."""
    return range(min(max(pair[:2]) for pair in pairs), context_bits + 1)


def learning_end(history, args):
    """The last step of the cycle by whose end every subtask is learned, or of the last cycle; None before that."""
    return next((row["step"] for row in history if row["step"] % args.cycle_steps == 0
                 and (row["largest_task_loss"] < args.learned_loss
                      or row["step"] == args.max_cycles * args.cycle_steps)), None)


def learning_rate(step, learned, args):
    """In each cycle, and in the settling steps after the step `learned`, a linear warm-up, then a linear fall to 0."""
    place, steps = (((step - 1) % args.cycle_steps + 1, args.cycle_steps) if learned is None
                    else (step - learned, args.settling_steps))
    return args.learning_rate * min(place / args.warmup_steps, (steps - place) / steps)


def flops_per_sample(model, sampler, n=8):
    """Operations of the matrix products of a training step, forward and backward, a sample (context and subtask)."""
    inputs, answers = sampler.training_batch(0, 0, n, max_masked=0)
    with FlopCounterMode(display=False) as counter:
        F.binary_cross_entropy_with_logits(model(inputs), answers).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / answers.numel()


def share_of_peak(flops_per_second, device):
    """Of the dense bfloat16 peak of a GPU that the table knows, else None."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((flops_per_second / (tflops * 1e12) for part, tflops in PEAK_TFLOPS.items() if part in name), None)


@torch.no_grad()
def measure(model, sampler, lengths, n_contexts, seed):
    """Cross entropy (nats) at each visible length, its standard error, and the mean loss of each subtask there.

    float64 tensors (lengths,), (lengths,) and (lengths, T) on the CPU. Each of n_contexts contexts, the same ones at
    every length, is asked all subtasks; in the cross entropy a subtask counts by its frequency.
    """
    sampler.reseed(seed, 1)
    bits, answers = sampler.draw(n_contexts)
    means, errors = [], []
    for length in lengths:
        losses = torch.cat([
            F.binary_cross_entropy_with_logits(model(tokens(part, sampler.tasks, length)), answer, reduction="none")
            for part, answer in zip(bits.split(EVALUATION_BATCH), answers.split(EVALUATION_BATCH))]).double()
        means.append(losses.mean(dim=0))
        errors.append((losses @ sampler.weights).std() / math.sqrt(n_contexts))
    means = torch.stack(means)
    return (means @ sampler.weights).cpu(), torch.stack(errors).cpu(), means.cpu()


def train_step(model, optimizer, inputs, answers, weights, precision):
    """One optimizer step on tokens (n, L + K) and answers (n, K), weighted (K,). Returns the loss (nats) before it."""
    with precision:
        logits = model(inputs).float()
    loss = (F.binary_cross_entropy_with_logits(logits, answers, reduction="none") @ weights).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def new_optimizer(model, weight_decay):
    return torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)


def train(args, run_dir, model, sampler, pairs):
    """Train until every subtask is learned, and the settling steps. Returns the history of evaluations."""
    device = sampler.device
    lengths = visible_lengths(pairs, args.context_bits)
    risks = torch.tensor([bayes_risk(pairs, length) for length in lengths], dtype=torch.float64)
    optimizer = new_optimizer(model, args.weight_decay)
    history, step, seconds, checkpoint = [], 0, 0.0, run_dir / "ckpt_last.pt"
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)  # since the last evaluation
    if checkpoint.exists():
        saved = load_tensors(checkpoint, "the checkpoint", device)
        history = saved["history"]
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds, loss_sum = saved["step"], saved["seconds"], saved["loss_sum"]
    weights = sampler.weights.float()
    forward = torch.compile(model) if args.compile else model
    precision = torch.autocast(device.type, torch.bfloat16, enabled=args.dtype == "bfloat16")
    started = saved_at = time.monotonic()
    stop = StopSignal()

    with (open(run_dir / "metrics.csv", "w", newline="", encoding="utf-8") as file,
          tqdm(total=args.max_cycles * args.cycle_steps + args.settling_steps, initial=step, unit="step",
               desc=run_dir.name) as bar):
        writer = csv.DictWriter(file, [*METRICS, *(f"difference_{length}" for length in lengths)])
        writer.writeheader()
        writer.writerows(history)
        while (learned := learning_end(history, args)) is None or step < learned + args.settling_steps:
            if step == learned:
                optimizer = new_optimizer(model, args.settling_weight_decay)
            step += 1
            optimizer.param_groups[0]["lr"] = learning_rate(step, learned, args)
            falls_to_0 = step % args.cycle_steps == 0 if learned is None else step == learned + args.settling_steps
            batch = sampler.training_batch(args.seed, step, args.batch_size, args.max_masked)
            loss_sum += train_step(forward, optimizer, *batch, weights, precision)  # read only at an evaluation
            bar.update()
            if step % args.eval_interval == 0 or falls_to_0:
                losses, _, task_losses = measure(model, sampler, lengths, args.eval_contexts, args.seed)
                gaps = losses - risks
                since = step - (history[-1]["step"] if history else 0)
                history.append({"step": step, "train_loss": loss_sum.item() / since,
                                "largest_task_loss": task_losses[-1].max().item(),  # with all bits visible
                                "largest_difference": gaps.max().item(),
                                "learning_rate": optimizer.param_groups[0]["lr"],
                                "seconds": round(seconds + time.monotonic() - started, 2),
                                **{f"difference_{length}": gap for length, gap in zip(lengths, gaps.tolist())}})
                if not math.isfinite(history[-1]["train_loss"]):
                    fail(f"the loss became NaN or infinite before step {step} of {run_dir}; lower --learning_rate and "
                         "add --overwrite")
                writer.writerow(history[-1])
                file.flush()
                loss_sum.zero_()
                bar.set_postfix(train=f"{history[-1]['train_loss']:.4f}", largest_difference=f"{gaps.max():.4f}")
            if stop.received or time.monotonic() - saved_at >= args.checkpoint_seconds or falls_to_0:
                saved_at = time.monotonic()
                save_tensors(checkpoint, {"history": history, "step": step, "loss_sum": loss_sum,
                                          "seconds": seconds + saved_at - started, "weights": model.state_dict(),
                                          "optimizer": optimizer.state_dict()})
            if stop.received:
                stop.end()
    return history


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--task_definition", default="weighted_tasks.json", help="file of generate_tasks.py")
    add("--context_bits", type=positive_int, default=60, help="bits of a sample (L)")
    add("--max_masked", type=non_negative_int, default=50, help="the last 0 to so many bits of half the samples are ?")
    add("--width", type=positive_int, default=208, help="of the hidden states; the feed-forward layers have 4 x")
    add("--n_layer", type=positive_int, default=3, help="layers")
    add("--n_head", type=positive_int, default=8, help="attention heads; of even width")
    add("--rope_base", type=float, default=4000.0, help="base of the rotary positions")
    add("--batch_size", type=positive_int, default=20, help="contexts a step, each asked every subtask")
    add("--cycle_steps", type=positive_int, default=5000, help="steps in which the learning rate falls to 0")
    add("--max_cycles", type=positive_int, default=4, help="cycles at most; one is enough if every subtask is learned")
    add("--settling_steps", type=non_negative_int, default=10000, help="steps after the cycles")
    add("--learning_rate", type=non_negative_float, default=3e-4, help="of AdamW, after the warm-up")
    add("--warmup_steps", type=positive_int, default=200, help="steps until the learning rate is reached")
    add("--weight_decay", type=non_negative_float, default=0.5, help="of AdamW, in the cycles")
    add("--settling_weight_decay", type=non_negative_float, default=1.0, help="of AdamW, in the settling steps")
    add("--learned_loss", type=non_negative_float, default=0.35,
        help="every subtask is learned when, with all bits visible, its loss is below this (nats)")
    add("--eval_interval", type=positive_int, default=1000, help="steps between evaluations")
    add("--eval_contexts", type=positive_int, default=64, help="of an evaluation, each asked all subtasks")
    add("--final_contexts", type=positive_int, default=1024, help="of the last one, other contexts")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the matrix products in training")
    add("--compile", action=BooleanOptionalAction, default=False, help="compile the model (a GPU)")
    add("--seed", type=non_negative_int, default=0, help="of the weights and of the samples")
    add("--save_position", default="outputs/transformer_runs", help="directory for the run's directory")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--threads", type=positive_int, default=1, help="CPU threads")
    add("--checkpoint_seconds", type=non_negative_float, default=30.0,
        help="seconds between checkpoints, each at the end of a step")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")
    args = parser.parse_args()
    check_heads(args.width, args.n_head)
    if args.final_contexts < 2:
        fail("--final_contexts 1 has no standard error; give 2 or more")
    if args.max_masked > args.context_bits:
        fail(f"--max_masked {args.max_masked} is more than the --context_bits {args.context_bits}")
    return args


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    pairs = load_task_definition(args.task_definition)
    if max(max(pair[:2]) for pair in pairs) > args.context_bits:
        fail(f"{args.task_definition} has bits beyond --context_bits {args.context_bits}; give its own number")
    run_dir = Path(args.save_position) / run_tag(args)
    arguments = {name: value for name, value in vars(args).items() if name != "task_definition"}  # its contents count
    description = {"arguments": arguments, "data": {"task_definition": pairs},
                   "environment": describe_environment(device)}
    locked, result = begin(run_dir, description, args.overwrite)  # the lock is held until the program ends
    if result:
        return print(f"{run_dir.name}: finished before, {max(result['difference']):.4f} nats above Bayes at most")

    torch.manual_seed(args.seed)
    model = build_transformer(vars(args), len(pairs)).to(device)
    sampler = TaskSampler(pairs, args.context_bits, device)
    history = train(args, run_dir, model, sampler, pairs)
    lengths = visible_lengths(pairs, args.context_bits)
    losses, errors, _ = measure(model, sampler, lengths, args.final_contexts, args.seed + 2**32)
    risks = [bayes_risk(pairs, length) for length in lengths]
    samples, seconds = history[-1]["step"] * args.batch_size * len(pairs), history[-1]["seconds"]
    speed = flops_per_sample(model, sampler) * samples / seconds
    result = {"seed": args.seed, "steps": history[-1]["step"], "samples": samples, "seconds": seconds,
              "samples_per_second": round(samples / seconds), "mfu": share_of_peak(speed, device),
              "parameters": sum(p.numel() for p in model.parameters()),
              "visible_context_length": list(lengths), "cross_entropy": losses.tolist(), "bayes_risk": risks,
              "standard_error": errors.tolist(), "difference": [a - b for a, b in zip(losses.tolist(), risks)]}
    save_tensors(run_dir / "last.pt", model.state_dict())
    save_json(run_dir / "final.json", result)
    (run_dir / "ckpt_last.pt").unlink(missing_ok=True)
    print(f"{run_dir.name}: {max(result['difference']):.4f} nats above Bayes at most, after {result['steps']} steps")


if __name__ == "__main__":
    main()
