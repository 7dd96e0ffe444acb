"""The launchers of this part, submitted to a real Slurm."""

import csv
import sys

import pytest

from helpers import call, copy_of_the_folder
from slurm_jobs import needs_slurm, submit, wait_for

pytestmark = [pytest.mark.slow, needs_slurm]


@pytest.fixture
def folder(tmp_path):
    return copy_of_the_folder(tmp_path)


def exit_codes(records):
    return sorted(record["ExitCode"] for record in records)


def test_a_sweep_from_its_submission_to_its_figures(folder):
    """A cell that fails is named; submitted again, only that one runs; submitted once more, nothing does."""
    call("generate_data.py", "--train_size", 1000, "--valid_size", 200, cwd=folder)
    variables = {"CONTEXT_LENGTHS": "22 27", "TRAIN_SIZES": "1000 500", "SEEDS": "0", "MAX_TASKS": "2",
                 "PYTHON": sys.executable, "SBATCH_TIMELIMIT": "5"}
    command = ("bash", "train_model.sh", "--submit", "--num_epochs", 1, "--hidden_size", 8)
    in_the_way = folder / "outputs" / "runs" / "mlp_ctl27_train1000_wd0.0008_seed0"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a directory should be")

    printed, (array, collector) = submit(folder, *command, **variables)
    assert "sbatch --array=0-3%2 train_model.sh --num_epochs 1 --hidden_size 8" in printed
    assert f"--dependency=afterany:{array} " in printed
    tasks = wait_for(array)
    assert exit_codes(tasks) == ["0:0", "0:0", "0:0", "2:0"] and tasks[0]["TimeLimit"] == "00:05:00"
    assert exit_codes(wait_for(collector)) == ["1:0"]
    log = (folder / f"train_model_collect_{collector}.log").read_text()
    assert "3 finished runs of 4" in log and f"missing: {in_the_way.name}\n" in log
    failed, = (task for task in tasks if task["ExitCode"] == "2:0")
    assert in_the_way.name in (folder / f"train_model_{array}_{failed['ArrayTaskId']}.log").read_text()

    in_the_way.unlink()
    printed, (array, collector) = submit(folder, *command, **variables)
    assert "sbatch --array=1%2 " in printed
    assert exit_codes(wait_for(array)) == exit_codes(wait_for(collector)) == ["0:0"]
    with open(folder / "outputs" / "sweep.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    assert (folder / "outputs" / "figures" / "loss_vs_context.pdf").exists()

    printed, submitted = submit(folder, *command, **variables)
    assert " 4 cells" in printed and "sbatch" not in printed and submitted == []


def test_the_settings_of_a_cluster_come_from_one_file(folder):
    """cluster.env above the folder: options at submission, environment in the job; what is exported counts more."""
    (folder.parent / "cluster.env").write_text(
        "export SBATCH_TIMELIMIT=${SBATCH_TIMELIMIT:-7}\nexport SBATCH_ACCOUNT=ours MAX_TASKS=3\n"
        "export SBATCH_GPUS_PER_NODE=1\n"
        f"module_that_is_not_there\nPYTHON={sys.executable}\n")
    flags = ("train_model.sh", "--submit", "--num_epochs", 1)
    for limit, variables in (("00:07:00", {}), ("00:09:00", {"SBATCH_TIMELIMIT": "9"})):
        printed, (array, collector) = submit(folder, "bash", *flags, CONTEXT_LENGTHS="22 27", TRAIN_SIZES="1000",
                                              **variables)
        assert "--array=0-1%3 " in printed
        records = wait_for(array)
        assert {(record["TimeLimit"], record["Account"]) for record in records} == {(limit, "ours")}
        assert exit_codes(records) == ["2:0"] * 2  # there are no samples
        assert all("gpu" in record["TresPerNode"] for record in records)
        assert "TresPerNode" not in wait_for(collector)[0]
    assert "data/train.pt" in next(folder.glob(f"train_model_{array}_0.log")).read_text()


def test_a_preset_under_sbatch(folder):
    _, (job,) = submit(folder, "sbatch", "--time=10", "reproduce.sh", "smoke", PYTHON=sys.executable,
                       CONTEXT_LENGTHS="22 27", TRAIN_SIZES="4000", BI_CONTEXT_LENGTHS="22")
    assert exit_codes(wait_for(job)) == ["0:0"], next(folder.glob(f"*{job}.log")).read_text()
    assert (folder / "outputs" / "smoke" / "figures" / "intrinsic_dimension.pdf").exists()
