"""A run of train.py is a directory; this module names it, guards it, and keeps its checkpoints.

    args.json       arguments, data, model and environment of the run
    metrics.csv     one row an evaluation
    ckpt_last.pt    everything needed to go on; ckpt_prev.pt is the one before it; both go when the run has finished
    best.pt         weights with the lowest validation loss
    losses.pt       validation losses of those weights by position in the window, and with the full context
    tokenizer.json  of the corpus
    final.json      the result, written last: the run has finished if and only if it is there
    lock            held by the process that is training here
"""

import fcntl
import os
import sys
import zipfile

import torch
from tqdm import tqdm

from utils import fail, load_json, replacing

RUN_FILES = ("final.json", "ckpt_last.pt", "ckpt_prev.pt", "best.pt", "losses.pt", "metrics.csv", "args.json",
             "tokenizer.json")
# Arguments that say where and how a run is made, not what comes out of it (but for the last bits).
INCIDENTAL = {"config", "train_bin", "val_bin", "out_dir", "device", "threads", "batch_size", "compile",
              "gradient_accumulation_steps", "checkpoint_seconds", "overwrite", "wandb", "wandb_project"}


def run_tag(context_length, train_tokens, seed):
    """The name of a run's directory, a function of the swept arguments alone."""
    return f"ctl{context_length}_tok{train_tokens}_seed{seed}"


def lock(run_dir):
    """Take the run directory for this process; keep the file returned open. Exits with code 2 if another one has it.

    The operating system frees the lock of a process that has died, however it died.
    """
    file = open(run_dir / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"another process is training in {run_dir}; wait for it, or choose another --out_dir")
    for path in run_dir.glob("*.tmp"):  # what a killed process was writing
        path.unlink()
    return file


def refuse_other_arguments(run_dir, description):
    """Exit with code 2 if the directory holds a run whose result-changing arguments, data or model were others."""
    if not (run_dir / "args.json").exists():
        return
    old = load_json(run_dir / "args.json", "the arguments of the run")
    for part in ("arguments", "data", "model"):
        for name, value in description[part].items():
            if name not in INCIDENTAL and old.get(part, {}).get(name) != value:
                fail(f"{run_dir} holds a run with {name} {old.get(part, {}).get(name)}, not {value}; "
                     "add --overwrite to replace it, or choose another --out_dir")


def save_tensors(path, contents):
    """Write a dictionary of tensors and plain values, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(contents, file)


def read_tensors(path, device):
    """Read a dictionary of save_tensors, or None if the file is damaged (torch.load does not look at the checksums)."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, map_location=device, weights_only=True)
    except Exception:  # a damaged file raises many types
        return None


def load_tensors(path, what, device="cpu"):
    """Read a dictionary of save_tensors; exits with code 2 if it is missing or damaged."""
    if not path.exists():
        fail(f"there is no {what} {path}; train the run to its end first")
    contents = read_tensors(path, device)
    if contents is None:
        fail(f"{what} {path} is damaged; train the run again with --overwrite")
    return contents


def save_checkpoint(run_dir, contents):
    """Write ckpt_last.pt, the former one becoming ckpt_prev.pt; a full disk costs neither."""
    with replacing(run_dir / "ckpt_last.pt") as temporary:
        with open(temporary, "wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        if (run_dir / "ckpt_last.pt").exists():
            os.replace(run_dir / "ckpt_last.pt", run_dir / "ckpt_prev.pt")


def load_checkpoint(run_dir, device):
    """The last whole checkpoint, or None if there has been none; says so when it had to take the one before.

    Exits with code 2 if there are only damaged ones.
    """
    paths = [path for path in (run_dir / "ckpt_last.pt", run_dir / "ckpt_prev.pt") if path.exists()]
    for path in paths:
        contents = read_tensors(path, device)
        if contents is not None:
            return contents
        if os.environ.get("RANK", "0") == "0":
            tqdm.write(f"{path} is damaged and not used", file=sys.stderr)
    if paths:
        fail(f"no checkpoint in {run_dir} is whole; add --overwrite to begin again")
    return None
