"""The timing of attention: rows that go on, refused flags, and exponents of known powers."""

import csv
import sys

import numpy as np
import pytest

import time_attention
from exponents import fit_exponent
from helpers import start_script

FLAGS = ("--attention_group", 8, "--window", 8, "--dilated_pairs", "8:1", "16:2", "--seconds", 0, "--n_head", 2,
         "--head_width", 4, "--threads", 1, "--clock", "processor", "--out", "time.csv")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run time_attention.py in this process, the cells too: run(*flags) -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    parse = time_attention.build_parser().parse_args

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["time_attention.py", *map(str, (*FLAGS, *flags))])
        monkeypatch.setattr(time_attention, "in_own_process",
                            lambda *cell: time_attention.measure(parse(), *cell))
        code = 0
        try:
            time_attention.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


def test_all_kinds_are_measured_and_rows_are_kept(run, tmp_path):
    code, out, _ = run("--lengths", 16, 32)
    assert code == 0 and out.count("time ~ length^") == 4
    with open(tmp_path / "time.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["attention"], row["context_length"]) for row in rows] == \
        [(kind, length) for kind in ("full", "shifted_sparse", "dilated", "sliding_window") for length in ("16", "32")]
    assert all(0 < float(row["forward_seconds"]) < float(row["seconds"]) for row in rows)
    assert run("--lengths", 16, 32, 64)[0] == 0
    with open(tmp_path / "time.csv", newline="") as file:
        more = list(csv.DictReader(file))
    assert len(more) == 12 and more[:8] == rows
    code, _, error = run("--lengths", 16, 32, "--window", 4)
    assert code == 2 and "holds rows with window 8" in error and error.count("\n") == 1
    about = tmp_path / "time_about.json"
    stored = about.read_text()
    about.write_text(stored.replace('"hardware": "', '"hardware": "an older '))
    code, _, error = run("--lengths", 16, 32)
    assert code == 2 and "holds rows with hardware an older " in error and error.count("\n") == 1
    about.write_text(stored)
    assert run("--lengths", 16, 32)[0] == 0 and about.read_text() == stored


def test_new_flags_never_keep_the_rows_of_old_ones(run, monkeypatch):
    """Killed before the first row of --overwrite, the command without it measures all rows."""
    measure, measured = time_attention.measure, []
    flags = ("--attentions", "full", "--lengths", 16, 32)
    assert run(*flags)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(time_attention, "measure", lambda *_: sys.exit(137))
        assert run(*flags, "--window", 4, "--overwrite")[0] == 137
    monkeypatch.setattr(time_attention, "measure", lambda *cell: measured.append(cell[1:]) or measure(*cell))
    assert run(*flags, "--window", 4)[0] == 0 and measured == [("full", 16), ("full", 32)]


@pytest.mark.parametrize("flags, message", [
    (("--lengths", 20), "divide the context length 20"), (("--dilated_pairs", "8:2"), "dilation 1"),
    (("--dilated_pairs", "8"), "--dilated_pairs"), (("--attentions", "linear"), "--attentions"),
    (("--clock", "processor", "--threads", 2), "--threads 1"),
])
def test_bad_flags_are_one_line(run, flags, message):
    code, _, error = run("--lengths", 32, *flags)
    assert code == 2 and message in error and error.count("\n") == 1


def test_it_runs_as_users_run_it(tmp_path):
    process = start_script("time_attention.py", *FLAGS, "--attentions", "sliding_window", "--lengths", 64, cwd=tmp_path)
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert "sliding_window, 64 tokens" in out and (tmp_path / "time_about.json").exists()


def test_exponents_are_those_of_powers():
    lengths = np.array([2.0, 4.0, 8.0, 16.0])
    assert fit_exponent(lengths, 3 * lengths**1.5).value == pytest.approx(1.5)
    assert fit_exponent(lengths, 3 * lengths**1.5).standard_error < 1e-6
    assert str(fit_exponent(lengths[:2], lengths[:2] ** 2)) == "2.00"
    assert fit_exponent(lengths, np.array([0.0, 1.0, 2.0, 4.0])).value == pytest.approx(1.0)
    noise = np.exp([0.1, -0.1, -0.1, 0.1])
    slope = fit_exponent(lengths, lengths * noise)
    assert slope.value == pytest.approx(1.0) and slope.standard_error > 0.01
