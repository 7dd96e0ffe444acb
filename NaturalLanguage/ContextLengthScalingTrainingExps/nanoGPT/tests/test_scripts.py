"""Scripts as users ask them for help, and from another folder."""

import json
import subprocess
import sys

import pytest

from helpers import FOLDER, run_script


@pytest.mark.parametrize("script, shown", [
    ("train.py", ["(default: 0.0006)", "(default: outputs/runs)", "(default: 0)", "train on tokens from an offset"]),
    ("sweep.py", ["(default: 384 512 ", "--submit", "(default: outputs/runs)"]),
    ("plan_context_length.py", ["(default: 2.0)", "(default: outputs/plan)", "--submit", "bpe:1024 under 50 MB"]),
    ("collect_results.py", ["(default: outputs/sweep.csv)"]), ("benchmark.py", ["(default: 256 1024)"])])
def test_help_shows_the_defaults(script, shown):
    done = run_script(script, "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert all(part in text for part in shown) and "(default: None)" not in text and "(default: False)" not in text


def test_a_script_from_another_folder(tmp_path):
    """As users run it, in python itself: a configuration of the paper."""
    done = subprocess.run([sys.executable, FOLDER / "create_config.py", "--percent_name", "2p0"], cwd=tmp_path,
                          capture_output=True, text=True)
    config, = (tmp_path / "config").iterdir()
    assert done.returncode == 0 and done.stdout.strip() == f"config/{config.name}"
    assert json.loads(config.read_text())["context_length"] == 384
