"""`python -m pytest` at the root of the repository: the tests of every part, each in a process of its own, two at once.

The parts share nothing, so a module of the same name exists in several of them; a process has the path of one part.
What is given on the command line (-m slow, -k NAME, ...) goes to each. Two at once keep the cores busy where the last
tests of a part leave workers without any, or wait for Slurm.
"""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = [path.parent for path in sorted(ROOT.glob("*/**/.pytest.ini")) if not path.parent.name.startswith(".")]
AT_ONCE = 2


def run_part(part, arguments):
    """Run the tests of a part; how far they are is shown as they go, their output in one piece at the end.

    Returns its exit code and {"passed": n, "failed": n, ...}.
    """
    name, lines = part.relative_to(ROOT), []
    with subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=part, stdout=subprocess.PIPE,
                          text=True) as process:
        for line in process.stdout:
            lines.append(line)
            if percent := re.search(r"\[ *\d+%\]$", line.rstrip()):
                print(f"{name} {percent[0]}", flush=True)
    print(f"== {name}\n{''.join(lines)}", end="", flush=True)
    summary = next((line for line in reversed(lines) if re.search(r"\d+ \w+.* in [\d.]+s", line)), "")
    return process.returncode, {word: int(number)
                                for number, word in re.findall(r"(\d+) (\w+)", summary.split(" in ")[0])}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if Path(config.rootpath) != ROOT:
        return None
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it starts with &
    total, codes = {}, []
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for code, counts in pool.map(run_part, PARTS, [config.invocation_params.args] * len(PARTS)):
            codes.append(0 if code == 5 else code)  # 5: nothing here was selected
            for word, number in counts.items():
                total[word] = total.get(word, 0) + number
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no other part begins
    print(f"== all parts\n{total.get('passed', 0)} passed, {total.get('failed', 0) + total.get('error', 0)} failed, "
          f"{total.get('skipped', 0)} skipped")
    return max(codes)
