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

import math

import torch

from mlp import build_model
from run import Run
from samples import load_samples
from tasks import bayes_risk
from training import check_heads, epoch_order, evaluate, train_step, training_parser
from utils import choose_device, describe_environment, fail, progress, run_main

METRICS = ("epoch", "step", "train_loss", "valid_loss", "solvable_loss", "unsolvable_loss", "seconds")


def patience_is_over(row, best, args):
    """Whether both patiences have run out since the best epoch, --early_stopping and --early_stopping_steps.

    Parity is learned after a plateau of hundreds of steps, on which the validation loss does not fall although nothing
    overfits yet; so epochs alone are not enough where an epoch has few steps.
    """
    return (row["epoch"] - best["epoch"] >= args.early_stopping
            and row["step"] - best["step"] >= args.early_stopping_steps)


def train(args, run, model, train_samples, valid_samples):
    """Train until the validation loss has stopped falling, or --num_epochs. Returns the state of the finished run."""
    device, n = train_samples.bits.device, len(train_samples.bits)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay, fused=True)
    state = {"history": [], "best": None, "best_weights": None, "stopped": None,
             "batches": 0, "loss_sum": torch.zeros((), dtype=torch.float64, device=device)}  # of the epoch begun
    saved = run.resume(device)
    if saved:
        state = saved["state"]
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    history = state["history"]

    def snapshot():
        return {"state": state, "weights": model.state_dict(), "optimizer": optimizer.state_dict()}

    with (run.open_metrics(METRICS, history),
          progress(total=args.num_epochs, initial=len(history), unit="epochs", desc=run.name) as bar):
        while not state["stopped"]:
            epoch = len(history) + 1
            batches = epoch_order(n, args.seed, epoch, device).split(args.batch_size)
            for rows in batches[state["batches"]:]:
                state["loss_sum"] += train_step(model, optimizer, train_samples, rows)
                state["batches"] += 1
                run.save_when_due(snapshot)
            metrics = evaluate(model, valid_samples, args.context_length)
            row, task_losses = end_epoch(state, epoch, len(batches), metrics, n, run)
            run.log(row)
            if state["best"] is None or row["valid_loss"] < state["best"]["valid_loss"]:
                state["best"] = {**row, "task_losses": task_losses}
                state["best_weights"] = {name: value.clone() for name, value in model.state_dict().items()}
            if patience_is_over(row, state["best"], args):
                state["stopped"] = "early"
            elif epoch == args.num_epochs:
                state["stopped"] = "num_epochs"
            run.save_when_due(snapshot, due=bool(state["stopped"]))
            bar.update()
            bar.set_postfix(train=f"{row['train_loss']:.4f}", valid=f"{row['valid_loss']:.4f}",
                            best=f"{state['best']['valid_loss']:.4f}")
    return state


def end_epoch(state, epoch, n_batches, metrics, n, run):
    """Add the epoch's row to the history and begin a new epoch. Returns the row and the loss of each subtask."""
    history, loss_sum = state["history"], state["loss_sum"].item()
    if not math.isfinite(loss_sum) or not math.isfinite(metrics["valid_loss"]):
        fail(f"the loss became NaN or infinite in epoch {epoch} of {run.directory}; lower --learning_rate and add "
             "--overwrite")
    state["batches"] = 0
    state["loss_sum"].zero_()
    task_losses = metrics.pop("task_losses")
    history.append({"epoch": epoch, "step": (history[-1]["step"] if history else 0) + n_batches,
                    "train_loss": loss_sum / n, **metrics, "seconds": round(run.seconds, 2)})
    return history[-1], task_losses


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
    args = training_parser(__doc__).parse_args()
    check_heads(args.width, args.n_head)
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
        return print(f"{run.name}: finished before, validation loss {run.result()['best_valid_loss']:.4f}")

    torch.manual_seed(args.seed)
    model = build_model(vars(args), args.context_length, len(train_samples.tasks)).to(device)
    state = train(args, run, model, train_samples, valid_samples)
    result = summarise(args, state, train_samples.tasks)
    run.finish(result, best=state["best_weights"], last=model.state_dict())
    print(f"{run.name}: validation loss {result['best_valid_loss']:.4f} at epoch {result['best_epoch']}, "
          f"Bayes risk {result['bayes_risk']:.4f}, training loss there {result['best_train_loss']:.4f}")


if __name__ == "__main__":
    run_main(main)
