"""What several test files need: scripts run in a folder of their own, and a small corpus."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests fill the cores, and threads would wait

from helpers import make_texts, run_script

pytest.register_assert_rewrite("finished_runs")  # so that it says what two runs differ in


@pytest.fixture
def nanogpt(tmp_path):
    """Run a script of this folder in tmp_path: nanogpt("train.py", "--seed", 1) -> CompletedProcess."""

    def run(name, *arguments, check=True):
        done = run_script(name, *arguments, cwd=tmp_path)
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def small_bins(tmp_path_factory):
    """The training tokens of a made-up corpus of 60 documents with a vocabulary of 300; the others lie beside them."""
    folder = tmp_path_factory.mktemp("corpus of tests")  # a space, as users' folders have it
    done = run_script("data/openwebtext/prepare.py", "--source", "text", "--text_files", make_texts(folder / "texts"),
                      "--percent", 100, "--min_tokens", 100, "--tokenizer", "bpe:300", "--out_dir", folder)
    assert done.returncode == 0, done.stderr
    return folder / "LONGCONTEXTSUBSET_train_P100.0_SFrom0.0.bin"
