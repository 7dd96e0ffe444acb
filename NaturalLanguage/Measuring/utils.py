"""What the scripts of this folder share around their own work: one-line errors, argument types, whole files, device."""

import argparse
import fcntl
import json
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


def say(message):
    """Print a line beside the progress bars (under torchrun, from the first process alone)."""
    if os.environ.get("RANK", "0") == "0":
        tqdm.write(message)


def fail(message):
    """End the program with exit code 2 and one line on stderr (under torchrun, from the first process alone)."""
    if os.environ.get("RANK", "0") == "0":
        tqdm.write(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")


def number(kind, least, most=float("inf")):
    """An argparse type: an int or a float of at least `least` and at most `most`."""
    def parse(text):
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {least}"
                                             + (f" and at most {most}" if most < float("inf") else ""))
        return value
    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


positive_int, non_negative_int = number(int, 1), number(int, 0)


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


@contextmanager
def lock(path, wait=False):
    """Hold a lock file; exits with code 2 if another process has it, or waits. A dead process holds none."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            fail(f"another process is at work in {Path(path).parent}; wait for it, or choose another directory")
        yield


@contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded; a full disk ends with code 2."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        fail(f"cannot write {path}: {error}; free some space or choose another place, what was there before is kept")


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


def save_tensors(path, contents):
    """Write tensors, whole or not at all."""
    import torch
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(contents, file)


def load_tensors(path, what, **options):
    """Read what torch.save wrote, code excluded; exits with code 2 if it is missing or cut short."""
    import torch
    if not Path(path).is_file():
        fail(f"there is no {what} {path}")
    try:
        return torch.load(path, weights_only=True, map_location="cpu", **options)
    except Exception as error:  # a damaged file raises many types
        fail(f"{what} {path} cannot be read, it is damaged or cut short ({type(error).__name__}); delete it and make "
             "it again")


def choose_device(name):
    """--device as a torch.device: "auto" is this process's GPU if there is one; exits with code 2 if it is absent."""
    import torch
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        fail(f"--device {name} is none that these scripts know; use auto, cpu or cuda")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            fail(f"--device {name} needs GPU {device.index}, torch sees {torch.cuda.device_count()}; use --device cpu")
        torch.cuda.set_device(device)
    return device


def describe_environment(device):
    """Versions, commit (None without git, with -dirty if files differ from it) and hardware, for the results."""
    import torch
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = git.stdout.strip() if git.returncode == 0 else None
    except OSError:  # no git on this machine
        commit = None
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines()
                 if line.startswith("model name")] if cpuinfo.exists() else []
        hardware = f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
    return {"git_commit": commit, "python": platform.python_version(), "torch": torch.__version__,
            "hardware": hardware, "threads": torch.get_num_threads()}
