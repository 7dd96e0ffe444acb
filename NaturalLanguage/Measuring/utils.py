"""What the scripts of this folder share around their own work: one-line errors, argument types, progress, whole files,
the rule for what is done, signals, the device.

Torch is imported where it is used: tables and figures need none of it, and its import takes 2 s.
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
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30  # of a progress that goes into a file
OPEN_BARS = []


def is_first_process():
    """Whether this is the only process, or the first one under torchrun, which speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def say(message):
    """Print a line beside the progress bars (under torchrun, from the first process alone)."""
    if is_first_process():
        tqdm.write(message)
        sys.stdout.flush()


def close_bars():
    """Remove the open progress bars, so that the next line on stderr is the last one."""
    while OPEN_BARS:
        bar = OPEN_BARS.pop()
        bar.leave = False
        bar.close()


def fail(message):
    """End the program with exit code 2 and one line on stderr (under torchrun, from the first process alone)."""
    close_bars()
    if is_first_process():
        sys.stdout.flush()
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line and whose --help shows every default."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")

    def format_help(self):
        for action in self._actions:
            default = action.default
            if (default is None or default is False or default == [] or default is argparse.SUPPRESS
                    or not action.option_strings or action.help is argparse.SUPPRESS
                    or "default" in (action.help or "")):
                continue
            shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
            action.help = f"{action.help or ''} (default: {shown.replace('%', '%%')})".strip()
        return super().format_help()


def number(kind, least, most=float("inf")):
    """An argparse type: an int or a float of at least `least` and at most `most`."""
    def parse(text):
        value = kind(text)
        if not least <= value <= most or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {least}"
                                             + (f" and at most {most}" if most < float("inf") else ""))
        return value
    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def positive_float(text):
    """An argparse type: a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


positive_int, non_negative_int = number(int, 1), number(int, 0)
non_negative_float, fraction = number(float, 0.0), number(float, 0.0, 1.0)
seed = number(int, 0, 2**63 - 1)  # what torch's generators take


class PlainProgress:
    """The interface of tqdm for a stderr that is not a terminal: a line every 30 s at most, and one at the end."""

    def __init__(self, iterable, total, desc, unit, initial, leave, disable):
        self.iterable, self.total, self.desc, self.unit, self.leave = iterable, total, desc, unit, leave
        self.disable, self.n, self.initial, self.postfix = disable, initial, initial, ""
        self.started = self.last = time.monotonic()

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update(1)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.leave = self.leave and kind is None
        self.close()

    def update(self, n=1):
        self.n += n
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.print()

    def set_postfix(self, **values):
        self.postfix = "".join(f", {name}={value}" for name, value in values.items())

    def print(self):
        seconds = time.monotonic() - self.started
        rate = (self.n - self.initial) / seconds if seconds > 0 else 0.0
        if not self.disable:
            print(f"{self.desc or 'progress'}: {self.n}/{self.total or '?'} {self.unit}, {seconds:.0f} s, "
                  f"{rate:.3g} {self.unit}/s{self.postfix}", file=sys.stderr, flush=True)

    def close(self):
        if self in OPEN_BARS:
            OPEN_BARS.remove(self)
        if self.leave:
            self.print()
        self.leave = False


class Bar(tqdm):
    """tqdm that fail() can find and close."""

    def close(self):
        if self in OPEN_BARS:
            OPEN_BARS.remove(self)
        super().close()

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other


def progress(iterable=None, total=None, desc=None, unit="it", initial=0, leave=True, disable=False):
    """A tqdm bar on a terminal; elsewhere a line every 30 s at most and one at the end, with the same interface."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    if sys.stderr.isatty():
        bar = Bar(iterable, total=total, desc=desc, unit=unit, initial=initial, leave=leave, disable=disable)
    else:
        bar = PlainProgress(iterable, total, desc, unit, initial, leave, disable)
    OPEN_BARS.append(bar)
    return bar


class Stopped(KeyboardInterrupt):
    """What StopSignal raises: SIGTERM and SIGUSR1 (Slurm's, before a time limit) end a run as Ctrl-C does."""


class StopSignal:
    """Turns the first SIGTERM, SIGUSR1 or SIGINT into Stopped; later ones change nothing, so that saving goes on."""

    def __init__(self):
        self.received = None
        for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(name, self.note)

    def note(self, received, _):
        if self.received is None:
            self.received = received
            raise Stopped

    def end(self, message):
        """Print one line, that says what is saved and how to go on, and end this process by the signal received."""
        close_bars()
        if is_first_process():
            sys.stdout.flush()
            print(f"{Path(sys.argv[0]).name}: stopped by {signal.Signals(self.received).name}; {message}",
                  file=sys.stderr, flush=True)
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)


def run_main(main):
    """Run a script's main(); Ctrl-C is one line and exit code 130, no traceback."""
    try:
        main()
    except KeyboardInterrupt:
        close_bars()
        if is_first_process():
            print(f"{Path(sys.argv[0]).name}: interrupted; start the same command again, it goes on", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
def lock(path, message=None, wait=False):
    """Hold a lock file; if another process has it, waits or exits with code 2. A dead process holds none."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            fail(message or f"another process is at work in {Path(path).parent}; wait for it, or choose another "
                 "directory")
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
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
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


def write_csv(path, columns, rows):
    """Write a table of dictionaries, whole or not at all; what a row lacks, or has as None, is left empty."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path, what, columns=()):
    """Rows of a CSV as users have it (comma, semicolon or tab; with or without a byte-order mark), values as text.

    Exits with code 2 if it cannot be read or lacks one of the columns.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{what} {path} is not UTF-8 at byte {error.start}; save it as UTF-8")
    lines = text.splitlines()
    header = lines[0] if lines else ""
    separators = [mark for mark in ",;\t" if mark in header]
    if len(separators) > 1:
        fail(f"{what} {path}: its first line has {' and '.join(map(repr, separators))}; separate its columns by one")
    reader = csv.DictReader(lines, delimiter=separators[0] if separators else ",")
    absent = [column for column in columns if column not in (reader.fieldnames or ())]
    if absent:
        fail(f"{what} {path} lacks the column {absent[0]}; it has {', '.join(reader.fieldnames or ['none'])}")
    rows = list(reader)
    for index, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            fail(f"{what} {path}: line {index} has not as many values as there are columns")
    return rows


def text_hash(texts):
    """SHA-256 over a sequence of texts."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def identity(path):
    """SHA-256 of a file's bytes; exits with code 2 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def same_request(stored, request):
    """Whether two requests are one: the arguments that change a result, and the identities of its inputs."""
    return json.loads(json.dumps(stored)) == json.loads(json.dumps(request))


def current(path, request):
    """The one rule for "done": the file is there, and the request that made it is stored with it and equals this one.

    `path` is a .json or .pt that holds a dictionary with the entry "request"; one that cannot be read is not current.
    """
    path = Path(path)
    if not path.is_file():
        return False
    try:
        if path.suffix == ".json":
            stored = json.loads(path.read_text(encoding="utf-8"))
        else:
            import torch
            stored = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception:  # a damaged file raises many types
        return False
    return isinstance(stored, dict) and "request" in stored and same_request(stored["request"], request)


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
