"""The benchmark runs, small and as a user runs it, and what its ways give passes its own checks."""

import json
import sys

from helpers import FOLDER, run


def test_benchmark(tmp_path):
    code, output = run([sys.executable, FOLDER / "benchmark.py", "--train_size", 3000, "--batch_size", 500,
                        "--generation_size", 3000, "--repeats", 1, "--kde_shapes", "400x8", "--script_train_size", 1000,
                        "--transformer_batch_size", 2, "--out", "there.json"], tmp_path)
    assert code == 0, output
    results = json.loads((tmp_path / "there.json").read_text())
    assert results["training"]["times_faster"] > 1 and results["generation"]["times_faster"] > 1
    assert 0 < results["training"]["loading_share"] < 1 and len(results["kde"]) == 1
    assert results["transformer"]["times_faster"] > 1
