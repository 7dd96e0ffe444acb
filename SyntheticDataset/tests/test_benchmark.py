"""The benchmark runs, small, and what its ways give passes its own checks."""

import json


def test_benchmark(script, tmp_path):
    script("benchmark.py", "--train_size", 1000, "--batch_size", 500, "--generation_size", 3000, "--repeats", 1,
           "--kde_shapes", "400x8", "--script_train_size", 1000, "--transformer_batch_size", 1, "--out", "there.json")
    results = json.loads((tmp_path / "there.json").read_text())
    assert results["training"]["times_faster"] > 1 and results["generation"]["times_faster"] > 1
    assert 0 < results["training"]["loading_share"] < 1 and len(results["kde"]) == 1
    assert results["transformer"]["times_faster"] > 1
