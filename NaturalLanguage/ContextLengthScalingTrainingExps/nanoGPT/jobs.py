"""The cells of a sweep: what is missing, the slots in which they run here, and their submission to Slurm.

A sweep's script (sweep.py) makes the cells of its grid and gives them to `dispatch`, which does what the flags of
`add_modes` ask for. The grid can be given in the environment (`from_environment`), as the launchers are used.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from files import lock, make_directory
from utils import available_cores, fail, progress, say, take_signals

STATUS_INTERVAL = 2.0  # seconds after which the bar of a sweep shows anew where its runs are
GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "kfd", "dxg")  # in /dev: of NVIDIA, its boards, AMD, and Windows for Linux


class Cell(NamedTuple):
    """One run of a grid: `command` is what follows `python`; `distributed`: torchrun when it gets several GPUs."""
    name: str
    command: list
    is_done: Callable[[], bool]
    distributed: bool = False

    def arguments(self, gpus):
        """What starts the cell on so many GPUs."""
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(gpus)]
        return [sys.executable, *(torchrun if self.distributed and gpus > 1 else []), *map(str, self.command)]


def from_environment(name, default, kind):
    """A list of what the argparse type `kind` makes of the words of the environment variable, or of `default`.

    A blank variable counts as none. Exits with code 2 if a word is not of this kind.
    """
    text = os.environ.get(name, "")
    try:
        return [kind(word) for word in text.split() or default.split()]
    except argparse.ArgumentTypeError as error:
        fail(f"{name}=\"{text}\" in the environment: {error}")


def add_modes(parser):
    """The flags that say what to do with the cells; without one, all of them run here."""
    modes = parser.add_argument_group("what to do (default: run all cells here)").add_mutually_exclusive_group()
    modes.add_argument("--submit", action="store_true", help="submit the missing cells to Slurm, then --collect")
    modes.add_argument("--collect", action="store_true", help="table and figures of the finished cells")
    modes.add_argument("--missing", action="store_true", help="name the cells without a result; exit with 1 if any")
    modes.add_argument("--cell", type=int, default=os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("IDX"),
                       help="run this cell alone (default: the task of a Slurm array, if this is one)")


def visible_gpus():
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in GPU_FILES):
        return []  # and torch, slow to import, need not be asked
    import torch
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[:torch.cuda.device_count()] if names else [*map(str, range(torch.cuda.device_count()))]


def slots(cores_per_run=1, gpus_per_run=1, runs_per_gpu=1):
    """The environment variables of each run that fits at once: a share of the GPUs or, without one, of the cores."""
    gpus, threads = visible_gpus(), {"OMP_NUM_THREADS": str(cores_per_run)}
    groups = [gpus[first:first + gpus_per_run] for first in range(0, len(gpus) - gpus_per_run + 1, gpus_per_run)]
    if gpus and not groups:
        fail(f"a run is to have {gpus_per_run} GPUs (GPUS_PER_RUN), and {len(gpus)} are visible here")
    if groups:
        return [{**threads, "CUDA_VISIBLE_DEVICES": ",".join(group)} for _ in range(runs_per_gpu) for group in groups]
    return [threads] * max(1, available_cores() // cores_per_run)


def last_line(log, nothing="it printed nothing"):
    """The last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), nothing)


def cause(text):
    """Of what a failed script printed, the line that says why: torchrun puts a report of its own behind it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"[\w-]+\.py: ", line)]
    return (own or lines or ["it printed nothing"])[-1]


def run_cells(cells, slots, log_dir):
    """Run the cells that are not done, as many at once as there are slots; LOG_DIR/NAME.log has what each prints.

    The bar counts the runs that have ended, and shows where those are that run now. A failed cell is named with its
    last line, and the exit code is then 1. At a signal to stop the runs get SIGTERM, and this ends when they have
    saved. Exits with code 2 where another sweep is running one of the cells.
    """
    log_dir = make_directory(log_dir)
    received, running, failed, waiting, shown = [], {}, [], deque(enumerate(cells, 1)), time.monotonic()
    former = take_signals(lambda number, _: received.append(number))
    print(f"{len(cells)} runs, {len(slots)} at a time; the log of each is in {log_dir}", flush=True)
    with ExitStack() as locks, progress(total=len(cells), desc="runs", unit="run", leave=False) as bar:
        for cell in cells:
            locks.enter_context(lock(log_dir / f"{cell.name}.lock",
                                     f"another sweep is running {cell.name} below {log_dir.parent}; wait for it"))
        try:
            while (waiting or running) and not received:
                while waiting and len(running) < len(slots):
                    index, cell = waiting.popleft()
                    if cell.is_done():
                        say(f"[{index}/{len(cells)}] {cell.name}: finished before")
                        bar.update()
                        continue
                    number = next(number for number in range(len(slots)) if number not in running)
                    running[number] = index, cell, start(cell, slots[number], log_dir)
                time.sleep(0.05)
                for number, (index, cell, process) in [*running.items()]:
                    if process.poll() is not None:
                        del running[number]
                        report(index, cell, process.returncode, len(cells), log_dir)
                        failed += [cell.name] if process.returncode else []
                        bar.update()
                if time.monotonic() - shown >= STATUS_INTERVAL:
                    shown = time.monotonic()
                    bar.set_postfix(now="; ".join(last_line(log_dir / f"{cell.name}.log", cell.name).partition(",")[0]
                                                  for _, cell, _ in running.values()))
                    bar.update(0)
        finally:  # at a signal, and where the loop itself fails
            for _, _, process in running.values():
                os.killpg(process.pid, signal.SIGTERM)
            for _, _, process in running.values():
                process.wait()
    for number, handler in former.items():
        signal.signal(number, handler)
    if received:
        anew = ("; with --overwrite all would begin anew, without it those not begun keep what is there"
                if "--overwrite" in sys.argv else "")
        print(f"stopped by {signal.Signals(received[0]).name}; start again to go on{anew}", file=sys.stderr)
        raise SystemExit(128 + received[0])
    if failed:
        print(f"{Path(sys.argv[0]).name}: {len(failed)} of {len(cells)} runs failed; start again to go on with them",
              file=sys.stderr)
        raise SystemExit(1)


def count_gpus(slot):
    """How many GPUs a slot of `slots` has."""
    return len(list(filter(None, slot.get("CUDA_VISIBLE_DEVICES", "").split(","))))


def start(cell, slot, log_dir):
    """Start a cell in a session of its own, so that what it starts can be ended with it."""
    with open(log_dir / f"{cell.name}.log", "w") as log:
        return subprocess.Popen(cell.arguments(count_gpus(slot)), stdout=log, stderr=subprocess.STDOUT,
                                start_new_session=True, env={**os.environ, **slot})


def report(index, cell, code, count, log_dir):
    """Print how a cell ended."""
    log = log_dir / f"{cell.name}.log"
    if code == 0:
        say(f"[{index}/{count}] {last_line(log)}")
    else:
        why = cause(log.read_text(encoding="utf-8", errors="replace"))
        say(f"[{index}/{count}] FAILED ({cell.name}, exit code {code}): {why}", error=True)


def run_one(cells, index):
    """Become the run of one cell, on all GPUs that are visible."""
    if not 0 <= index < len(cells):
        fail(f"there are {len(cells)} cells, no cell {index}: use --array=0-{len(cells) - 1}")
    print(f"cell {index} of {len(cells)}: {cells[index].name}", flush=True)
    arguments = cells[index].arguments(len(visible_gpus()))
    os.execv(arguments[0], arguments)


def run_script(*command):
    """Print and run a script of this folder; where it fails this program ends with its exit code."""
    print(f"$ python {' '.join(map(str, command))}", flush=True)
    code = subprocess.run([sys.executable, *map(str, command)]).returncode
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def ranges(numbers):
    """Ascending numbers as Slurm writes them: [0, 1, 2, 5] is 0-2,5."""
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def sbatch(arguments, environment):
    """Submit a job; prints the command and returns the job's number."""
    print(f"$ sbatch {' '.join(arguments)}", flush=True)
    try:
        done = subprocess.run(["sbatch", "--parsable", *arguments], env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        fail("there is no sbatch on this machine; submit where Slurm is, or leave --submit out to run here")
    if done.returncode:
        fail(f"sbatch: {done.stderr}")
    return done.stdout.strip().partition(";")[0]


def submit(cells, launcher, arguments):
    """Submit the missing cells as an array of the launcher, and behind it a job that collects."""
    missing = [index for index, cell in enumerate(cells) if not cell.is_done()]
    if not missing:
        print(f"all {len(cells)} cells have finished; nothing to submit")
        return
    at_once = os.environ.get("MAX_TASKS", "8")
    job = sbatch([f"--array={ranges(missing)}%{at_once}", launcher, *arguments], os.environ)
    plain = {name: value for name, value in os.environ.items()  # collecting needs no GPU
             if name not in ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GRES")}
    log = f"{launcher.removesuffix('.sh')}_collect_%j.log"
    sbatch([f"--dependency=afterany:{job}", f"--output={log}", launcher, "--collect", *arguments], plain)
    print(f"array job {job}, at most {at_once} tasks at once (MAX_TASKS); a job behind it collects the results")


def dispatch(args, cells, launcher, collect, log_dir, **resources):
    """Do what the flags of add_modes ask for. `collect()` returns an exit code; `resources` are those of `slots`."""
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fail(f"{twice} is asked for twice; give each value of the grid once")
    if args.submit:
        submit(cells, launcher, [argument for argument in sys.argv[1:] if argument != "--submit"])
    elif args.collect:
        raise SystemExit(collect())
    elif args.missing:
        missing = [cell.name for cell in cells if not cell.is_done()]
        print("\n".join(missing) or f"all {len(cells)} cells have finished")
        raise SystemExit(bool(missing))
    elif args.cell is not None:
        run_one(cells, args.cell)
    else:
        run_cells(cells, slots(**resources), log_dir)
