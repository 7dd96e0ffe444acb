"""What a user of prepare.py sees while it works: bars on a terminal, plain lines elsewhere, and errors of one line.

prepare.py imports from here before all else, so that Ctrl-C while others are imported is one line too.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
INTERRUPTED = "prepare.py: interrupted; start the same command again, it goes on"


def fail(message):
    """End the program with exit code 2 and one line on stderr, the last one there."""
    tqdm.write(f"prepare.py: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def run_main(main):
    """Run a script; Ctrl-C is one line and exit code 130."""
    if signal.getsignal(signal.SIGINT) == end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        tqdm.write(INTERRUPTED, file=sys.stderr)
        raise SystemExit(130) from None


def end_at_once(*_):
    """Ctrl-C before run_main, in a script's imports, ends as in it."""
    print(INTERRUPTED, file=sys.stderr, flush=True)
    os._exit(130)


if (Path(getattr(sys.modules["__main__"], "__file__", None) or "/").absolute().parent == Path(__file__).parent
        and signal.getsignal(signal.SIGINT) == signal.default_int_handler):  # in prepare.py, and not in the tests
    signal.signal(signal.SIGINT, end_at_once)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line and whose help shows every default."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        fail(f"{message}; see --help")

    def format_help(self):
        for action in self._actions:
            shown = action.default is not None and action.default is not False and action.default != argparse.SUPPRESS
            if shown and "default" not in action.help:
                action.help += " (default: %(default)s)"
        return super().format_help()


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


positive_int, non_negative_int, seed = number(int, 1), number(int, 0), number(int, 0, 2**63 - 1)


class Lines:
    """A progress bar for files and pipes, with the part of tqdm's interface that is used here: a line now and then."""

    def __init__(self, iterable=None, total=None, desc="", unit="it", initial=0):
        self.iterable, self.desc, self.unit, self.n, self.initial = iterable, desc, unit, initial, initial
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.begun = self.written = time.monotonic()
        self.postfix = ""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.write()

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.update(1)

    def update(self, n):
        self.n += n
        if time.monotonic() - self.written >= SECONDS_BETWEEN_LINES:
            self.write()

    def set_postfix(self, **values):
        self.postfix = "".join(f", {name}={value}" for name, value in values.items())

    def write(self):
        self.written = time.monotonic()
        rate = (self.n - self.initial) / max(self.written - self.begun, 1e-9)
        total = "" if self.total is None else f"/{self.total}"
        print(f"{self.desc}: {self.n}{total} {self.unit}, {rate:.3g} {self.unit}/s{self.postfix}", file=sys.stderr)


def progress(iterable=None, **options):
    """A tqdm bar where stderr is a terminal, Lines where it is not."""
    return (tqdm if sys.stderr.isatty() else Lines)(iterable, **options)
