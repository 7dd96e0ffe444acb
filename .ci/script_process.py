"""Scripts as processes of their own that start in a moment: forked from a process that has imported torch already.

Torch and what its optimizers import take 4 s of a core at each start of python, far more than most tests. A forked
script still has its own __main__, modules, streams, folder and environment, and can be killed like any other process.
The main commands of the README, the benchmarks and what is killed from a shell script run in python itself.
"""

import atexit
import contextlib
import functools
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path

PROCESSES = get_context("forkserver" if sys.platform == "linux" else "spawn")  # macOS cannot fork safely
PROCESSES.set_forkserver_preload(["torch._dynamo", "matplotlib.pyplot", "scipy.stats", "datasets",
                                  "transformers.modeling_utils"])
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run on all cores already
STARTING = threading.Lock()  # multiprocessing looks at all its processes when one starts
QUICK_PYTHON = """#!{python} -SE
import json, os, socket, sys
if len(sys.argv) < 2 or not (sys.argv[1] == "-c" or sys.argv[1].endswith(".py")):
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
server.sendall(json.dumps([os.getpid(), os.getcwd(), dict(os.environ), sys.argv[1:]]).encode() + b"\\n")
sys.exit(int(server.recv(16)))
"""


@functools.cache
def plain_path():
    """What sys.path holds behind the script's own folder, so without the folders that pytest adds."""
    code = "import sys; print(*sys.path[1:], sep='\\n')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


def become(script, arguments, path, cwd, env, streams):
    """Turn this process into `python script arguments`."""
    for descriptor, name in zip((1, 2), streams):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path = [script, *arguments], [os.path.dirname(script), *path]
    if script == "-c":
        exec(arguments[0], {"__name__": "__main__"})
    else:
        runpy.run_path(script, run_name="__main__")


def start_script(script, *arguments, cwd, env=None, streams=(os.devnull, os.devnull)):
    """Start a script; returns a multiprocessing.Process. The streams are names of files for stdout and stderr."""
    arguments = (str(script), [*map(str, arguments)], plain_path(), str(cwd), dict(os.environ if env is None else env),
                 streams)
    process = PROCESSES.Process(target=become, args=arguments)
    process.start()
    return process


def run_script(script, *arguments, cwd, env=None, timeout=300):
    """Run a script to its end: a CompletedProcess with its exit code, stdout and stderr."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        process = start_script(script, *arguments, cwd=cwd, env=env, streams=streams)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([str(script), *map(str, arguments)], timeout)
        return subprocess.CompletedProcess([str(script), *map(str, arguments)], process.exitcode,
                                           *(Path(name).read_text() for name in streams))


def answer(connection):
    """Run what quick_python was called for, with its streams, and tell it the exit code."""
    with connection, connection.makefile() as request:
        pid, cwd, env, (script, *arguments) = json.loads(request.readline())
        script = script if script == "-c" else os.path.join(cwd, script)
        with STARTING:
            process = start_script(script, *arguments, cwd=cwd, env=env,
                                   streams=[f"/proc/{pid}/fd/{number}" for number in (1, 2)])
        code = None
        while code is None:
            time.sleep(0.005)
            with STARTING:
                code = process.exitcode
        with contextlib.suppress(BrokenPipeError):  # who asked was killed
            connection.sendall(str(code).encode())


@functools.cache
def quick_python():
    """A `python` for shell scripts that starts its scripts as start_script does; not for what is to be killed."""
    if sys.platform != "linux":  # needs /proc
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="quick_python"))
    atexit.register(shutil.rmtree, folder)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()

    def serve():
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    python = folder / "python"
    python.write_text(QUICK_PYTHON.format(python=sys.executable, address=str(folder / "socket")))
    python.chmod(0o755)
    return str(python)


def bash(command, folder, python=sys.executable, **variables):
    """Run a command of a README in a folder, with this `python` first on the path; returns what it printed."""
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-ec", command], cwd=folder, capture_output=True, text=True, timeout=500,
                          env={**os.environ, "PATH": path, **variables})
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
