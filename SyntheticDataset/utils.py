"""What every script of this folder needs around its own work: errors in one line, argument types, progress, signals,
files that are written whole or not at all, the rule for what is up to date, and the device.

Torch is imported where it is used: tables and figures need none of it, and its import takes two seconds.
"""

import argparse
import csv
import fcntl
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

LINE_INTERVAL = 30.0  # seconds between two lines of progress where stderr is not a terminal
OPEN_BARS = []


# Errors, arguments and interruption

def say(message):
    """Print a line on stdout, clear of progress bars."""
    tqdm.write(str(message), file=sys.stdout)
    sys.stdout.flush()


def print_last(message):
    """Print one line on stderr, the last one: open bars are closed before it."""
    for bar in OPEN_BARS[::-1]:
        bar.leave = False
        bar.close()
    print(message, file=sys.stderr, flush=True)


def fail(message):
    """End the program with exit code 2 and one line on stderr, the last one."""
    print_last(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}")
    raise SystemExit(2)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it stands, and behind the help of every flag its default, where that says something."""

    def _get_help_string(self, action):
        silent = any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS))
        silent = silent or not action.option_strings or "default" in (action.help or "")
        return action.help if silent else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """argparse with the habits of all scripts here: no abbreviations, defaults shown, errors in one line."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False, formatter_class=HelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")


def argument_type(convert, accepts, wanted):
    """An argparse type: what `convert` makes of a text, if it `accepts` the value; `wanted` says what is accepted."""
    def parse(text):
        try:
            value = convert(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value
    return parse


positive_int = argument_type(int, lambda value: value >= 1, "an integer of at least 1")
non_negative_int = argument_type(int, lambda value: value >= 0, "an integer of at least 0")
positive_float = argument_type(float, lambda value: 0 < value < float("inf"), "a number above 0")
non_negative_float = argument_type(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
fraction = argument_type(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")
seed = argument_type(int, lambda value: 0 <= value < 2**63, "an integer from 0 to 2^63 - 1")


def run_main(main):
    """Call a script's main(); Ctrl-C in what has no state to save is one line and exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print_last("interrupted; start the same command again, it goes on")
        raise SystemExit(130) from None


class StopSignal:
    """Takes note of SIGTERM, SIGUSR1 (Slurm's, before a time limit) and Ctrl-C, so that a run saves before it ends."""

    def __init__(self):
        self.received = None
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self.note)

    def note(self, number, _):
        self.received = number

    def end(self, message):
        """Print one line, which says what was saved and how to go on, and end this process by the signal received."""
        print_last(message)
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)


# Progress

class Bar(tqdm):
    """tqdm that is known to `fail`, which closes it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        OPEN_BARS.append(self)

    def close(self):
        super().close()
        if self in OPEN_BARS:
            OPEN_BARS.remove(self)


class Lines:
    """What is used here of tqdm's interface, for a stderr that is no terminal: a line now and then, one at the end."""

    def __init__(self, iterable, total, desc, unit, initial, leave):
        self.iterable, self.desc, self.unit, self.n, self.leave = iterable, desc, unit, initial, leave
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.initial, self.postfix, self.started = initial, "", time.monotonic()
        self.printed = self.started
        OPEN_BARS.append(self)

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def print(self):
        self.printed = time.monotonic()
        rate = (self.n - self.initial) / max(self.printed - self.started, 1e-9)
        of_total = f"/{self.total}" if self.total is not None else ""
        print(f"{self.desc or 'progress'}: {self.n}{of_total} {self.unit}, {rate:.3g} a second{self.postfix}",
              file=sys.stderr, flush=True)

    def update(self, n=1):
        self.n += n
        if time.monotonic() - self.printed >= LINE_INTERVAL:
            self.print()

    def set_postfix(self, **values):
        self.postfix = "".join(f", {name}={value}" for name, value in values.items())

    def close(self):
        if self in OPEN_BARS:
            OPEN_BARS.remove(self)
            if self.leave:
                self.print()


def progress(iterable=None, total=None, desc=None, unit="it", initial=0, leave=True, disable=False):
    """A bar on a terminal; else a plain line of progress at most every LINE_INTERVAL seconds, and one at the end."""
    if disable or sys.stderr.isatty():
        return Bar(iterable, total=total, desc=desc, unit=unit, initial=initial, leave=leave, disable=disable,
                   unit_scale=(total or 0) >= 1_000_000)
    return Lines(iterable, total, desc, unit, initial, leave)


# Files

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
    """Write JSON, whole or not at all, with lists of numbers on one line. NaN is refused: a missing value is null."""
    text = json.dumps(contents, indent=1, allow_nan=False)
    text = re.sub(r'\[\n([^\[\]{}"]*)\n *\]', lambda match: f"[{' '.join(match[1].split())}]", text)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load_json(path, what):
    """Read a JSON object; exits with code 2 if the file is missing, malformed or holds something else."""
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")
    except ValueError as error:
        fail(f"{what} {path} is not JSON: {error}")
    if not isinstance(contents, dict):
        fail(f"{what} {path} holds no JSON object; make it again")
    return contents


def write_csv(path, rows):
    """Write dictionaries with the same keys as CSV, whole or not at all; None is an empty field."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path, columns=(), remedy="make it again"):
    """Read a CSV file, as users have it, with at least these columns: a list of dictionaries of texts.

    A byte order mark is skipped, and the separator (comma, semicolon or tab) is that of the header. Exits with code 2
    and one line if the file cannot be read, lacks a column, has no rows or has one with another number of fields.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}; {remedy}")
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8")
    separators = [mark for mark in ",;\t" if lines and mark in lines[0]] or [","]
    if len(separators) > 1:
        fail(f"the header of {path} has several of comma, semicolon and tab; separate its columns by one of them")
    rows = list(csv.DictReader(lines, delimiter=separators[0]))
    missing = [name for name in columns if not rows or name not in rows[0]]
    if not rows or missing:
        fail(f"{path} has no {'column ' + ', '.join(missing) if rows else 'rows'}; {remedy}")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            fail(f"line {number} of {path} has another number of fields than its header; {remedy}")
    return rows


def lock(path, refusal):
    """Take a file for this process; keep what is returned open. Exits with code 2 and `refusal` if another one has it.

    The operating system frees the lock of a process that has died, however it died.
    """
    file = open(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(refusal)
    return file


# What is up to date

def identity(path, what="the file"):
    """The SHA-256 of a file's bytes, to name it in a request; exits with code 2 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")


def current(path, request):
    """Whether the file at `path` (.json or .pt) is whole and was made by this request, which is stored in it.

    A request is a dictionary of plain values: the arguments that change the result and the identity of the inputs.
    """
    try:
        if Path(path).suffix == ".json":
            stored = json.loads(Path(path).read_text(encoding="utf-8"))["request"]
        else:
            import torch
            stored = torch.load(path, weights_only=True, mmap=True)["request"]
    except Exception:  # missing, cut short, or a file of another kind: to be made
        return False
    return stored == json.loads(json.dumps(request))


# The machine

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
    """Versions, commit (None without git, with -dirty if files differ from it) and hardware, for what a run writes."""
    import numpy
    import torch
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = git.stdout.strip() if git.returncode == 0 else None
    except OSError:  # no git on this machine
        commit = None
    return {"git_commit": commit, "python": platform.python_version(), "torch": torch.__version__,
            "numpy": numpy.__version__, "hardware": hardware(device), "threads": torch.get_num_threads()}
