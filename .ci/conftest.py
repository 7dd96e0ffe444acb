"""`python -m pytest` at the root of the repository: the tests of every part, each in a process of its own.

The parts share nothing, so a module of the same name exists in several of them; a process has the path of one part.
What is given on the command line (-m slow, -k NAME, ...) goes to each.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = [path.parent for path in sorted(ROOT.glob("*/**/.pytest.ini")) if not path.parent.name.startswith(".")]


def run_part(part, arguments):
    """Run the tests of a part, its output passed on; returns its exit code and {"passed": n, "failed": n, ...}."""
    print(f"== {part.relative_to(ROOT)}", flush=True)
    command = [sys.executable, "-m", "pytest", *arguments]
    with subprocess.Popen(command, cwd=part, stdout=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if re.search(r"\d+ \w+.* in [\d.]+s", line) else last
    return process.returncode, {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last.split(" in ")[0])}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if Path(config.rootpath) != ROOT:
        return None
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it starts with &
    total, codes = {}, []
    for part in PARTS:
        code, counts = run_part(part, config.invocation_params.args)
        codes.append(0 if code == 5 else code)  # 5: nothing here was selected
        for word, number in counts.items():
            total[word] = total.get(word, 0) + number
    print(f"== all parts\n{total.get('passed', 0)} passed, {total.get('failed', 0) + total.get('error', 0)} failed, "
          f"{total.get('skipped', 0)} skipped")
    return max(codes)
