"""The figures of attention from made-up tables whose numbers are known."""

import csv

import pytest

from draw_attention import pareto_front
from helpers import start_script

COLUMNS = ("context_length", "train_tokens", "seed", "at_last_step", "best_valid_loss", "full_context_loss",
           "tokens_per_second", "peak_memory_gigabytes")


def write_table(path, columns, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def tables(tmp_path):
    """Sweeps of two attentions at two sizes, and a table of times that grow with powers 2 and 1."""
    for name, speed, shift in (("full", 1000, 0.0), ("dilated", 4000, 0.1)):
        write_table(tmp_path / f"{name}.csv", COLUMNS, [
            (length, tokens, seed, int(length == 64), abs(length - best) / 100 + shift + seed / 1000, 1.0,
             speed * 16 / length, length / 100)
            for tokens, best in ((10_000, 32), (20_000, 64)) for length in (16, 32, 64) for seed in (0, 1)])
    columns = ("attention", "context_length", "forward_seconds", "seconds", "peak_megabytes")
    write_table(tmp_path / "time.csv", columns, [
        (name, length, 1, 1e-6 * length**power * (16 if power == 1 else 1), length)
        for name, power in (("full", 2), ("dilated", 1)) for length in (16, 32, 64)])


def test_figures_and_printed_numbers(tables, nanogpt, tmp_path):
    done = nanogpt("draw_attention.py", "--sweeps", "full=full.csv", "dilated=dilated.csv", "--time", "time.csv",
                   "--out_dir", "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"attention_{name}.{suffix}" for name in ("loss", "pareto", "time") for suffix in ("pdf", "png")}
    for line in ("10000 tokens, full, context 16: 0.1605 [0.1600, 0.1610] over 2 seeds",
                 "10000 tokens, dilated: lowest at 32 (not significantly worse: none)",
                 "20000 tokens, full: lowest at 64 (not significantly worse: none), at an end of the grid",
                 "full: seconds ~ length^2.00 +- 0.00 from 16 to 64 tokens",
                 "dilated: seconds ~ length^1.00 +- 0.00 from 16 to 64 tokens",
                 "dilated, 64 tokens: 4.0 times as fast as full",
                 "10000 tokens, best for their microseconds a token: dilated at 16, dilated at 32, full at 32"):
        assert line in done.stdout.splitlines(), line


def test_a_front_keeps_what_is_not_beaten():
    assert pareto_front([(3, 1), (1, 3), (2, 3), (2, 2), (4, 1), (5, 0.5)]) == [(1, 3), (2, 2), (3, 1), (5, 0.5)]


@pytest.mark.parametrize("flags, message", [
    ((), "nothing to draw"), (("--sweeps", "full.csv"), "--sweeps"), (("--time", "full.csv"), "lacks"),
    (("--sweeps", "full=time.csv"), "collect_results.py"), (("--time", "nothing.csv"), "nothing.csv"),
])
def test_bad_input_is_one_line(tables, nanogpt, flags, message):
    done = nanogpt("draw_attention.py", *flags, check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_it_runs_as_users_run_it(tables, tmp_path):
    process = start_script("draw_attention.py", "--time", "time.csv", cwd=tmp_path)
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert "attention_time" in out and (tmp_path / "outputs" / "attention" / "figures" / "attention_time.png").exists()
