"""sweep.py and the launchers of downstream/: cells, what is missing, what is not done again, flags in any order."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from downstream_helpers import error_of, run, succeed

import jobs
from helpers import run_main

FOLDER = Path(__file__).resolve().parents[1]
BASH = os.environ.get("BASH32", "bash")


@pytest.fixture
def model(chat_models):
    return chat_models["qwen3"]


@pytest.fixture
def generation(files):
    """What generate_tasks.py gets."""
    return f"--new_tokens 4 --essays {files[files.index('--essays') + 1]}"


@pytest.fixture
def flags(generation, tmp_path, monkeypatch):
    """A grid of two cells; cells are processes, started in the folder Measuring."""
    monkeypatch.chdir(FOLDER)
    return ["--max_lengths=1000", "--visible_fractions", "0.5", "1", "--n", "3", "--tasks", "kv_retrieval", "ruler_vt",
            "--generate_flags", generation, "--out_dir", str(tmp_path / "out"), "--device=cpu"]


@pytest.fixture
def in_process(monkeypatch):
    """Cells and figures run in this process."""
    def run_script(_, module, *arguments):
        code, _, err = run_main(module, *arguments)
        assert code == 0, err
        return code

    def run_cells(cells, *_):
        for cell in cells:
            if not cell.is_done():
                run_script(*cell.command)

    monkeypatch.setattr(jobs, "run_script", run_script)
    monkeypatch.setattr(jobs, "run_cells", run_cells)


def test_cells_one_by_one(model, flags, tmp_path, in_process):
    """One of them as an array of Slurm runs it, in a process."""
    names = ["qwen3_kv_retrieval_1000", "qwen3_ruler_vt_1000"]
    assert run("sweep", model, *flags, "--missing")[:2] == (1, "\n".join(names) + "\n")
    assert "there are 2 cells, no cell 2: use --array=0-1" in error_of("sweep", model, *flags, "--cell", 2)
    done = subprocess.run([sys.executable, "-m", "downstream.sweep", str(model), *flags, "--cell", "1"], cwd=FOLDER,
                          capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0 and "cell 1 of 2: qwen3_ruler_vt_1000" in done.stdout and "finished" in done.stdout
    assert run("sweep", model, *flags, "--missing")[:2] == (1, names[0] + "\n")
    code, out, _ = run("sweep", *flags, "--collect", model)  # flags in any order
    assert code == 1 and f"missing: {names[0]}" in out
    assert (tmp_path / "out" / "figures" / "visible_fraction_score.png").exists()
    assert run("sweep", model, *flags, "--no-generate", "--missing")[1].splitlines() == names  # another request


def test_samples_of_other_flags_are_not_those_of_the_cell(model, flags, generation, in_process):
    """Their file has the same name: the cell is missing, and the samples that are there are not replaced unasked."""
    flags = [*flags, "--tasks", "two_needles", "--no-generate", "--no-figures"]
    succeed("sweep", model, *flags)
    assert run("sweep", model, *flags, "--missing")[0] == 0
    other = [*flags, "--generate_flags", f"{generation} --values 100"]
    assert run("sweep", model, *other, "--missing")[:2] == (1, "qwen3_two_needles_1000\n")
    assert "holds samples with values 90000, not 100; add --overwrite" in error_of("sweep", model, *other)
    assert run("sweep", model, *flags, "--missing")[0] == 0


def test_another_chat_template_or_dtype_is_another_request(model, flags, in_process, tmp_path):
    """A base model with a chat model's tokenizer has samples of its own, and a changed template makes other ones."""
    flags = [*flags, "--tasks", "ruler_vt", "--no-generate", "--no-figures"]
    chat, base = (shutil.copytree(model, tmp_path / name) for name in ("chat", "base"))
    (base / "chat_template.jinja").unlink()
    succeed("sweep", chat, base, *flags)
    made = list((tmp_path / "out" / "samples").glob("*/*.json"))
    assert len(made) == 2 and {json.loads(path.read_text())["chat"] for path in made} == {False, True}
    assert run("sweep", chat, base, *flags, "--missing")[0] == 0
    final, = (tmp_path / "out" / "runs" / "base").glob("*/final.json")
    final.write_text(final.read_text().replace('"float32"', '"bfloat16"'))  # as a GPU makes it, elsewhere
    assert run("sweep", base, *flags, "--missing")[0] == 0
    assert run("sweep", base, *flags, "--missing", "--dtype", "float32")[0] == 1
    template = chat / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "helper"))
    assert run("sweep", chat, *flags, "--missing")[:2] == (1, "chat_ruler_vt_1000\n")
    generation = ("--task", "kv_retrieval", "--units", 4, "--n", 1, "--out", tmp_path / "s.jsonl", "--tokenizer")
    succeed("generate_tasks", *generation, model)
    assert "holds samples with chat_template_sha256" in error_of("generate_tasks", *generation, chat)


def test_without_answers_the_figures_show_the_cross_entropy(model, flags, in_process, tmp_path):
    flags = [*flags, "--tasks", "kv_retrieval", "--no-generate"]
    assert "makes no answers to score" in error_of("sweep", model, *flags, "--measure", "score")
    assert "missing" not in succeed("sweep", model, *flags)
    drawn = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"visible_fraction_cross_entropy.png", "helmet_cross_entropy.csv"} <= drawn


@pytest.mark.slow
def test_the_launcher(model, flags, tmp_path):
    """In a checkout with a space in its path, under bash 3.2 where BASH32 names one; started again, nothing is done."""
    checkout = tmp_path / "a checkout" / "Measuring"
    shutil.copytree(FOLDER, checkout, ignore=shutil.ignore_patterns("outputs", "results", "tests", "__pycache__"))
    for again in (False, True):
        done = subprocess.run([BASH, "downstream/downstream.sh", str(model), *flags], cwd=checkout, capture_output=True,
                              text=True, env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""})
        assert done.returncode == 0, done.stderr
        assert ("finished before" in done.stdout) == again
    done = subprocess.run([BASH, "downstream/reproduce.sh", "none"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "unknown preset none; use smoke, small or paper" in done.stderr
    done = subprocess.run([BASH, "downstream/reproduce.sh", "paper"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2 and "SQUAD=FILE WORDS=FILE" in done.stderr


def test_flags_that_do_not_fit(model, flags):
    assert "invalid choice" in error_of("sweep", model, *flags, "--tasks", "none")
    assert "is not a number from 0 to 1" in error_of("sweep", model, *flags, "--visible_fractions", "2")
    assert "--cell" in succeed("sweep", "--help") and "default: score" in succeed("sweep", "--help")


@pytest.mark.parametrize(("name", "value"), [("TASKS", "nope"), ("MAX_LENGTHS", "0"), ("GENERATE_FLAGS", "'")])
def test_a_wrong_variable_is_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, _, err = run("sweep", "no_model")
    assert code == 2 and value in err and len(err.splitlines()) == 1
