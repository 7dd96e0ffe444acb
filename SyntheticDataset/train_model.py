"""Train an MLP, Bi-MLP or transformer on the first bits of the first samples (paper section 4; Appendix F).

    python train_model.py --context_length 36 --train_dataset_size 85000                  # the GPU if there is one
    python train_model.py --context_length 36 --train_dataset_size 85000 --device cuda:1
    python train_model.py --context_length 36 --use_bi_mlp                                # on all training samples
    python train_model.py --context_length 36 --model transformer --batch_size 128

Writes SAVE_POSITION/TAG/ (see run.py). Started again, a finished run is skipped and an interrupted one goes on from
its last checkpoint to the same result. Cross entropies are in nats, means over all samples; weights are those of the
epoch with the lowest validation loss. The approximation loss is that validation loss minus the Bayes risk, and has two
parts: subtasks that could be solved and are not, and subtasks that cannot be solved and cost more than log 2.
"""

from utils import choose_device, describe_environment, fail, progress, run_main

import torch

from mlp import build_model
from run import Run, load_result
from samples import load_samples
from settings import parse
from tasks import bayes_risk
from training import epoch_order, evaluate, train_step

METRICS = ("epoch", "step", "train_loss", "valid_loss", "solvable_loss", "unsolvable_loss", "seconds")


def train(args, run, model, train_samples, valid_samples):
    """Train until the validation loss has stopped falling, or --num_epochs. Returns the state of the finished run."""
    device, n = train_samples.bits.device, len(train_samples.bits)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay, fused=True)
    state = {"history": [], "best": None, "best_weights": None, "stopped": None,
             "batches": 0, "loss_sum": torch.zeros((), dtype=torch.float64, device=device)}  # of the epoch begun
    run.resume(state, model, optimizer)
    with (run.open_metrics(METRICS),
          progress(total=args.num_epochs, initial=len(run.history), unit="epochs", desc=run.name) as bar):
        while not state["stopped"]:
            epoch = len(run.history) + 1
            batches = epoch_order(n, args.seed, epoch, device).split(args.batch_size)
            for rows in batches[state["batches"]:]:
                state["loss_sum"] += train_step(model, optimizer, train_samples, rows)
                state["batches"] += 1
                run.save_when_due()
            metrics = evaluate(model, valid_samples, args.context_length)
            task_losses = metrics.pop("task_losses")
            row = run.log(epoch=epoch, step=run.steps_logged + len(batches), train_loss=state["loss_sum"].item() / n,
                          **metrics)
            state["batches"] = 0
            state["loss_sum"].zero_()
            if state["best"] is None or row["valid_loss"] < state["best"]["valid_loss"]:
                state["best"] = {**row, "task_losses": task_losses}
                state["best_weights"] = {name: value.clone() for name, value in model.state_dict().items()}
            if run.patience_is_over(state["best"], args.early_stopping, args.early_stopping_steps):
                state["stopped"] = "early"
            elif epoch == args.num_epochs:
                state["stopped"] = "num_epochs"
            run.save_when_due(due=bool(state["stopped"]))
            bar.update()
            bar.set_postfix(train=f"{row['train_loss']:.4f}", valid=f"{row['valid_loss']:.4f}",
                            best=f"{state['best']['valid_loss']:.4f}")
    return state


def summarise(args, state, tasks):
    """The contents of final.json: the swept arguments, the best and the last epoch, and the parts of the loss."""
    best, last = state["best"], state["history"][-1]
    risk = bayes_risk(tasks, args.context_length)
    result = {name: getattr(args, name)
              for name in ("model", "context_length", "train_dataset_size", "weight_decay", "seed")}
    result.update(stopped=state["stopped"], bayes_risk=risk)
    for name, row in (("best", best), ("last", last)):
        result.update({f"{name}_epoch": row["epoch"], f"{name}_step": row["step"],
                       f"{name}_train_loss": row["train_loss"], f"{name}_valid_loss": row["valid_loss"],
                       f"{name}_approximation_loss_solvable": row["solvable_loss"],
                       f"{name}_approximation_loss_unsolvable": row["unsolvable_loss"] - risk})
    result.update(seconds=last["seconds"], task_losses=best["task_losses"])
    return result


def main():
    args = parse("train_model", __doc__)
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    train_samples = load_samples(args.training_data_position, args.train_dataset_size, args.context_length, device)
    valid_samples = load_samples(args.validation_data_position, args.valid_dataset_size, args.context_length, device)
    if valid_samples.source != train_samples.source:
        fail(f"{args.training_data_position} and {args.validation_data_position} are of different tasks, bits or "
             "seeds; make both with one call of generate_data.py")
    args.train_dataset_size, args.valid_dataset_size = len(train_samples.bits), len(valid_samples.bits)
    run = Run("train_model", vars(args), train_samples.source, describe_environment(device))
    if run.finished:
        loss = load_result(run.directory)["best_valid_loss"]
        return print(f"{run.name}: finished before, validation loss {loss:.4f}")

    torch.manual_seed(args.seed)
    model = build_model(vars(args), args.context_length, len(train_samples.tasks)).to(device)
    state = train(args, run, model, train_samples, valid_samples)
    result = summarise(args, state, train_samples.tasks)
    run.finish(result, best=state["best_weights"], last=model.state_dict())
    print(f"{run.name}: validation loss {result['best_valid_loss']:.4f} at epoch {result['best_epoch']}, "
          f"Bayes risk {result['bayes_risk']:.4f}, training loss there {result['best_train_loss']:.4f}")


if __name__ == "__main__":
    run_main(main)
