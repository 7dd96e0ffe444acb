"""measure.sh, submitted to a real Slurm: an array over models, one of which cannot be read at first."""

import shutil
import sys

import pytest

from helpers import FOLDER
from slurm_jobs import needs_slurm, submit, wait_for

pytestmark = [needs_slurm, pytest.mark.slow]
SMALL = {"FEATURE_LENS": "1 4 16 32", "SEQ_LENS": "1 4 32", "N_SAMPLES": "90", "DRAWS": "2", "DEVICE": "cpu",
         "CHUNKS": "--window 33 --stride 8 --trim 0 0"}


def test_models_from_their_submission_to_their_figures(models, texts, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "Measuring", ignore=shutil.ignore_patterns(
        "outputs", "tests", "__pycache__", "filtered_dataset", "*.log"))
    for name in ("gpt2", "llama"):
        shutil.copytree(models[name], folder / name)
    (folder / "gpt2" / "config.json").rename(folder / "config.json")  # a model that cannot be read
    variables = {**SMALL, "PYTHON": sys.executable, "SBATCH_TIMELIMIT": "5",
                 "DATA": f"--source text --text_files {texts} --percent 100 --min_tokens 150"}
    command = ("bash", "measure.sh", "--submit", "./gpt2", "./llama")

    printed, (array, collector) = submit(folder, *command, **variables)
    assert "sbatch --array=0-1%8 measure.sh ./gpt2 ./llama" in printed
    assert {task["ArrayTaskId"]: task["ExitCode"] for task in wait_for(array)} == {"0": "2:0", "1": "0:0"}
    assert [task["ExitCode"] for task in wait_for(collector)] == ["1:0"]
    assert "missing: gpt2" in (folder / f"measure_collect_{collector}.log").read_text()
    assert (folder / "outputs" / "figures" / "ce_vs_entropy.pdf").exists()

    (folder / "config.json").rename(folder / "gpt2" / "config.json")
    printed, (array, collector) = submit(folder, *command, **variables)
    assert "--array=0%8 " in printed
    assert [task["ExitCode"] for task in wait_for(array) + wait_for(collector)] == ["0:0", "0:0"]
    printed, submitted = submit(folder, *command, **variables)
    assert "all 2 cells" in printed and submitted == []

    printed, jobs = submit(folder, *command, **{**variables, "SEQ_LENS": "1 4 8 32"})
    assert "--array=0-1%8 " in printed  # other settings are not finished because these are
    assert [task["ExitCode"] for job in jobs for task in wait_for(job)] == ["0:0"] * 3
