"""What the launchers of all parts have in common; sbatch itself is in the tests of each part."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from script_process import bash, quick_python

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PARTS = [ROOT / part for part in ("SyntheticDataset", "NaturalLanguage/Measuring",
                                  "NaturalLanguage/ContextLengthScalingTrainingExps/nanoGPT")]
LAUNCHERS = sorted(path for path in ROOT.rglob("*.sh") if path.name not in ("launching.sh", "redraw_figures.sh")
                   and "outputs" not in path.parts)


def test_the_parts_have_one_text_for_what_they_share():
    assert len({(part / "launching.sh").read_text() for part in PARTS}) == 1


def test_every_launcher_is_a_batch_script_that_can_be_requeued():
    assert len(LAUNCHERS) == 9
    for path in LAUNCHERS:
        text = path.read_text()
        header = text[:text.index("set -euo pipefail")]
        assert "#SBATCH --requeue\n#SBATCH --signal=B:USR1@120\n" in header
        assert all(line.startswith("#") for line in header.splitlines())
        assert re.search(r"^source (Measuring/)?launching.sh$", text, re.M)
        assert not re.search(r"--(account|partition|mail)|/home|/scratch", text)


def test_the_commands_of_the_readme_submit_what_is_there(tmp_path):
    """With a stand-in for sbatch that notes how it was called."""
    block, = re.findall(r"```bash\n((?:cd \S+ && .*\n)+)```", README)
    for part in PARTS:
        shutil.copytree(part, tmp_path / part.relative_to(ROOT), ignore=shutil.ignore_patterns(
            "outputs", "data", "results", "tests", "__pycache__"))
    (tmp_path / "sbatch").write_text('#!/bin/sh\necho "$PWD sbatch $*" >>"$NOTES"\necho 7\n')
    (tmp_path / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}"
                   + os.environ["PATH"], "NOTES": str(tmp_path / "notes")}
    for line in block.splitlines():
        done = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        if "--collect" in line:
            assert done.returncode == 2 and "there are no runs" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
    called = (tmp_path / "notes").read_text().splitlines()
    assert [re.sub(r".*?sbatch ", "", line) for line in called] == [
        "--parsable --array=0-47%8 train_model.sh --num_epochs 2000 --valid_dataset_size 100000",
        "--parsable --dependency=afterany:7 --output=train_model_collect_%j.log train_model.sh --collect "
        "--num_epochs 2000 --valid_dataset_size 100000",
        "--nodes=2 --gres=gpu:8 train_script.sh 5120 10p0 --train_tokens 80000000 --compile",
        "--parsable --array=0-2%8 measure.sh meta-llama/Llama-3.1-8B Qwen/Qwen3-8B-Base google/recurrentgemma-9b",
        "--parsable --dependency=afterany:7 --output=measure_collect_%j.log measure.sh --collect "
        "meta-llama/Llama-3.1-8B Qwen/Qwen3-8B-Base google/recurrentgemma-9b",
        "--gres=gpu:1 reproduce_transformer.sh paper"]
    for line in called:
        launcher = re.search(r"\w+\.sh", line).group()
        assert (Path(line.split(" sbatch ")[0]) / launcher).exists()


def test_every_committed_figure_is_redrawn_from_the_committed_results(tmp_path):
    line, = re.findall(r"^bash SyntheticDataset/redraw_figures.sh && .*$", README, re.M)
    for part in PARTS:
        shutil.copytree(part, tmp_path / part.relative_to(ROOT), ignore=shutil.ignore_patterns(
            "outputs", "data", "runs", "figures", "__pycache__"))
    bash(line, tmp_path, quick_python())
    for part in PARTS:
        redrawn = {path.name for path in (tmp_path / part.relative_to(ROOT) / "outputs" / "redrawn").rglob("*.*")}
        assert {path.name for path in (part / "results").rglob("figures/*")} <= redrawn
