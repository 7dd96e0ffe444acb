"""The benchmark runs, small, and its two ways of each thing agree (it checks that itself)."""

import json
import subprocess
import sys

from helpers import FOLDER


def test_benchmark(tmp_path):
    command = [sys.executable, FOLDER / "benchmark.py", "--train_size", "3000", "--batch_size", "500",
               "--generation_size", "3000", "--repeats", "1", "--kde_shapes", "400x8", "--script_train_size", "1000",
               "--transformer_batch_size", "2",
               "--task_definition", FOLDER / "task_definition.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "outputs" / "benchmark.json").read_text())
    assert results["training"]["times_faster"] > 1 and results["generation"]["times_faster"] > 1
    assert 0 < results["training"]["loading_share"] < 1 and len(results["kde"]) == 1
    assert results["transformer"]["times_faster"] > 1
