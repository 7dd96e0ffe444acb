"""kill -9 at random moments of every script that writes: the same command then ends with the undisturbed result."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from helpers import FOLDER, make_model, make_texts, make_tokenizer, run_main

KILLS = int(os.environ.get("KILLS", 2))  # of each script; more for a campaign
MEASURED = ("--model_name", "model", "--dataset_path", "corpus", "--window", 33, "--stride", 8, "--trim", 0, 0,
            "--n_samples", 90, "--out_dir", "measured", "--device", "cpu")
STAGES = [  # script and arguments, in the order in which they need each other's files
    ("prepare_data.py", "--source", "text", "--text_files", "texts/*.txt", "--percent", 100, "--min_tokens", 150,
     "--model_name", "model", "--save_path", "corpus"),
    ("save_mid_features.py", *MEASURED, "--seq_lens", 1, 8, 32),
    ("evaluate_CE.py", *MEASURED, "--seq_lens", 1, 4, 8, 32),
    ("compute_eigvals.py", "measured", "--device", "cpu"),
    ("measure_entropy.py", "measured", "--draws", 3, "--device", "cpu"),
]


def start(stage, folder):
    command = [sys.executable, str(FOLDER / stage[0]), *map(str, stage[1:])]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(stage, folder):
    with contextlib.chdir(folder):
        code, _, err = run_main(stage[0].removesuffix(".py"), *stage[1:])
    assert code == 0, err


def contents(folder):
    """{path: bytes} of all results; datasets gives each data set a random fingerprint of its own."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.endswith("lock") and ".tmp" not in path.name
            and path.name != "state.json"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """{script: (folder before it, contents behind it)}, from one undisturbed run of all of them."""
    folder, found = tmp_path_factory.mktemp("stages") / "work", {}
    texts = make_texts(folder / "texts")
    make_model("llama", 300).save_pretrained(folder / "model")
    tokenizer = make_tokenizer([path.read_text() for path in sorted((folder / "texts").iterdir())], 300)
    tokenizer.save_pretrained(folder / "model")
    assert texts
    for stage in STAGES:
        before = shutil.copytree(folder, folder.parent / stage[0])
        finish(stage, folder)
        found[stage[0]] = before, contents(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage[0])
def test_a_killed_script_finishes_with_the_undisturbed_result(stage, stages, tmp_path):
    before, expected = stages[stage[0]]
    began = time.monotonic()  # how long it takes here and now
    start(stage, shutil.copytree(before, tmp_path / "timed")).communicate()
    seconds, chance, killed, attempt = time.monotonic() - began, random.Random(stage[0]), 0, 0
    while killed < KILLS:
        attempt += 1
        assert attempt < 5 * KILLS + 10
        folder = shutil.copytree(before, tmp_path / f"{attempt}")
        process = start(stage, folder)
        try:
            process.communicate(timeout=chance.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        for path in folder.rglob("*.pt"):
            torch.load(path, weights_only=True)  # what has its final name is whole
        finish(stage, folder)
        found = contents(folder)
        assert found.keys() == expected.keys()
        assert [path for path in expected if expected[path] != found[path]] == []
        shutil.rmtree(folder)
