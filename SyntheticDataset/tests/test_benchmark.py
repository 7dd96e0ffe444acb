"""The benchmark runs, small, and its two ways of each thing agree (it checks that itself)."""

import json

from synthetic_helpers import FOLDER


def test_benchmark(script, tmp_path):
    script("benchmark.py", "--train_size", 3000, "--batch_size", 500, "--generation_size", 3000, "--repeats", 1,
           "--kde_shapes", "400x8", "--script_train_size", 1000, "--task_definition", FOLDER / "task_definition.json")
    results = json.loads((tmp_path / "outputs" / "benchmark.json").read_text())
    assert results["training"]["times_faster"] > 1 and results["generation"]["times_faster"] > 1
    assert 0 < results["training"]["loading_share"] < 1 and len(results["kde"]) == 1
