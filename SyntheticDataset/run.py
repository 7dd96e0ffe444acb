"""A training run is a directory; this module names it, keeps its state and finds it again.

    args.json      "request": trainer, arguments and data that make the result; "settings" that do not; "environment";
                   "slurm_job" that began it here
    metrics.csv    one row an evaluation
    ckpt_last.pt   everything needed to go on; gone when the run has finished
    best.pt        weights of the epoch with the lowest validation loss (train_model.py)
    last.pt        weights at the end
    grid.pt        what was measured by visible length and gold position (train_retrieval.py)
    final.json     the result, written last: the run has finished if it is there and args.json holds the request
    lock           held by the process that is training here
"""

import csv
import math
import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from files import (begins_anew, current, difference, load_json, load_tensors, lock, make_directory, save_json,
                   save_tensors)
from utils import StopSignal, again, fail, progress

RUN_FILES = ("final.json", "ckpt_last.pt", "best.pt", "last.pt", "grid.pt", "metrics.csv", "args.json")
# Arguments that say where and how a run is made, not what comes out of it; of a task definition the contents count.
SETTINGS = ("training_data_position", "validation_data_position", "task_definition", "save_position", "device",
            "threads", "checkpoint_seconds", "overwrite")
TAGS = {
    "train_model": "{model}_ctl{context_length}_train{train_dataset_size}_wd{weight_decay:g}_seed{seed}",
    "train_transformer": "transformer_bits{context_bits}_width{width}_layers{n_layer}_seed{seed}",
    "train_retrieval": "retrieval_train{train_dataset_size}_seed{seed}",
}


def run_tag(trainer, arguments):
    """The name of a run's directory, a function of the trainer and the swept arguments alone."""
    return TAGS[trainer].format(**arguments)


def request_of(trainer, arguments, data):
    """What makes a run's result: the trainer, its arguments but for SETTINGS, and what describes the data."""
    arguments = {name: value for name, value in arguments.items() if name not in SETTINGS}
    return {"trainer": trainer, "arguments": arguments, "data": data}


def has_finished(run_dir, request):
    """Whether a directory holds the finished run of this request."""
    return (Path(run_dir) / "final.json").exists() and current(Path(run_dir) / "args.json", request)


def load_result(run_dir):
    """The contents of a finished run's final.json."""
    return load_json(Path(run_dir) / "final.json", "the result")


def load_request(run_dir):
    """The request of the run in a directory; exits with code 2 if there is none."""
    request = load_json(Path(run_dir) / "args.json", "the arguments of the run").get("request")
    if not isinstance(request, dict) or request.keys() != {"trainer", "arguments", "data"}:
        fail(f"{run_dir}/args.json is not that of a run of this version; train it again with --overwrite")
    return request


def other_arguments(run_dir, request, swept=()):
    """What is other in the run of a directory than in a request: "NAME VALUE, not VALUE"; None if there is nothing.

    swept: names of the arguments that do not count.
    """
    if not (Path(run_dir) / "args.json").exists():
        return None
    old = load_request(run_dir)
    arguments = [{name: value for name, value in each["arguments"].items() if name not in swept}
                 for each in (old, request)]
    return difference(*arguments) or difference(old["data"], request["data"])


def started_runs(root, trainer):
    """The directories below `root` in which this trainer has begun a run, in the order of their names."""
    found = [path.parent for path in sorted(Path(root).glob("*/args.json"))]
    return [run_dir for run_dir in found if load_request(run_dir)["trainer"] == trainer]


class Run:
    """A run's directory, taken for this process: its lock, request, history, checkpoint, clock and signals.

    A trainer gives `resume` its state, a dictionary with what is to be kept beside the weights, among it "history", the
    rows of metrics.csv. Its loop calls `log` at every evaluation and `save_when_due` after every step; what it measures
    after the last step it measures in a block of `measuring`, and at the end the trainer calls `finish`.
    """

    def __init__(self, trainer, arguments, data, environment):
        """arguments: all of the trainer's, as a dictionary. Exits with code 2 where another process trains here, or the
        directory holds a run of another request and `overwrite` is not among the arguments. A requeued Slurm job
        overwrites in its first life alone."""
        self.request = request_of(trainer, arguments, data)
        self.directory = make_directory(Path(arguments["save_position"]) / run_tag(trainer, arguments))
        self.lock = ExitStack()  # held as long as this object
        self.lock.enter_context(lock(self.directory / "lock", "another process is training in "
                                     f"{self.directory}; wait for it, or choose another --save_position"))
        for path in self.directory.glob("*.tmp"):  # what a killed process was writing
            path.unlink()
        if begins_anew(arguments["overwrite"], self.directory / "args.json"):
            for name in RUN_FILES:
                (self.directory / name).unlink(missing_ok=True)
        if other := other_arguments(self.directory, self.request):
            fail(f"{self.directory} holds a run with {other}; add --overwrite to replace it, or choose another "
                 "--save_position")
        self.finished = has_finished(self.directory, self.request)
        if not self.finished:
            settings = {name: str(arguments[name]) for name in SETTINGS if name in arguments}
            save_json(self.directory / "args.json", {"request": self.request, "settings": settings,
                                                     "environment": environment,
                                                     "slurm_job": os.environ.get("SLURM_JOB_ID")})
        self.checkpoint_seconds, self.seconds_before, self.signal = arguments["checkpoint_seconds"], 0.0, None
        self.started = self.saved_at = time.monotonic()

    @property
    def name(self):
        return self.directory.name

    def resume(self, state, model, optimizer):
        """Put the last checkpoint, if there is one, into the three of them; the clock goes on from there.

        They are what save_when_due saves from now on. Exits with code 2 if the checkpoint lacks a part of them.
        """
        self.state, self.model, self.optimizer = state, model, optimizer
        checkpoint = self.directory / "ckpt_last.pt"
        if checkpoint.exists():
            saved = load_tensors(checkpoint, "the checkpoint", next(model.parameters()).device)
            if not {*state, "weights", "optimizer", "seconds"} <= saved.keys():
                fail(f"{checkpoint} is not that of a run of this version; train it again with --overwrite")
            state.update({name: saved[name] for name in state})
            model.load_state_dict(saved["weights"])
            optimizer.load_state_dict(saved["optimizer"])
            self.seconds_before = saved["seconds"]
        self.started, self.signal = time.monotonic(), StopSignal()

    @property
    def seconds(self):
        """Seconds of training, those before interruptions included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def history(self):
        """The rows of metrics.csv so far, a list of dictionaries."""
        return self.state["history"]

    @property
    def steps_logged(self):
        """The step of the last evaluation, 0 before the first."""
        return self.history[-1]["step"] if self.history else 0

    def open_metrics(self, columns):
        """Write metrics.csv anew with the rows so far; the file to be closed."""
        self.metrics_file = open(self.directory / "metrics.csv", "w", newline="", encoding="utf-8")
        self.metrics = csv.DictWriter(self.metrics_file, columns)
        self.metrics.writeheader()
        self.write_metrics(*self.history)
        return self.metrics_file

    def write_metrics(self, *rows):
        """Add rows to metrics.csv; exits with code 2 if the disk is full."""
        try:
            self.metrics.writerows(rows)
            self.metrics_file.flush()
        except OSError as error:
            fail(f"cannot write into {self.directory}: {error.strerror}; free some space and {again()}")

    def log(self, **values):
        """Add an evaluation, and the seconds so far, to the history and to metrics.csv. Returns the row.

        Exits with code 2 at a value that is NaN or infinite; the checkpoint before it stays.
        """
        if not all(value is None or math.isfinite(value) for value in values.values()):
            fail(f"the loss became NaN or infinite before step {values['step']} of {self.directory}; lower "
                 "--learning_rate and add --overwrite")
        row = {**values, "seconds": round(self.seconds, 2)}
        self.history.append(row)
        self.write_metrics(row)
        return row

    def patience_is_over(self, best, epochs, steps):
        """Whether the last row is so many epochs and so many steps behind `best`, the row of the lowest loss.

        Parity is learned after a plateau of hundreds of steps, on which the validation loss does not fall although
        nothing overfits yet; so epochs alone are not enough where an epoch has few steps.
        """
        last = self.history[-1]
        return last["epoch"] - best["epoch"] >= epochs and last["step"] - best["step"] >= steps

    def save_when_due(self, due=False):
        """Save a checkpoint if `due`, after --checkpoint_seconds, or before ending by a signal received."""
        if not (due or self.signal.received or time.monotonic() - self.saved_at >= self.checkpoint_seconds):
            return
        self.saved_at = time.monotonic()
        save_tensors(self.directory / "ckpt_last.pt", {
            **self.state, "weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds})
        if self.signal.received:
            self.signal.end(f"{self.name} is saved; {again()}")

    @contextmanager
    def measuring(self, total):
        """A bar over `total` lengths; gives a function of how many more are measured, at which a signal is heeded."""
        def report(n):
            bar.update(n)
            self.save_when_due()

        with progress(total=total, unit="lengths", desc="measuring") as bar:
            yield report

    def finish(self, result, **weights):
        """Write the weights, best and last, and then the result."""
        for name, state_dict in weights.items():
            save_tensors(self.directory / f"{name}.pt", state_dict)
        save_json(self.directory / "final.json", result)
        (self.directory / "ckpt_last.pt").unlink(missing_ok=True)
