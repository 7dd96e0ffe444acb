"""Train the causal transformer on position-weighted subtasks until it meets the Bayes model (paper section 4, Table 1).

    python train_transformer.py --task_definition weighted_tasks.json                        # the paper's model
    python train_transformer.py --task_definition small_tasks.json --context_bits 16 --max_masked 12 --width 64 ...
    python train_transformer.py --task_definition weighted_tasks.json --device cuda --dtype bfloat16 --compile

Every batch is drawn fresh on the device from (seed, step): --batch_size contexts. Half of them are whole, of the others
the last X bits are "?", X uniform on 0 to --max_masked. Each is asked every subtask at once, and the loss weights the
answers by the subtasks' frequencies: the mean over samples of a context and a subtask, without the noise of drawing the
subtask. Writes SAVE_POSITION/TAG/ (see run.py). The cross entropy is measured in the same way at each visible length
from the first solvable one to all bits: metrics.csv logs its difference from the Bayes risk, final.json holds both. A
subtask is learned after a plateau of its own: the learning rate falls to 0 in cycles until every subtask is learned at
the end of one, and then once more in the settling steps, with a new optimizer and a weight decay of their own. A rare
subtask can miss its plateau's end in all cycles; --unlearned_weight makes it count more until it is learned. Started
again, a finished run is skipped and an interrupted one goes on to the same result.
"""

from utils import choose_device, describe_environment, fail, progress, run_main

import torch

from run import Run, load_result
from settings import parse
from tasks import as_lists, bayes_risk, load_task_definition
from transformer import (TaskSampler, build_transformer, cross_entropies, flops_per_sample, visible_lengths,
                         weighted_train_step)

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165}  # dense bf16, by part of the GPU's name
METRICS = ("step", "train_loss", "largest_task_loss", "largest_difference", "learning_rate", "seconds")


def learning_end(history, args):
    """The last step of the cycle by whose end every subtask is learned, or of the last cycle; None before that."""
    return next((row["step"] for row in history if row["step"] % args.cycle_steps == 0
                 and (row["largest_task_loss"] < args.learned_loss
                      or row["step"] == args.max_cycles * args.cycle_steps)), None)


def learning_rate(step, learned, args):
    """In each cycle, and in the settling steps after the step `learned`, a linear warm-up, then a linear fall to 0."""
    number, steps = (((step - 1) % args.cycle_steps + 1, args.cycle_steps) if learned is None
                     else (step - learned, args.settling_steps))
    return args.learning_rate * min(number / args.warmup_steps, (steps - number) / steps)


def emphasised(frequencies, unlearned, factor):
    """Weights (T,) of the subtasks in the loss: their frequencies, times `factor` if not learned, with the same sum."""
    weights = torch.where(unlearned, factor * frequencies, frequencies)
    return weights * (frequencies.sum() / weights.sum())


def share_of_peak(flops_per_second, device):
    """Of the dense bfloat16 peak of a GPU that the table knows, else None."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((flops_per_second / (tflops * 1e12) for part, tflops in PEAK_TFLOPS.items() if part in name), None)


def new_optimizer(model, weight_decay):
    """An AdamW without memory; its learning rate is set before every step."""
    return torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)


def train(args, run, model, sampler, tasks):
    """Train until every subtask is learned, and the settling steps."""
    device, lengths = sampler.device, visible_lengths(tasks, args.context_bits)
    risks = torch.tensor([bayes_risk(tasks, length) for length in lengths], dtype=torch.float64)
    optimizer = new_optimizer(model, args.weight_decay)
    state = {"history": [], "step": 0,
             "unlearned": torch.ones(len(tasks), dtype=torch.bool, device=device),  # subtasks, at the last evaluation
             "loss_sum": torch.zeros((), dtype=torch.float64, device=device)}  # since the last evaluation
    run.resume(state, model, optimizer)
    frequencies = sampler.weights.float()
    forward = torch.compile(model) if args.compile else model
    precision = torch.autocast(device.type, torch.bfloat16, enabled=args.dtype == "bfloat16")

    def loss_weights():
        return (frequencies if learning_end(run.history, args) is not None
                else emphasised(frequencies, state["unlearned"], args.unlearned_weight))

    weights = loss_weights()
    with (run.open_metrics((*METRICS, *(f"difference_{length}" for length in lengths))),
          progress(total=args.max_cycles * args.cycle_steps + args.settling_steps, initial=state["step"], unit="steps",
                   desc=run.name) as bar):
        while (learned := learning_end(run.history, args)) is None or state["step"] < learned + args.settling_steps:
            if state["step"] == learned:
                optimizer = run.optimizer = new_optimizer(model, args.settling_weight_decay)
            state["step"] += 1
            step = state["step"]
            optimizer.param_groups[0]["lr"] = learning_rate(step, learned, args)
            falls_to_0 = step % args.cycle_steps == 0 if learned is None else step == learned + args.settling_steps
            batch = sampler.training_batch(args.seed, step, args.batch_size, args.max_masked)
            state["loss_sum"] += weighted_train_step(forward, optimizer, *batch, weights, precision)
            bar.update()
            if step % args.eval_interval == 0 or falls_to_0:
                losses, _, task_losses = cross_entropies(model, sampler, lengths, args.eval_contexts, args.seed)
                differences = losses - risks
                row = run.log(
                    step=step, train_loss=state["loss_sum"].item() / (step - run.steps_logged),
                    largest_task_loss=task_losses[-1].max().item(),  # with all bits visible
                    largest_difference=differences.max().item(), learning_rate=optimizer.param_groups[0]["lr"],
                    **{f"difference_{length}": value for length, value in zip(lengths, differences.tolist())})
                state["loss_sum"].zero_()
                state["unlearned"] = (task_losses[-1] >= args.learned_loss).to(device)
                weights = loss_weights()
                bar.set_postfix(train=f"{row['train_loss']:.4f}", largest_difference=f"{row['largest_difference']:.4f}")
            run.save_when_due(due=falls_to_0)


def main():
    args = parse("train_transformer", __doc__)
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    tasks = load_task_definition(args.task_definition)
    if max(task.last_bit for task in tasks) > args.context_bits:
        fail(f"{args.task_definition} has bits beyond --context_bits {args.context_bits}; give its own number")
    run = Run("train_transformer", vars(args), {"task_definition": as_lists(tasks)}, describe_environment(device))
    if run.finished:
        difference = largest_difference(load_result(run.directory))
        return print(f"{run.name}: finished before, {difference:.4f} nats above Bayes at most")

    torch.manual_seed(args.seed)
    model = build_transformer(vars(args), len(tasks)).to(device)
    sampler = TaskSampler(tasks, args.context_bits, device)
    train(args, run, model, sampler, tasks)
    lengths = visible_lengths(tasks, args.context_bits)
    with run.measuring(len(lengths)) as report:
        losses, errors, _ = cross_entropies(model, sampler, lengths, args.final_contexts, args.seed + 2**32, report)
    samples, seconds = run.steps_logged * args.batch_size * len(tasks), run.history[-1]["seconds"]
    result = {"seed": args.seed, "steps": run.steps_logged, "samples": samples, "seconds": seconds,
              "mfu": share_of_peak(flops_per_sample(model, sampler) * samples / seconds, device),
              "parameters": sum(p.numel() for p in model.parameters()), "context_length": list(lengths),
              "bayes_risk": [bayes_risk(tasks, length) for length in lengths], "cross_entropy": losses.tolist(),
              "standard_error": errors.tolist()}
    run.finish(result, last=model.state_dict())
    print(f"{run.name}: {largest_difference(result):.4f} nats above Bayes at most, after {result['steps']} steps")


def largest_difference(result):
    """By how much the cross entropy exceeds the Bayes risk at most (nats)."""
    return max(loss - risk for loss, risk in zip(result["cross_entropy"], result["bayes_risk"]))


if __name__ == "__main__":
    run_main(main)
