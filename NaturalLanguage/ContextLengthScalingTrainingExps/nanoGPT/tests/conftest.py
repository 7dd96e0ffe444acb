"""Helpers of the tests: the scripts are run as a user runs them, in processes and a folder of their own."""

import pytest

from helpers import FOLDER, make_texts
from script_process import run_script


@pytest.fixture
def nanogpt(tmp_path):
    """Run a script of this folder in tmp_path: nanogpt("train.py", "--seed", 1) -> CompletedProcess."""

    def run(name, *arguments, check=True, **options):
        done = run_script(FOLDER / name, *arguments, cwd=tmp_path, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def small_bins(tmp_path_factory):
    """The training tokens of a made-up corpus of 60 documents with a vocabulary of 300; the others lie beside them."""
    folder = tmp_path_factory.mktemp("corpus")
    done = run_script(FOLDER / "data" / "openwebtext" / "prepare.py", "--source", "text", "--text_files",
                      make_texts(folder / "texts"), "--percent", 100, "--min_tokens", 100, "--tokenizer", "bpe:300",
                      "--out_dir", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin"
