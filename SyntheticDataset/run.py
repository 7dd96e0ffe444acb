"""A run of train_model.py is a directory; this module names it, describes it and finds it again.

    args.json      arguments, data and environment of the run
    metrics.csv    one row an epoch
    ckpt_last.pt   everything needed to go on; gone when the run has finished
    best.pt        weights of the epoch with the lowest validation loss
    last.pt        weights of the last epoch
    final.json     the result, written last: the run has finished if and only if it is there
    lock           held by the process that is training here
"""

import fcntl
import os
import platform
import subprocess
from pathlib import Path

from utils import fail, load_json, make_directory, save_json

RUN_FILES = ("final.json", "ckpt_last.pt", "best.pt", "last.pt", "metrics.csv", "args.json")
MODELS = ("mlp", "bi_mlp", "transformer")
# Arguments that say where and how a run is made, not what comes out of it.
INCIDENTAL = {"training_data_position", "validation_data_position", "save_position", "device", "threads",
              "checkpoint_seconds", "overwrite"}


def run_tag(model, context_length, train_dataset_size, weight_decay, seed):
    """The name of a run's directory, a function of the swept arguments alone."""
    return f"{model}_ctl{context_length}_train{train_dataset_size}_wd{weight_decay:g}_seed{seed}"


def hardware(device):
    """The name of the GPU, or of the processor and how many cores it has here."""
    if device.type == "cuda":
        import torch
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def describe_environment(device):
    """Versions, commit (None without git, with -dirty if files differ from it) and hardware, for args.json."""
    import numpy as np
    import torch
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = git.stdout.strip() if git.returncode == 0 else None
    except OSError:  # no git on this machine
        commit = None
    return {
        "git_commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
    }


def lock(run_dir):
    """Take the run directory for this process; keep the file returned open. Exits with code 2 if another one has it.

    The operating system frees the lock of a process that has died, however it died.
    """
    file = open(run_dir / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"another process is training in {run_dir}; wait for it, or choose another --save_position")
    for path in run_dir.glob("*.tmp"):  # what a killed process was writing
        path.unlink()
    return file


def refuse_other_arguments(run_dir, description):
    """Exit with code 2 if the directory holds a run whose result-changing arguments or data were others."""
    path = run_dir / "args.json"
    if not path.exists():
        return
    old = load_json(path, "the arguments of the run")
    for part in ("arguments", "data"):
        for name, value in description[part].items():
            if name not in INCIDENTAL and old.get(part, {}).get(name) != value:
                fail(f"{run_dir} holds a run with {name} {old.get(part, {}).get(name)}, not {value}; "
                     "add --overwrite to replace it, or choose another --save_position")


def begin(run_dir, description, overwrite):
    """Take the run directory for this run: its lock, to be kept, and the result if it has finished before, else None.

    Exits with code 2 where another process trains there, or it holds a run of other arguments or data.
    """
    make_directory(run_dir)
    locked = lock(run_dir)
    if overwrite:
        for name in RUN_FILES:
            (run_dir / name).unlink(missing_ok=True)
    refuse_other_arguments(run_dir, description)
    if (run_dir / "final.json").exists():
        return locked, load_json(run_dir / "final.json", "the result")
    save_json(run_dir / "args.json", description)
    return locked, None
