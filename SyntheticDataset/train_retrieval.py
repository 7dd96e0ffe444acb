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

from utils import choose_device, describe_environment, fail, progress, run_main

import math

import torch

from retrieval import TrainingSet, build_retrieval_model, draw_samples, measure_grid, retrieval_loss
from run import Run, load_result
from settings import parse
from training import optimizer_step

METRICS = ("step", "train_loss", "answerable_loss", "cut_off_loss", "accuracy", "learning_rate", "seconds")


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


def train(args, run, model, training_set, valid):
    """Train to --num_steps, from the checkpoint if there is one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    state = {"step": 0, "history": [], "loss_sum": 0.0}  # since the last evaluation
    run.resume(state, model, optimizer)
    with (run.open_metrics(METRICS),
          progress(total=args.num_steps, initial=state["step"], unit="steps", desc=run.name) as bar):
        while state["step"] < args.num_steps:
            state["step"] = step = state["step"] + 1
            optimizer.param_groups[0]["lr"] = learning_rate(step, args)
            keys, values, queries, targets = training_set.batch(step, args.batch_size, args.unanswerable_share)
            loss = retrieval_loss(model(keys, values, queries)[:, 0], targets)
            optimizer_step(model, optimizer, loss)
            state["loss_sum"] += loss.item()
            bar.update()
            if step % args.eval_interval == 0 or step == args.num_steps:
                row = run.log(step=step, train_loss=state["loss_sum"] / (step - run.steps_logged),
                              **evaluate(model, valid, args.visible_lengths),
                              learning_rate=optimizer.param_groups[0]["lr"])
                state["loss_sum"] = 0.0
                bar.set_postfix(train=f"{row['train_loss']:.4f}", accuracy=f"{row['accuracy']:.4f}")
            run.save_when_due(due=step == args.num_steps)


def main():
    args = parse("train_retrieval", __doc__)
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    run = Run("train_retrieval", vars(args), {}, describe_environment(device))
    if run.finished:
        accuracy = load_result(run.directory)["accuracy"]
        return print(f"{run.name}: finished before, accuracy {accuracy:.4f} with all pairs visible")

    torch.manual_seed(args.seed)
    model = build_retrieval_model(vars(args)).to(device)
    training_set = TrainingSet(draw(args, "train", args.train_dataset_size, device), args.visible_lengths, args.seed)
    if not training_set.answerable[0]:
        fail(f"none of the {args.train_dataset_size} samples has its gold pair among the last "
             f"{args.visible_lengths[0]}; raise --train_dataset_size or the shortest of --visible_lengths")
    train(args, run, model, training_set, draw(args, "valid", args.eval_contexts, device))
    last = run.history[-1]
    with run.measuring(len(args.visible_lengths)) as report:
        losses, accuracies = measure_grid(model, draw(args, "test", args.test_contexts, device), args.visible_lengths,
                                          report=report)
    result = {"train_dataset_size": args.train_dataset_size, "seed": args.seed, "steps": args.num_steps,
              "train_loss": last["train_loss"], "answerable_loss": last["answerable_loss"],
              "cut_off_loss": last["cut_off_loss"], "accuracy": accuracies[-1].mean().item(),
              "parameters": sum(p.numel() for p in model.parameters()), "seconds": last["seconds"]}
    run.finish(result, last=model.state_dict(), grid={
        "visible_lengths": args.visible_lengths, "cross_entropy": losses.cpu(), "accuracy": accuracies.cpu()})
    print(f"{run.name}: accuracy {result['accuracy']:.4f} with {args.visible_lengths[-1]} pairs visible, a cut-off "
          f"answer costs {f'{loss:.4f} nats' if (loss := last['cut_off_loss']) else 'nothing'}")


if __name__ == "__main__":
    run_main(main)
