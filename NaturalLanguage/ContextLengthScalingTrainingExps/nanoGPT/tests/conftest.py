"""Helpers of the tests: the scripts are run as a user runs them, in a folder of their own."""

import subprocess
import sys

import pytest

from nanogpt_helpers import FOLDER, make_texts


@pytest.fixture
def nanogpt(tmp_path):
    """Run a script of this folder in tmp_path: nanogpt("train.py", "--seed", 1) -> CompletedProcess."""

    def run(name, *arguments, check=True, launch=(), **options):
        command = [sys.executable, *launch, str(FOLDER / name), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def small_bins(tmp_path_factory):
    """The training tokens of a made-up corpus of 60 documents with a vocabulary of 300; the others lie beside them."""
    folder = tmp_path_factory.mktemp("corpus")
    command = [sys.executable, str(FOLDER / "data" / "openwebtext" / "prepare.py"), "--source", "text", "--text_files",
               make_texts(folder / "texts"), "--percent", "100", "--min_tokens", "100", "--tokenizer", "bpe:300",
               "--out_dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin"
