"""A run of train.py is a directory; class Run names it, guards it, logs into it and keeps its checkpoints.

    args.json       arguments, data, model and environment of the run
    metrics.csv     one row an evaluation
    ckpt_last.pt    everything needed to go on; ckpt_prev.pt is the one before it; both go when the run has finished
    best.pt         weights with the lowest validation loss
    kept_N.pt       weights after N tokens, where --keep_tokens asks for them
    losses.pt       validation losses of those weights by position in the window, and with the full context
    tokenizer.json  of the corpus
    final.json      the result, written last
    lock            held by the process that is training here

A run has finished if and only if its final.json is there and its args.json asks for what is asked for now.
"""

import csv
import math
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from checkpoints import Checkpoints
from files import begins_anew, difference, load_json, load_tensors, lock, make_directory, save_json, save_tensors
from utils import StopSignal, again, describe_environment, fail, is_first_process, progress

RUN_FILES = ("final.json", "ckpt_last.pt", "ckpt_prev.pt", "best.pt", "losses.pt", "metrics.csv", "args.json",
             "tokenizer.json")
AXES = ("context_length", "train_tokens", "seed")  # of a sweep: what a run's directory is named by
# Arguments of the schedule, which may be tuned to each number of training tokens and context length.
SCHEDULE = {"max_iters", "lr_decay_iters", "warmup_iters", "eval_interval", "patience"}
METRICS = ("step", "tokens", "epochs", "learning_rate", "train_loss", "valid_loss", "tokens_per_second", "seconds")
# Arguments that say where and how a run is made, not what comes out of it (but for the last bits).
INCIDENTAL = {"config", "train_bin", "val_bin", "out_dir", "device", "threads", "batch_size", "compile",
              "gradient_accumulation_steps", "checkpoint_seconds", "overwrite", "dry_run", "dry_run_epochs", "wandb",
              "wandb_project", "init_from"}


def run_tag(context_length, train_tokens, seed):
    """The name of a run's directory, a function of the swept arguments alone."""
    return f"ctl{context_length}_tok{train_tokens}_seed{seed}"


def request_of(description):
    """What changes the result of a run, of the contents of its args.json: {name: value}."""
    arguments = {name: value for name, value in description["arguments"].items() if name not in INCIDENTAL}
    return {**arguments, **{f"{split} data": value for split, value in description["data"].items()},
            **description["model"]}


def other_arguments(run_dir, request):
    """In what the run of a directory was asked for something else, as text; None where it was not, or is not there."""
    path = Path(run_dir) / "args.json"
    if not path.exists():
        return None
    stored = request_of(load_json(path, "the arguments of the run"))
    if "auto" in (stored.get("dtype"), request.get("dtype")):  # which only a machine can resolve
        request = {**request, "dtype": stored.get("dtype")}
    return difference(stored, request)


def has_finished(run_dir, request):
    """Whether the run of a directory has finished; exits with code 2 if it was asked for something else."""
    other = other_arguments(run_dir, request)
    if other:
        fail(f"{run_dir} holds a run with {other}; add --overwrite to replace it, or choose another --out_dir")
    return all((Path(run_dir) / name).exists() for name in ("args.json", "final.json"))


def load_run(run_dir, device="cpu", weights="best.pt"):
    """The model of a run with its best weights, or those of another of its files, and the run's arguments.

    Exits with code 2 if the file is not there, as in a run that has not finished.
    """
    from model import GPT
    run_dir = Path(run_dir)
    description = load_json(run_dir / "args.json", "the arguments of the run")
    model = GPT(**description["model"]).to(device)
    model.load_state_dict(load_tensors(run_dir / weights, "weights (has the run finished?)", device))
    return model.eval(), description["arguments"]


def load_tokenizer(run_dir):
    """The tokenizer of a run's corpus; exits with code 2 if its file is missing or damaged."""
    from tokenizers import Tokenizer
    path = Path(run_dir) / "tokenizer.json"
    if not path.exists():
        fail(f"{path} is missing; copy it from beside the run's token files")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        fail(f"{path} is no tokenizer, or cut short ({error}); copy it from beside the run's token files")


class Run:
    """One run: `with Run(args, train_file, valid_file, shape, processes) as run`. Only the first process writes.

    args: those of train.py, complete; shape: the arguments of GPT. The state that a checkpoint holds: step, history
    (the rows of metrics.csv), best (one of them) and best_weights, stopped (None, "early" or "max_iters") and sums
    since the last row.
    """

    def __init__(self, args, train_file, valid_file, shape, processes):
        self.args, self.processes, self.tokenizer = args, processes, train_file.tokenizer
        self.directory = Path(args.out_dir) / run_tag(args.context_length, args.train_tokens, args.seed)
        self.description = {"arguments": vars(args), "model": shape,
                            "data": {"train": train_file.identity, "valid": valid_file.identity}}
        self.state = {"step": 0, "history": [], "best": None, "best_weights": None, "stopped": None, "loss_sum": 0.0,
                      "seconds": 0.0, "training_seconds": 0.0}
        self.checkpoints = Checkpoints(self.directory, args.checkpoint_seconds)
        self.open_things, self.on_row = ExitStack(), lambda row: None

    def __enter__(self):
        """Take the directory; refuses one that another process has, or that holds a run of other arguments."""
        if is_first_process():
            make_directory(self.directory)
            self.open_things.enter_context(lock(self.directory / "lock", "another process is training in "
                                                f"{self.directory}; wait for it, or choose another --out_dir"))
            for path in self.directory.glob("*.tmp"):  # what a killed process was writing
                path.unlink()
            about = self.directory / "args.json"
            if begins_anew(self.args.overwrite, about) or not about.exists():  # or what is left of a run half removed
                for path in (*(self.directory / name for name in RUN_FILES), *self.directory.glob("kept_*.pt")):
                    path.unlink(missing_ok=True)
            if not has_finished(self.directory, request_of(self.description)):
                environment = describe_environment(self.processes.device)
                save_json(about, {**self.description, "environment": environment,
                                  "slurm_job": os.environ.get("SLURM_JOB_ID")})
                shutil.copyfile(self.tokenizer, self.directory / "tokenizer.json")
        self.processes.wait()
        return self

    def __exit__(self, *_):
        self.checkpoints.wait()
        self.open_things.close()

    def result(self):
        """The contents of final.json, or None before the run has finished."""
        path = self.directory / "final.json"
        return load_json(path, "the result") if path.exists() else None

    def steps(self, trainer):
        """The numbers of the steps from the last checkpoint on until the run stops; saves between them.

        After the step in which SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C came, the run is saved and ends by that signal.
        """
        saved = self.checkpoints.load(trainer.device)
        if saved is not None:
            self.state = saved["state"]
            trainer.load(saved)
            del saved  # a copy of the weights, and of a memory
        self.clock = time.monotonic()
        with (StopSignal() as signal,
              open(self.directory / "metrics.csv" if is_first_process() else os.devnull, "w", newline="",
                   encoding="utf-8") as self.file,
              progress(total=self.args.max_iters, initial=self.state["step"], unit="step", desc=self.directory.name,
                       disable=not is_first_process()) as self.bar):
            self.metrics = csv.DictWriter(self.file, METRICS)
            self.metrics.writeheader()
            self.metrics.writerows(self.state["history"])
            while not self.state["stopped"]:
                self.step_began = time.monotonic()
                yield self.state["step"] + 1
                self.bar.update()
                self.save_if_due(trainer, signal)

    def save_if_due(self, trainer, signal):
        """Between two steps: save when it is time for it, when the run has stopped, and when a signal has come."""
        stopping = self.processes.any(signal.received)  # all processes end after the same step
        if is_first_process() and (stopping or self.state["stopped"] or self.checkpoints.are_due()):
            self.state["seconds"], self.clock = self.seconds(), time.monotonic()
            self.checkpoints.start({"state": self.state, **trainer.state()})
        if stopping or self.state["stopped"]:
            self.checkpoints.wait()
        if stopping:
            self.processes.wait()
            signal.end(f"saved after step {self.state['step']} in {self.directory}; {again()}")

    def seconds(self):
        """How long the run has taken, with what took it before it was killed and went on from a checkpoint."""
        return self.state["seconds"] + time.monotonic() - self.clock

    def refuse_infinite(self, what, *values):
        if not all(map(math.isfinite, values)):
            fail(f"the {what} became NaN or infinite in step {self.state['step'] + 1} of {self.directory}; the "
                 "checkpoint before it is kept; lower --learning_rate and begin again with --overwrite")

    def log_step(self, loss, gradient_norm):
        """Note the mean training loss of a step; ends the program where it or the gradient is not finite."""
        self.refuse_infinite("loss or its gradient", loss, gradient_norm)
        self.state["step"] += 1
        self.state["loss_sum"] += loss
        self.state["training_seconds"] += time.monotonic() - self.step_began

    def keep_if_asked(self, trainer):
        """Write the weights after the step in which one of --keep_tokens is reached."""
        seen = self.state["step"] * self.args.tokens_per_step
        for tokens in self.args.keep_tokens or ():
            if seen - self.args.tokens_per_step < tokens <= seen and is_first_process():
                from lora import merge
                save_tensors(self.directory / f"kept_{tokens}.pt", merge(trainer.model.state_dict()))

    def log_evaluation(self, valid_loss, trainer):
        """Note a validation loss, keep the weights if it is the lowest, and stop if it has long been higher."""
        args, state = self.args, self.state
        self.refuse_infinite("validation loss", valid_loss)
        step, tokens = state["step"], state["step"] * args.tokens_per_step
        steps = step - (state["history"][-1]["step"] if state["history"] else 0)
        row = {"step": step, "tokens": tokens, "epochs": round(tokens / args.train_tokens, 4),
               "learning_rate": trainer.learning_rate(step), "train_loss": state["loss_sum"] / steps,
               "valid_loss": valid_loss,
               "tokens_per_second": round(steps * args.tokens_per_step / state["training_seconds"]),
               "seconds": round(self.seconds(), 2)}
        state["history"].append(row)
        state["loss_sum"] = state["training_seconds"] = 0.0
        if state["best"] is None or valid_loss < state["best"]["valid_loss"]:
            state["best"] = row
            state["best_weights"] = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        since_best = len(state["history"]) - 1 - state["history"].index(state["best"])
        if since_best >= args.patience:
            state["stopped"] = "early"
        elif step == args.max_iters:
            state["stopped"] = "max_iters"
        self.metrics.writerow(row)
        self.file.flush()
        self.on_row(row)
        self.bar.set_postfix(train=f"{row['train_loss']:.4f}", valid=f"{valid_loss:.4f}",
                             best=f"{state['best']['valid_loss']:.4f}")

    def finish(self, result, by_position, full_context):
        """Write what the run gives, final.json last, and remove the checkpoints."""
        save_tensors(self.directory / "best.pt", self.state["best_weights"])
        save_tensors(self.directory / "losses.pt", {"by_position": by_position, "full_context": full_context})
        save_json(self.directory / "final.json", result)
        self.checkpoints.remove()
