"""Models from a corpus to their figures by measure.sh, sweep.py and measure_model.py; what is done and missing."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import measure_model
import sweep
from helpers import FOLDER, error_line, make_texts, run_main, run_script

GRID = {"FEATURE_LENS": "1 4 16 32", "SEQ_LENS": "1 4 32", "N_SAMPLES": "90", "DRAWS": "2", "DEVICE": "cpu",
        "CHUNKS": "--window 33 --stride 8 --trim 0 0"}
BASH = os.environ.get("BASH32") or shutil.which("bash")  # BASH32: a bash 3.2, macOS's own


@pytest.fixture
def grid(monkeypatch):
    for name, value in GRID.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def in_process(monkeypatch, grid):
    """Scripts that others start run in this process, those that draw not at all; returns the list of the commands."""
    commands = []

    def run(name, *arguments):
        commands.append([Path(name).name, *map(str, arguments)])
        if Path(name).stem.startswith("draw_"):
            return 0
        code, out, err = run_main(Path(name).stem, *arguments)
        print(out, err)
        return code

    for module in (sweep, measure_model):
        monkeypatch.setattr(module, "run_script", run)
    return commands


@pytest.fixture
def spaced(tmp_path, models):
    """Two models and texts in folders whose names have a space."""
    for name, kind in (("my llama", "llama"), ("my gpt", "gpt2")):
        shutil.copytree(models[kind], tmp_path / name)
    make_texts(tmp_path / "my texts")
    return tmp_path


def data(folder):
    return ("--", "--source", "text", "--text_files", folder / "my texts" / "*.txt", "--percent", 100, "--min_tokens",
            150)


def test_measure_sh_as_a_user_runs_it(spaced):
    """A space in every path, flags as --flag=value, under bash 3.2 where there is one; scripts that draw say how."""
    folder = shutil.copytree(FOLDER, spaced / "a folder", ignore=shutil.ignore_patterns("outputs", "tests", "results"))
    drawing = [*folder.glob("draw_CE*.py"), *folder.glob("draw_CEvsPCA/draw_*.py")]
    for path in drawing:
        path.write_text("import sys\nprint(sys.argv)\n")
    command = [BASH, "measure.sh", "--out_dir=my results", "../my llama", "--draws=1", *data(Path(".."))]
    environment = {**os.environ, **GRID, "PYTHON": sys.executable}
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    results = folder / "my results"
    assert {path.name for path in (results / "my llama").iterdir()} >= {
        "cross_entropy.csv", "losses.pt", "spectra.pt", "measures.csv", "final.json", "measurement.json"}
    flags = ["--results", "my results/my llama", "--out_dir", "my results/figures"]
    drawn = {name: arguments for name, *arguments in map(ast.literal_eval, re.findall(r"^\[.*\]$", done.stdout, re.M))}
    assert drawn == {str(path.relative_to(folder)): flags + ["--exclude"] * (path.name == "draw_CE_vs_entropy.py")
                     for path in drawing} and len(drawn) == 4
    request = json.loads((results / "my llama" / "final.json").read_text())["request"]
    assert (request["draws"], request["window"], request["data"][3]) == (1, 33, "../my texts/*.txt")


def test_launchers_of_presets(tmp_path):
    """Of measure_training.sh, with `echo` for python, also as a job of Slurm: one run is measured, in OUT."""
    for path in (*FOLDER.parent.glob("*.sh"), *FOLDER.glob("*.sh"), *FOLDER.glob("downstream/*.sh")):
        copied = tmp_path / path.relative_to(FOLDER.parent)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    training = tmp_path / "ContextLengthScalingTrainingExps" / "nanoGPT"
    (tmp_path / "Measuring" / "measurement.py").touch()
    (tmp_path / "Measuring" / "downstream" / "evaluate_tasks.py").touch()

    def launch(path, *arguments, **variables):
        return subprocess.run([BASH, path, *arguments], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, "PYTHON": "echo", **variables})

    for number in (0, 1):
        (training / "my" / "runs" / f"ctl32_tok4096_seed{number}").mkdir(parents=True)
        done = launch("measure_training.sh", "smoke", "--seed", "1", OUT="my", SLURM_JOB_ID="1")
        assert done.returncode == 2 * number, done.stderr
    line, = done.stderr.splitlines()
    assert line.startswith("measure_training.sh: ") and "my/runs has 2 runs" in line
    shutil.rmtree(training / "my" / "runs" / "ctl32_tok4096_seed0")
    for out, models in (("my", "../ContextLengthScalingTrainingExps/nanoGPT/my"), (str(training / "my"),) * 2):
        done = launch("measure_training.sh", "smoke", "--seed", "1", OUT=out)
        assert f"export_hf.py {out}/runs/ctl32_tok4096_seed1 --weights kept_2048.pt" in done.stdout, done.stderr
        assert f"sweep.py {models}/models/tok2048 {models}/models/tok4096 -- --source tokens" in done.stdout
        assert f"--results {out}/tok2048 {out}/tok4096" in done.stdout
    for path in ("reproduce.sh", "Measuring/reproduce.sh", "Measuring/downstream/reproduce.sh"):
        done = launch(path, "smoke", "--device=cpu")
        assert done.returncode == 2 and done.stderr.startswith("reproduce.sh: give a preset alone, not --device=cpu")
    done = launch("Measuring/downstream/reproduce.sh", "paper", OUT="my", GENERATE_FLAGS="--words w")
    folders = [line.split("--out_dir ")[-1].split()[0] for line in done.stdout.splitlines() if line.startswith("$")]
    assert folders == ["my", "my/position_weighted"]


def test_done_is_what_these_settings_made(spaced, in_process, monkeypatch):
    """The modes of a grid of two models, one of which cannot be read at first; other settings are another request."""
    def run(*arguments):
        return run_main("sweep", *arguments, *data(spaced))

    models = (spaced / "my llama", spaced / "my gpt")
    assert run("--missing", *models)[:2] == (1, "my llama\nmy gpt\n")
    code, printed, err = run(models[0])
    assert code == 0, printed + err
    steps = [name for name, *_ in in_process]
    assert steps[1:5] == ["prepare_data.py", "save_mid_features.py", "evaluate_CE.py", "measure_entropy.py"]
    code, printed, err = run("--collect", *models)
    assert code == 1 and err.splitlines()[-1].partition(": ")[2] == "my gpt"
    assert run("--missing", *models)[:2] == (1, "my gpt\n") and run("--missing", models[0])[0] == 0
    for name, value in (("SEQ_LENS", "1 4"), ("DRAWS", "3"), ("N_SAMPLES", "91"), ("CHUNKS", "--window 34")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert run("--missing", models[0])[:2] == (1, "my llama\n")
    with monkeypatch.context() as patch:
        patch.setenv("SEQ_LENS", "1 4 8 32")
        assert run("--missing", models[0])[0] == 1 and run(models[0])[0] == 0 == run("--missing", models[0])[0]
    assert run(models[0])[0] == 0  # and back again: what is there more of does no harm
    assert run("--missing", models[0], "--n_samples", 60)[0] == 0  # as many or more
    monkeypatch.setenv("N_SAMPLES", "60")
    assert run(models[0])[0] == 0
    final = json.loads((spaced / "outputs" / "my llama" / "final.json").read_text())
    with open(spaced / "outputs" / "my llama" / "measures.csv", newline="") as file:
        assert {row["n"] for row in csv.DictReader(file) if not row["draw"]} == {"90"} == {str(final["n_samples"])}
    assert run("--missing", models[0], "--draws=3")[0] == 1 and run("--draws", "2", models[0], "--missing")[0] == 0
    (spaced / "outputs" / "my llama" / "measures.csv").rename(spaced / "away")
    assert run("--missing", models[0])[0] == 1
    config = spaced / "my llama" / "config.json"
    (spaced / "away").rename(spaced / "outputs" / "my llama" / "measures.csv")
    whole = config.read_text()
    config.write_text(whole + " ")
    assert run("--missing", models[0])[0] == 1  # another model
    config.write_text(whole)
    assert run("--missing", models[0])[0] == 0
    text = spaced / "my texts" / "000.txt"
    text.write_text(text.read_text() + "more")
    assert run("--missing", models[0])[0] == 1  # another text
    assert "was prepared with inputs sha256" in run(models[0])[1]


def test_what_is_submitted(spaced, in_process, monkeypatch, tmp_path):
    """With a stand-in for sbatch that notes its arguments: the cells that are missing, and a job that collects."""
    stand_in = tmp_path / "bin" / "sbatch"
    stand_in.parent.mkdir()
    stand_in.write_text("""#!/bin/sh
        for word in "$@"; do printf "%s|" "$word"; done >>"$NOTES"
        echo >>"$NOTES"
        echo 7""")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    models = [str(spaced / name) for name in ("my gpt", "my llama", "nowhere")]
    assert run_main("sweep", models[1], *data(spaced))[0] == 0
    code, printed, err = run_main("sweep", *models, "--submit", *data(spaced))
    assert code == 0, err
    behind = "|".join(map(str, (*models, *data(spaced)))) + "|"
    assert (tmp_path / "notes").read_text().splitlines() == [
        f"--parsable|--array=0,2%8|measure.sh|{behind}",
        f"--parsable|--dependency=afterany:7|--output=measure_collect_%j.log|measure.sh|--collect|{behind}"]
    code, printed, _ = run_main("sweep", "--submit", models[1], *data(spaced))
    assert code == 0 and "all 1 cells" in printed and len((tmp_path / "notes").read_text().splitlines()) == 2


def test_bad_input_is_one_line(spaced, grid, monkeypatch):
    assert "called my llama" in error_line(run_main("sweep", spaced / "my llama", spaced / "x" / "my llama"))
    assert "no cell 2" in error_line(run_main("sweep", spaced / "my llama", "--cell", 2))
    assert "required" in error_line(run_main("sweep"))
    for name, value, text in (("DATA", '--text_files "my', "cannot be split"),
                              ("SEQ_LENS", "8 x", "x is not an integer")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert text in error_line(run_main("sweep", spaced / "my llama"))


def test_a_step_that_fails_ends_the_measuring(spaced, grid):
    """The cause is the last line of stderr, and nothing says that the model is measured."""
    done = run_script("measure_model.py", spaced / "my llama", "--", "--source", "text", "--text_files", "none*",
                      cwd=spaced)
    assert done.returncode == 2 and "no file matches" in done.stderr.splitlines()[-1]
    assert not list(spaced.glob("outputs/*/final.json"))
