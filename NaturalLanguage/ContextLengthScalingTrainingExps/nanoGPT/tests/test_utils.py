"""What the scripts share: lines instead of bars, one-line endings, defaults in --help, tables, requests."""

import json
import subprocess
import sys

import pytest

import utils
from helpers import FOLDER, run_script


def test_where_no_terminal_is_progress_is_lines_and_an_error_the_last_one(capsys, monkeypatch):
    monkeypatch.setattr(utils, "LINE_SECONDS", 0)
    with pytest.raises(SystemExit) as stop:
        for number in utils.progress(range(5), desc="counting", unit="number"):
            if number == 3:
                utils.fail("no\nfurther")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert stop.value.code == 2 and out == "" and "\r" not in err
    assert [line.partition(",")[0] for line in lines[:3]] == [f"counting: {n}/5 number" for n in (1, 2, 3)]
    assert lines[-1].endswith(": no further")
    assert list(utils.progress([1, 2], disable=True)) == [1, 2] and capsys.readouterr().err == ""
    monkeypatch.setattr(utils, "LINE_SECONDS", 30)
    with utils.progress(total=10, desc="all", initial=4) as bar:
        bar.set_postfix(loss="1.0")
        bar.update(6)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("all: 10/10 it, ") and line.endswith("loss=1.0")


def test_ctrl_c_is_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        utils.run_main(interrupted)
    assert stop.value.code == 130 and capsys.readouterr().err.count("\n") == 1


def test_a_request_must_be_equal(tmp_path):
    path = tmp_path / "made.json"
    assert not utils.current(path, {})
    utils.save_json(path, {"request": {"draws": 20, "lengths": [1, 2]}})
    assert utils.current(path, {"draws": 20, "lengths": (1, 2)})
    assert not utils.current(path, {"draws": 0, "lengths": (1, 2)})
    (tmp_path / "made.pt").write_bytes(b"cut")
    assert not utils.current(tmp_path / "made.pt", {})


@pytest.mark.parametrize("text, message", [
    ("a;b,c\n1;2,3\n", "several of comma, semicolon and tab"), ("a,b\n1\n", "line 2 has fewer fields"),
    ("a,b\n1,2,3\n", "line 2 has more fields")])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, capsys, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(SystemExit):
        utils.read_table(tmp_path / "table.csv")
    err = capsys.readouterr().err
    assert message in err and "table.csv" in err and err.count("\n") == 1


def test_other_encodings_are_one_line(tmp_path, capsys):
    (tmp_path / "table.csv").write_bytes("a,b\nä,1\n".encode("latin-1"))
    with pytest.raises(SystemExit):
        utils.read_table(tmp_path / "table.csv")
    assert "is not a CSV file in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("script, shown", [
    ("train.py", ["(default: 0.0006)", "(default: outputs/runs)", "(default: 0)", "train on tokens from an offset"]),
    ("sweep.py", ["(default: 384 512 ", "--submit", "(default: outputs/runs)"]),
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
