"""What concerns all parts: the texts that they share, every launcher, and every command of every README."""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = [ROOT / part for part in ("SyntheticDataset", "NaturalLanguage/Measuring",
                                  "NaturalLanguage/ContextLengthScalingTrainingExps/nanoGPT")]
TRACKED = [ROOT / name for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                                                  check=True).stdout.splitlines()]
READMES = [path for path in TRACKED if path.name == "README.md"]
SHELL = [path for path in TRACKED if path.suffix == ".sh"]
LAUNCHERS = [path for path in SHELL if path.name != "redraw_figures.sh" and path.read_text().startswith("#!")]
# What bash 3.2, macOS's own, does not know or does otherwise.
NOT_IN_BASH_3_2 = {
    "associative arrays": r"\b(declare|local|typeset) -\w*A", "mapfile": r"\b(mapfile|readarray)\b",
    "case conversion": r"\$\{\w+(\[[^]]*\])?(,|\^)", "wait -n": r"\bwait -\w*n", "&>>": r"&>>", "|&": r"\|&",
    "coproc": r"\bcoproc\b", "time in printf": r"printf.*%\(", "negative index": r"\$\{\w+\[-", "a pattern in =~":
    r"=~ [^$ ]*[(]", "a reference": r"\b(declare|local) -\w*n", "EPOCHSECONDS": r"\$\{?EPOCH", ";;&": r";;?&$",
}


@pytest.mark.parametrize("name", ["launching.sh", "jobs.py", "utils.py", "files.py", "readme_tables.py",
                                  "text_files.py", "text_corpora.py", "slurm_jobs.py"])
def test_the_parts_have_one_text_for_what_they_share(name):
    shared = [path for path in TRACKED if path.name == name]
    assert len(shared) == (2 if name.startswith("text_") else 3) and len({path.read_text() for path in shared}) == 1


def test_scripts_import_run_main_before_all_else():
    """So that Ctrl-C in the seconds of their other imports is one line; in draw_CEvsPCA plotting.py does it."""
    scripts, late = 0, []
    for path in (path for path in TRACKED if path.suffix == ".py"):
        text, is_plotting = path.read_text(), path.parts[-2:] == ("draw_CEvsPCA", "plotting.py")
        if "\n    run_main(main)\n" not in text and not is_plotting:
            continue
        imports = [node for node in ast.parse(text).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = [getattr(node, "module", None) or node.names[0].name for node in imports]
        wanted = "plotting" if path.parent.name == "draw_CEvsPCA" and not is_plotting else "utils"
        scripts += 1
        late += [path] if next(module for module in modules if module not in ("sys", "pathlib")) != wanted else []
    assert scripts > 50 and late == []


@pytest.mark.parametrize("script, slow", [
    (PARTS[0] / "train_model.py", "torch"), (PARTS[1] / "evaluate_CE.py", "torch"), (PARTS[2] / "train.py", "torch"),
    (PARTS[2] / "data" / "openwebtext" / "prepare.py", "numpy")])
def test_an_interrupt_while_a_script_imports_is_one_line(script, slow, tmp_path):
    """The module that it waits for is one that takes a minute."""
    (tmp_path / f"{slow}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors.startswith(f"{script.name}: ") and errors.count("\n") == 1, errors


@pytest.mark.parametrize("code, requeued", [(143, True), (1, True), (0, False)])
def test_a_job_that_is_stopped_before_its_time_limit_is_requeued(tmp_path, code, requeued):
    """At USR1 its processes get TERM; torchrun then ends with 1. One that has finished is not requeued."""
    shutil.copy(PARTS[0] / "launching.sh", tmp_path)
    (tmp_path / "job.sh").write_text('cd "$(dirname "$0")"\nsource launching.sh\nexec "$PYTHON" work.py\n')
    (tmp_path / "work.py").write_text("import signal, sys, time\n"
                                      f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))\n"
                                      "open('began', 'w').close()\ntime.sleep(60)\n")
    for name in ("scontrol", "scancel"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/{name}.log"\n')
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "SLURM_JOB_ID": "7", "PYTHON": sys.executable,
                   "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("LAUNCHED_IN", None)
    job = subprocess.Popen(["bash", str(tmp_path / "job.sh")], env=environment, start_new_session=True)
    while not (tmp_path / "began").exists():
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == code
    assert (tmp_path / "scontrol.log").exists() == requeued
    assert not requeued or (tmp_path / "scontrol.log").read_text() == "requeue 7\n"


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_launcher_is_a_batch_script_that_can_be_requeued(path):
    text = path.read_text()
    header = text[:text.index("set -euo pipefail")]
    assert "#SBATCH --requeue\n#SBATCH --signal=B:USR1@120\n" in header
    assert all(line.startswith("#") for line in header.splitlines())
    assert re.search(r"^source (\"?\$\w+/)?(Measuring/|\.\./)?launching.sh", text, re.M)
    assert not re.search(r"--(account|partition|mail)|/home|/scratch", text)


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shell_script_is_one_for_bash_3_2(path):
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in path.read_text().splitlines()]
    found = [f"{what}: {line.strip()}" for what, pattern in NOT_IN_BASH_3_2.items() for line in lines
             if re.search(pattern, line)]
    assert found == []
    subprocess.run([os.environ.get("BASH32", "bash"), "-n", path], check=True)


def commands(path):
    """(folder, words) of the commands in the code blocks of a README: from its part's folder, or a `cd` at the root."""
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.S):
        folder = next((part for part in PARTS if path.is_relative_to(part)), ROOT)
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.S):
                    words.pop(0)
                if words[:1] == ["cd"]:
                    folder = ROOT / words[1]
                elif words:
                    yield folder, words


def script_of(folder, words):
    """The script that a command runs, and the words behind it; None for a command that is not ours."""
    for index, word in enumerate(words):
        if word == "-m" and (folder / f"{words[index + 1].replace('.', '/')}.py").exists():
            return folder / f"{words[index + 1].replace('.', '/')}.py", words[index + 2:]
        if re.fullmatch(r"[\w./-]+\.(py|sh)", word):
            return folder / word, words[index + 1:]
    return None


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_readme_names_scripts_and_files_that_are_there(path):
    for folder, words in commands(path):
        found = script_of(folder, words)
        assert found is None or found[0].exists(), f"{folder}: {' '.join(words)}"
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def copy_of_the_parts(folder, *ignored):
    for part in PARTS:
        shutil.copytree(part, folder / part.relative_to(ROOT), ignore=shutil.ignore_patterns(
            "outputs", "*.bin", "runs", "__pycache__", "*.log", *ignored))
    for path in ROOT.glob("NaturalLanguage/*.sh"):
        shutil.copy(path, folder / "NaturalLanguage" / path.name)
    return folder


TRAINED = "NaturalLanguage/ContextLengthScalingTrainingExps/nanoGPT/outputs/small"
BROUGHT = (  # what a launcher looks for: files of the user, and those that commands before it have made
    "NaturalLanguage/Measuring/dev-v2.0.json", "NaturalLanguage/Measuring/words.txt",
    f"{TRAINED}/models/ctl512/config.json", f"{TRAINED}/models/ctl512_long/config.json",
    f"{TRAINED}/data/LONGCONTEXTSUBSET_val_P100.0_SFrom0.0.bin")
TOOLS = {  # what stands for the programs in a README: python notes what it is asked for, and does nothing
    "python": """#!/usr/bin/env bash
if [[ $1 == -c ]]; then exec "$REAL_PYTHON" "$@"; fi
printf '%s\\0' "$PWD" "$@" > "$(mktemp "$COMMANDS/XXXXXXXX")"
if [[ " $* " == *" --list "* ]]; then echo a_run; fi
""",
    "torchrun": """#!/usr/bin/env bash
until [[ $1 == *.py || $1 == -m ]]; do shift; done
exec python "$@"
""",
    "sbatch": """#!/usr/bin/env bash
until [[ $1 == *.sh ]]; do shift; done
exec bash "$@"
""",
    "pip": "#!/usr/bin/env bash\n", "cp": "#!/usr/bin/env bash\n",
}


def noting_tools(folder):
    """An environment in which `python` notes what it is asked for; the tools are written below the folder."""
    (folder / "commands").mkdir(parents=True)
    (folder / "tools").mkdir()
    for name, text in TOOLS.items():
        (folder / "tools" / name).write_text(text)
        (folder / "tools" / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    return environment | {"PATH": f"{folder / 'tools'}{os.pathsep}{os.environ['PATH']}", "REAL_PYTHON": sys.executable,
                          "COMMANDS": str(folder / "commands"), "PYTHON": "python"}


def noted(folder):
    """[folder, words behind `python`] of each command that was noted, once each."""
    found = []
    for file in (folder / "commands").iterdir():
        where, *words = file.read_text().split("\0")[:-1]
        if [where, words] not in found:
            found.append([where, words])
    return found


def part_commands(mode, commands):
    """part_commands.py with commands of one part."""
    return subprocess.run([sys.executable, str(Path(__file__).with_name("part_commands.py")), mode], text=True,
                          input=json.dumps(commands), capture_output=True)


@pytest.mark.slow
def test_every_command_in_the_readmes_is_one_that_its_script_takes(tmp_path):
    """Those of the launchers in them too, in the presets that they name: nothing is run, every argument is parsed."""
    copy, environment = copy_of_the_parts(tmp_path / "parts", "tests"), noting_tools(tmp_path)
    for name in BROUGHT:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    count = 0
    for path in READMES:
        part = next((part for part in PARTS if path.is_relative_to(part)), ROOT)
        blocks = re.findall(r"```bash\n(.*?)```", path.read_text(), re.S)
        assert blocks, path
        for block in blocks:
            script = f'cd() {{ builtin cd "{copy}/$1"; }}\nbuiltin cd "{copy / part.relative_to(ROOT)}"\n{block}'
            done = subprocess.run([os.environ.get("BASH32", "bash"), "-ec", script], env=environment, text=True,
                                  cwd=copy, capture_output=True)
            assert done.returncode == 0, f"{path}: {block}\n{done.stderr}"
        count, before = len(list((tmp_path / "commands").iterdir())), count
        assert count > before, f"{path} starts no script"
    for part in PARTS:
        commands = [command for command in noted(tmp_path)
                    if Path(command[0]).is_relative_to(copy / part.relative_to(ROOT))]
        done = part_commands("parse", commands)
        assert commands and (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_the_main_command_of_the_readme_in_its_smoke_preset(tmp_path):
    """From nothing to the figures, in a folder whose name has a space; under bash 3.2 where BASH32 names one."""
    line, = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install")
             and "reproduce.sh" in line]
    line = re.sub(r"reproduce.sh\b", "reproduce.sh smoke", line.partition(" && ")[2])
    folder = copy_of_the_parts(tmp_path / "a folder", "figures", "tests")
    tools = tmp_path / "tools"
    tools.mkdir()
    bash = os.environ.get("BASH32") or shutil.which("bash")
    (tools / "bash").symlink_to(bash)
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    environment["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([bash, "-ec", line], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for part in PARTS:
        assert list((folder / part.relative_to(ROOT) / "outputs" / "smoke" / "figures").glob("*.pdf")), part


def without(path, *folders):
    return Path(*(name for name in path.parts if name not in folders))


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_committed_figure_is_redrawn_from_the_committed_results(part, tmp_path):
    """The scripts of redraw_figures.sh with its arguments, in one process."""
    folder = copy_of_the_parts(tmp_path / "parts", "figures", "tests") / part.relative_to(ROOT)
    subprocess.run(["bash", "redraw_figures.sh"], cwd=folder, env=noting_tools(tmp_path), check=True)
    done = part_commands("run", noted(tmp_path))
    assert done.returncode == 0, done.stderr
    redrawn = folder / "outputs" / "redrawn"
    found = {without(path.relative_to(redrawn), "figures") for path in redrawn.rglob("*.*")}
    committed = {without(path.relative_to(part), "results", "figures") for path in TRACKED
                 if path.is_relative_to(part) and path.parent.name == "figures"}
    assert committed and committed - found == set()


@pytest.mark.slow
def test_small_models_that_retrieve_from_their_making_to_their_figures(tmp_path):
    """The training part makes them, of hardly any steps; the measuring part evaluates them."""
    folder = copy_of_the_parts(tmp_path, "figures", "tests", "results")
    training, measuring = (folder / part.relative_to(ROOT) for part in (PARTS[2], PARTS[1]))
    environment = {**os.environ, "PYTHON": sys.executable, "SEEDS": "0", "N_SAMPLES": "8",
                   "CUDA_VISIBLE_DEVICES": "", "KINDS": "key_value_uniform values_4 variables labels"}
    bash = os.environ.get("BASH32", "bash")
    subprocess.run([bash, "reproduce_retrieval.sh", "smoke"], cwd=training, env=environment, check=True)
    models = training / "outputs" / "retrieval_smoke" / "models"
    assert len(list(models.iterdir())) == 4
    subprocess.run([bash, "downstream/reproduce.sh", "small"], cwd=measuring, check=True,
                   env={**environment, "MODELS": str(models)})
    figures = measuring / "outputs" / "downstream" / "small" / "figures"
    assert {path.stem for path in figures.glob("*.pdf")} == {"recall_by_position", "recall_by_keys", "needles",
                                                             "chains_and_labels"}


@pytest.mark.slow
def test_a_model_at_steps_of_its_training_from_nothing_to_its_figure(tmp_path):
    """Weights of two steps are exported and measured; the figure is of both."""
    folder = copy_of_the_parts(tmp_path, "figures", "tests")
    done = subprocess.run([os.environ.get("BASH32", "bash"), "measure_training.sh", "smoke"], text=True,
                          cwd=folder / "NaturalLanguage", env={**os.environ, "PYTHON": sys.executable, "DRAWS": "0"},
                          stdout=subprocess.PIPE, check=True)
    assert "2048 tokens seen" in done.stdout and "4096 tokens seen" in done.stdout
    assert (folder / "NaturalLanguage" / "Measuring" / "outputs" / "training_smoke" / "figures"
            / "line_in_training.pdf").exists()
