"""downstream.sh, submitted to a real Slurm: an array over tasks, whose runs cannot be written at first."""

import shutil
import sys

import pytest

from downstream_helpers import symbol_model
from helpers import FOLDER
from slurm_jobs import needs_slurm, submit, wait_for

pytestmark = [needs_slurm, pytest.mark.slow]


def test_cells_from_their_submission_to_their_figures(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "Measuring", ignore=shutil.ignore_patterns(
        "outputs", "results", "tests", "__pycache__", "*.log"))
    model = symbol_model(tmp_path / "symbols")
    variables = {"PYTHON": sys.executable, "SBATCH_TIMELIMIT": "5", "TASKS": "kv_retrieval two_needles",
                 "N_SAMPLES": "8", "MAX_LENGTHS": "34", "GENERATE_FLAGS": "--style symbols --new_tokens 1"}
    command = ("bash", "downstream/downstream.sh", "--submit", model, "--visible_fractions", "0.5", "1", "--device=cpu")
    blocked = folder / "outputs" / "downstream" / "runs"
    blocked.parent.mkdir(parents=True)
    blocked.touch()  # where a folder should be

    printed, (array, collector) = submit(folder, *command, **variables)
    assert "sbatch --array=0-1%8 downstream/downstream.sh" in printed
    assert [task["ExitCode"] for task in wait_for(array)] == ["2:0", "2:0"]
    assert [task["ExitCode"] for task in wait_for(collector)] == ["1:0"]

    blocked.unlink()
    printed, jobs = submit(folder, *command, **variables)
    assert [task["ExitCode"] for job in jobs for task in wait_for(job)] == ["0:0"] * 3
    assert (folder / "outputs" / "downstream" / "figures" / "by_position_score.pdf").exists()
    printed, jobs = submit(folder, *command, **variables)
    assert "all 2 cells" in printed and jobs == []
