"""What the scripts of this folder share around their own work.

Lines for the user (`say`, `fail`, `progress`), flags (`Parser` and argument types), files that are whole or not there
(`replacing` and what writes through it), one rule for what is current (`current`), locks, signals and the device.
"""

import argparse
import csv
import fcntl
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

OPEN_BARS = weakref.WeakSet()
LINE_SECONDS = 30  # between the lines of a progress that no terminal shows


class Lines:
    """What `progress` gives where stderr is no terminal: a line every 30 s at most, and one at the end."""

    def __init__(self, iterable=None, total=None, desc=None, unit="it", initial=0, leave=True, disable=False):
        self.iterable, self.desc, self.unit, self.leave, self.disable = iterable, desc, unit, leave, disable
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.n = self.initial = initial
        self.postfix, self.began = {}, time.monotonic()
        self.said_at = self.began

    def __iter__(self):
        for item in self.iterable:
            yield item
            self.update()
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def update(self, n=1):
        self.n += n
        if time.monotonic() - self.said_at >= LINE_SECONDS:
            self.write()

    def set_postfix(self, **values):
        self.postfix = values

    def write(self):
        self.said_at = time.monotonic()
        if not self.disable:
            rate = (self.n - self.initial) / max(self.said_at - self.began, 1e-9)
            values = [f"{self.n}{f'/{self.total}' if self.total else ''} {self.unit}", f"{rate:.3g} {self.unit}/s",
                      *(f"{name}={value}" for name, value in self.postfix.items())]
            print(f"{f'{self.desc}: ' if self.desc else ''}{', '.join(values)}", file=sys.stderr, flush=True)

    def close(self):
        if self.leave:
            self.write()
        self.disable = True


def progress(iterable=None, total=None, desc=None, unit="it", initial=0, leave=True, disable=False):
    """A bar of tqdm on a terminal, plain lines elsewhere; update, set_postfix, close, iteration and `with` work."""
    kind = tqdm if sys.stderr.isatty() else Lines
    bar = kind(iterable, total=total, desc=desc, unit=unit, initial=initial, leave=leave, disable=disable)
    OPEN_BARS.add(bar)
    return bar


def close_bars():
    """Close the open bars, so that the next line on stderr stands alone."""
    for bar in list(OPEN_BARS):
        bar.close()
        OPEN_BARS.discard(bar)


def is_chief():
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def say(message):
    """Print a line beside the bars (under torchrun, from the first process alone)."""
    if is_chief():
        tqdm.write(message) if sys.stderr.isatty() else print(message, flush=True)


def complain(message):
    """Print one line on stderr, behind all bars, that begins with the script's name."""
    close_bars()
    print(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def fail(message):
    """End the program with exit code 2 and one line on stderr (under torchrun, from the first process alone)."""
    if is_chief():
        complain(message)
    raise SystemExit(2)


def run_main(main):
    """Call main(); Ctrl-C, where the script has nothing to save, ends it with one line and exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        if is_chief():
            complain("interrupted; start the same command again, it goes on")
        raise SystemExit(130) from None


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it stands, and behind each flag its default where there is one and the text has none."""

    def _get_help_string(self, action):  # as argparse's own ArgumentDefaultsHelpFormatter does it
        default = action.default
        if any(default is nothing for nothing in (None, False, argparse.SUPPRESS)) or "default" in action.help:
            return action.help
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
        return f"{action.help} (default: {shown.replace('%', '%%')})"


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line and whose help shows the defaults."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False, formatter_class=HelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")


def number(kind, least, below=float("inf"), open_end=False):
    """An argparse type: an int or a float of at least `least` (or above it) and under `below`."""
    def parse(text):
        value = kind(text)
        if not least <= value < below or (open_end and value == least):
            raise argparse.ArgumentTypeError(f"{text} is not a number {'above' if open_end else 'of at least'} {least}"
                                             + (f" and under {below}" if below < float("inf") else ""))
        return value
    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


positive_int, non_negative_int, seed = number(int, 1), number(int, 0), number(int, 0, 2**63)
positive_float, non_negative_float = number(float, 0.0, open_end=True), number(float, 0.0)
fraction = number(float, 0.0, 1.0)


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
def lock(path, message):
    """Hold a lock file while the block runs; exits with code 2 and `message` if another process has it.

    The operating system frees the lock of a process that has died, however it died.
    """
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(message)
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
    """Write a dictionary of tensors and plain values, whole or not at all."""
    import torch
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(contents, file)


def read_tensors(path, device="cpu"):
    """Read a dictionary of save_tensors, or None if the file is damaged (torch.load does not look at the checksums)."""
    import torch
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, map_location=device, weights_only=True)
    except Exception:  # a damaged file raises many types
        return None


def load_tensors(path, what, device="cpu"):
    """Read a dictionary of save_tensors; exits with code 2 if it is missing or damaged."""
    if not Path(path).exists():
        fail(f"there is no {what} {path}; make it first")
    contents = read_tensors(path, device)
    if contents is None:
        fail(f"{what} {path} is damaged; make it again with --overwrite")
    return contents


def write_csv(path, rows):
    """Write dictionaries with the same keys as CSV, whole or not at all. None becomes an empty field."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path, separator=None):
    """The rows of a CSV file as dictionaries of text, as people have them: a byte order mark, commas, semicolons, tabs.

    Exits with code 2 where the file cannot be read, its separator cannot be told, or a line has too many or few fields.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            found = [character for character in ",;\t" if character in header]
            if separator is None and len(found) > 1:
                fail(f"the header of {path} has several of comma, semicolon and tab: {header.strip()!r}; write the "
                     "table again with commas alone between its columns")
            file.seek(0)
            reader = csv.DictReader(file, delimiter=separator or (found[0] if found else ","))
            rows = list(reader)
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except (UnicodeDecodeError, csv.Error) as error:
        fail(f"{path} is not a CSV file in UTF-8: {error}; save it as one")
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            fail(f"{path}, line {line} has {'more' if None in row else 'fewer'} fields than the header; mend the line")
    return rows


def identity(path):
    """SHA-256 of a file's bytes, by which a request names its input; exits with code 2 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def current(path, request):
    """Whether a derived .json or .pt file is there and was made by this request, stored in it as "request"."""
    path = Path(path)
    if not path.exists():
        return False
    contents = load_json(path, "the file") if path.suffix == ".json" else read_tensors(path)
    return isinstance(contents, dict) and contents.get("request") == json.loads(json.dumps(request))


class StopSignal:
    """While its block runs, takes note of SIGTERM, SIGUSR1 (Slurm's, before a time limit) and SIGINT (Ctrl-C).

    So a run can save before it ends; a second signal while it saves changes nothing.
    """

    def __init__(self):
        self.received = 0

    def __enter__(self):
        numbers = [number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
                   if signal.getsignal(number) != signal.SIG_IGN]  # as of a job in the background
        self.former = {number: signal.signal(number, self.note) for number in numbers}
        return self

    def __exit__(self, *_):
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def note(self, number, _):
        self.received = number

    def end(self, message):
        """Say what was saved and end this process by the signal that it received; one of several by SIGTERM."""
        if is_chief():
            complain(message)
        number = self.received or signal.SIGTERM
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


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
    """Versions, commit (None without git, with -dirty if files differ from it) and hardware, for args.json."""
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
