"""What the scripts of this part need around their own work: errors in one line, flags, progress, signals, the device.

The three parts of the repository have the same text of this file. Under torchrun the first process speaks for all.
Torch is imported where it is used: tables and figures need none of it, and its import takes two seconds. Scripts import
from here before all else, so that Ctrl-C in these seconds too is one line.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

from tqdm import tqdm

LINE_INTERVAL = 30.0  # seconds between two lines of progress where stderr is not a terminal
OPEN_BARS = weakref.WeakSet()
INTERRUPTED = "interrupted; start the same command again, it goes on"


# Lines for the user

def is_first_process():
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def say(message, error=False):
    """Print a line on stdout, or as an error on stderr, clear of progress bars."""
    if is_first_process():
        file = sys.stderr if error else sys.stdout
        tqdm.write(str(message), file=file)
        file.flush()


def close_bars():
    """Remove the open progress bars, so that the next line on stderr stands alone."""
    for bar in list(OPEN_BARS):
        bar.leave = False
        bar.close()


def print_last(message, everywhere=False):
    """Print one line on stderr, the last one, that begins with the script's name: the first process, or everywhere."""
    close_bars()
    if is_first_process() or everywhere:
        sys.stdout.flush()
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def again():
    """What to do so that a run that has begun goes on, as the end of a line for the user."""
    return f"start the same command again{', without --overwrite' if '--overwrite' in sys.argv else ''}, it goes on"


def fail(message, everywhere=False):
    """End the program with exit code 2 and one line on stderr, the last one.

    everywhere: of several processes, also one that is not the first says so; for what may befall one of them alone.
    """
    print_last(message, everywhere)
    raise SystemExit(2)


def run_main(main):
    """Call a script's main(); Ctrl-C in what has no state to save is one line and exit code 130."""
    if signal.getsignal(signal.SIGINT) == end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print_last(INTERRUPTED)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_at_once(*_):
    """Ctrl-C before run_main, in a script's imports, ends as in it; an exception would make torch's C++ abort."""
    print_last(INTERRUPTED)
    os._exit(130)


def is_script_of(folder):
    """Whether the program that runs is a file of this folder, and not the tests, say."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    return program is not None and Path(folder) in Path(program).absolute().parents


if is_script_of(Path(__file__).parent) and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)


# Flags

class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it stands, and behind the help of every flag its default, where that says something."""

    def _get_help_string(self, action):  # as argparse's own ArgumentDefaultsHelpFormatter does it
        default = action.default
        silent = any(default is nothing for nothing in (None, False, argparse.SUPPRESS)) or default == []
        if silent or not action.option_strings or "default" in action.help:
            return action.help
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
        return f"{action.help} (default: {shown.replace('%', '%%')})"


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
seed = argument_type(int, lambda value: 0 <= value < 2**63, "an integer from 0 to 2^63 - 1")  # what torch takes
named_file = argument_type(lambda text: text.partition("=")[::2], all, "NAME=FILE")  # as (name, file)


# Progress

class Lines:
    """What is used here of tqdm's interface, for a stderr that is no terminal: a line now and then, one at the end."""

    def __init__(self, iterable, total, desc, unit, initial, leave):
        self.iterable, self.desc, self.unit, self.leave = iterable, desc, unit, leave
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.n = self.initial = initial
        self.postfix, self.started = "", time.monotonic()
        self.printed = self.started

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.leave = self.leave and kind is None
        self.close()

    def update(self, n=1):
        self.n += n
        if time.monotonic() - self.printed >= LINE_INTERVAL:
            self.print()

    def set_postfix(self, **values):
        self.postfix = "".join(f", {name}={value}" for name, value in values.items())

    def print(self):
        self.printed = time.monotonic()
        rate = (self.n - self.initial) / max(self.printed - self.started, 1e-9)
        of_total = f"/{self.total}" if self.total is not None else ""
        print(f"{self.desc or 'progress'}: {self.n}{of_total} {self.unit}, {rate:.3g} {self.unit}/s{self.postfix}",
              file=sys.stderr, flush=True)

    def close(self):
        if self.leave:
            self.print()
        self.leave = False


def progress(iterable=None, total=None, desc=None, unit="it", initial=0, leave=True, disable=False):
    """A bar on a terminal; else a plain line of progress at most every LINE_INTERVAL seconds, and one at the end."""
    if disable or sys.stderr.isatty():
        bar = tqdm(iterable, total=total, desc=desc, unit=unit, initial=initial, leave=leave, disable=disable,
                   unit_scale=(total or 0) >= 1_000_000)
    else:
        bar = Lines(iterable, total, desc, unit, initial, leave)
    OPEN_BARS.add(bar)
    return bar


# Signals

# SIGUSR1 is Slurm's before a time limit, SIGHUP that of a terminal that is closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def take_signals(handler):
    """Have a function called at each of the STOP_SIGNALS that is not ignored, as Ctrl-C is for a job in the background
    and SIGHUP under nohup. Returns {number: what was called before}."""
    return {number: signal.signal(number, handler) for number in STOP_SIGNALS
            if signal.getsignal(number) != signal.SIG_IGN}


class Stopped(KeyboardInterrupt):
    """What a StopSignal raises if asked to: the other signals then end a run as Ctrl-C does."""


class StopSignal:
    """Takes note of the STOP_SIGNALS, so that a run saves before it ends.

    The run asks `received`, the first signal's number or None, between two steps; with `raising`, the first signal
    raises Stopped where it comes, for a run that has nothing left to save. Later signals change nothing. As a context
    manager it gives the signals back at the end of its block.
    """

    def __init__(self, raising=False):
        self.received, self.raising = None, raising
        self.former = take_signals(self.note)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def note(self, number, _):
        if self.received is None:
            self.received = number
            if self.raising:
                raise Stopped

    def end(self, message):
        """Print one line, which says what is saved and how to go on, and end this process by the signal received.

        Where another one of several processes got the signal, that is SIGTERM.
        """
        number = self.received or signal.SIGTERM
        print_last(f"stopped by {signal.Signals(number).name}; {message}")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


# The machine

def available_cores():
    """How many cores this process may use, which under taskset or Slurm are not all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


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
            fail(f"--device {name} needs GPU {device.index}, and torch sees {torch.cuda.device_count()} GPUs here; use "
                 "--device cpu, or as many processes as GPUs", everywhere=True)
        torch.cuda.set_device(device)
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
    used = {name: sys.modules[name].__version__ for name in ("transformers", "tokenizers") if name in sys.modules}
    return {"git_commit": commit, "python": platform.python_version(), "torch": torch.__version__,
            "numpy": numpy.__version__, **used, "hardware": hardware(device), "threads": torch.get_num_threads()}
