"""What every script needs around its own work: one-line errors, files written whole or not at all, the device.

Torch is imported where it is used: tables and figures need none of it, and its import takes 2 s.
"""

import argparse
import json
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


def fail(message):
    """End the program with exit code 2 and one line on stderr."""
    tqdm.write(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr)  # clear of progress bars
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse with the habits of all scripts here: no abbreviations, and wrong use answered in one line."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")


def positive_int(text):
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def non_negative_int(text):
    """An argparse type: an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def non_negative_float(text):
    """An argparse type: a finite number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def make_directory(path):
    """Create a directory with its parents; exits with code 2 where nothing can be written. Returns a Path."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot create the directory {path}: {error.strerror}; choose another one")
    if not os.access(path, os.W_OK):
        fail(f"cannot write into the directory {path}; choose another one")
    return path


class StopSignal:
    """Takes note of SIGTERM and SIGUSR1 (Slurm's, before a time limit), so that a run can save before it ends."""

    def __init__(self):
        self.received = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self.note)

    def note(self, number, _):
        self.received = number

    def end(self):
        """End this process by the signal that it received."""
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)


@contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded, so that `path` is always whole.

    Exits with code 2 if the file cannot be written (a full disk, say); an older file at `path` then stays.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        fail(f"cannot write {path}: {error}; free some space or choose another place")


def save_tensors(path, contents):
    """Write a dictionary of tensors and plain values, whole or not at all."""
    import torch
    with replacing(path) as temporary, open(temporary, "wb") as file:  # given a path, torch writes its name inside
        torch.save(contents, file)


def load_tensors(path, what, device="cpu", mmap=False):
    """Read a dictionary written by save_tensors; exits with code 2 if it is missing, cut short or no such file."""
    import torch
    try:
        contents = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror or error}")
    except Exception as error:  # torch.load raises many types for a damaged file
        fail(f"{what} {path} is damaged or not a file of ours ({type(error).__name__}); make it again")
    if not isinstance(contents, dict):
        fail(f"{what} {path} holds no dictionary; make it again")
    return contents


def save_json(path, contents):
    """Write JSON, whole or not at all. NaN is refused: a missing value is null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(contents, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path, what):
    """Read JSON; exits with code 2 if the file is missing or malformed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")
    except ValueError as error:
        fail(f"{what} {path} is not JSON: {error}")


def choose_device(name):
    """Turn --device into a torch.device: "auto" is the GPU if there is one; exits with code 2 if it is absent."""
    import torch
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        fail(f"--device {name} is not known to torch; use auto, cpu or cuda")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        fail(f"--device {name} was asked for but torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device
