"""Commands of one part, in one process that imports once: [[folder, [word behind `python`, ...]], ...] on stdin.

`part_commands.py run` runs them, up to the first that fails. `part_commands.py parse` has each script parse its
arguments alone, and prints a line for each that is not taken, or that reads committed results which are not there.
"""

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import sys
from pathlib import Path

READING = ("--results", "--fit", "--measures", "--readme")  # flags whose files are committed where they lie in results/
METHODS = {name: getattr(argparse.ArgumentParser, name)
           for name in ("parse_args", "parse_intermixed_args", "parse_known_args")}


class Parsed(BaseException):
    """The first parser of a script has taken its arguments: its help, and the arguments that it leaves to others."""


def raise_at_return(frame, error):
    """Have an error come when a function returns a value: when it has checked what its parser took."""
    def trace(frame, event, value):
        if event == "return" and value is not None:
            raise error
        return trace

    sys.settrace(lambda *_: None)
    frame.f_trace = trace


def stop_after(name, partly):
    """What stands for a method of ArgumentParser: the method, and then the end of the script."""
    def instead(parser, *arguments, **options):
        if partly:  # the other script finds what is required in what the first one adds
            for entry in (*parser._actions, *parser._mutually_exclusive_groups):
                entry.required = False
        replace_methods(METHODS)
        found = METHODS[name](parser, *arguments, **options)
        parsed = Parsed(parser.format_help(), found[1] if name == "parse_known_args" else [])
        if name != "parse_known_args" or partly:
            raise parsed
        raise_at_return(sys._getframe(1), parsed)
        return found
    return instead


def replace_methods(methods):
    for name, method in methods.items():
        setattr(argparse.ArgumentParser, name, method)


def run(words):
    """Run a script as `python` would (words: SCRIPT.py or -m MODULE, and they); raises SystemExit where it exits."""
    module = words[0] == "-m"
    sys.argv = words[module:]
    sys.path[0] = os.getcwd() if module else str(Path(words[0]).resolve().parent)
    if module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(Path(words[0]).resolve()), run_name="__main__")


def parse(words, partly=False):
    """Have a script parse its arguments; raises SystemExit if it refuses them."""
    replace_methods({name: stop_after(name, partly) for name in METHODS})
    try:
        run(words)
    except Parsed as parsed:
        shown, others = parsed.args
        if others:  # of the trainer that --trainer names, or the help: "flags not named here go to train.py"
            named = [f"{trainer}.py" for flag, trainer in zip(words, words[1:]) if flag == "--trainer"]
            script, = named or set(re.findall(r"go\s+to\s+(train\w*\.py)", shown))
            parse([str(Path(words[0]).with_name(script)), *others], partly=True)
        return
    raise RuntimeError("it has parsed nothing")


def complaint(folder, words):
    """Why a command cannot be run, in one line; None where it can."""
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            parse(words)
        except (SystemExit, Exception) as error:
            return (said.getvalue().strip().splitlines() or [repr(error)])[-1]
    flag = None
    for word in words:
        flag = word if word.startswith("--") else flag
        if flag in READING and "results/" in word and not Path(word).exists():
            return f"{word} is not there"
    return None


mode, = sys.argv[1:]
for folder, words in json.load(sys.stdin):
    if mode == "run":
        os.chdir(folder)
        run(words)
    elif found := complaint(folder, words):
        print(f"{' '.join(words)}: {found}")
