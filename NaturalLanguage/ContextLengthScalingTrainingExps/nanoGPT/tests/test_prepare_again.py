"""Preparing tokens again: what is current, what goes on after a stop, and corpora with the tokenizer of another."""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import FOLDER, make_texts
from preparing import SMALL, all_prepared, done, error_line, fake_package, prepared, run

SCRIPT = FOLDER / "data" / "openwebtext" / "prepare.py"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_was_prepared_from_other_inputs_is_refused(tmp_path, monkeypatch):
    """Changed files under the same flags, another package version, or other flags that matter: refused; else kept."""
    pattern = make_texts(tmp_path / "texts", n_files=30, n_words=20)
    flags = ("--source", "text", "--text_files", pattern, *SMALL)
    done(*flags)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(files) == 5
    train, = (path for path in (tmp_path / "out").iterdir() if "train" in path.name and path.suffix == ".bin")
    left = train.with_name(train.name.replace("_train", "").replace(".bin", ".parts"))  # by a kill as it ended
    left.mkdir()
    assert "prepared before" in done(*flags) and not left.exists()
    (tmp_path / "texts").rename(tmp_path / "moved")
    flags = ("--source", "text", "--text_files", "moved/*.txt", *SMALL)
    os.utime(tmp_path / "moved" / "003.txt", (1, 1))
    assert "prepared before" in done(*flags, "--workers", 1, "--packages", "tqdm")
    assert "seed 114, not 5" in error_line(*flags, "--seed", 5)
    assert "separator None, not x" in error_line(*flags, "--separator", "x")
    before = os.stat(tmp_path / "moved" / "003.txt")
    text = (tmp_path / "moved" / "003.txt").read_text()
    (tmp_path / "moved" / "003.txt").write_text(text[::-1])
    os.utime(tmp_path / "moved" / "003.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    line = error_line(*flags)
    assert "inputs sha256" in line and "--overwrite" in line
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    done(*flags, "--overwrite")
    assert text[::-1] in all_prepared() and text not in all_prepared()
    (tmp_path / "out" / "SUBSET_tokenizer_P100.0_SFrom0.0.json").write_text("{")
    assert "prepared before" not in done(*flags)
    assert text[::-1] in all_prepared()

    fake_package(tmp_path / "site", "alpha", "1.0", {f"alpha/m{n}.py": f'"""Module {n}."""' for n in range(20)})
    monkeypatch.syspath_prepend(tmp_path / "site")
    flags = ("--source", "docstrings", "--packages", "alpha", *SMALL, "--tokenizer", "bpe:260", "--out_dir", "alpha")
    done(*flags)
    assert "prepared before" in done(*flags)
    (tmp_path / "site" / "alpha-1.0.dist-info").rename(tmp_path / "site" / "alpha-1.1.dist-info")
    metadata = tmp_path / "site" / "alpha-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    assert "inputs alpha 1.0, not 1.1" in error_line(*flags)


MOVES = 13  # of files, as a corpus takes the place of another


@pytest.mark.parametrize("interrupted_at", range(1, MOVES + 2))
def test_an_interrupted_overwrite_never_mixes_old_and_new(tmp_path, monkeypatch, interrupted_at):
    """Stopped before each move of a file in turn: what can be read is of one corpus, and the same command ends well."""
    pattern = make_texts(tmp_path / "texts", n_files=30, n_words=20)
    flags = ("--source", "text", "--text_files", pattern, "--percent", 100, "--min_tokens", 0)
    done(*flags, "--tokenizer", "bpe:260")
    old, replace, calls = prepared(tmp_path / "out")[1], os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        replace(source, target)

    new = (*flags, "--tokenizer", "bpe:270", "--seed", 5, "--overwrite")
    monkeypatch.setattr(os, "replace", stop)
    run(*new)
    assert len(calls) == min(interrupted_at, MOVES)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    requests = []
    for split in ("train", "val"):
        if (tmp_path / "out" / f"SUBSET_{split}_P100.0_SFrom0.0.json").exists():
            requests.append(prepared(tmp_path / "out", split=split)[1]["request"])
    assert all(request == requests[0] for request in requests)
    assert len(requests) == 2 or not requests or requests[0] != old["request"]
    done(*new)
    done(*new, "--out_dir", "fresh")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == \
        {path.name: path.read_bytes() for path in Path("fresh").iterdir()}


def run_and_signal(number, after, *arguments):
    """Run prepare.py as users do; it gets a signal when it has noted so many batches. Returns (exit code, stderr)."""
    code = f"""
import os, runpy, sys
sys.path[:0] = [os.path.dirname(sys.argv[1]), {str(FOLDER)!r}]
import spool
append, calls = spool.Spool.append, []
def append_and_signal(*arguments):
    append(*arguments)
    calls.append(arguments)
    if len(calls) == {after}:
        os.kill(os.getpid(), {int(number)})
spool.Spool.append = append_and_signal
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    command = [sys.executable, "-c", code, SCRIPT, *arguments]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return ended.returncode, ended.stderr


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path):
    """Killed twice, stopped by Ctrl-C once, then run as users run it; a second one at the same time is refused."""
    flags = ("--source", "text", "--text_files", make_texts(tmp_path / "texts", n_files=2500, n_words=20), *SMALL)
    done(*flags, "--out_dir", "whole")
    parts = tmp_path / "out" / "SUBSET_P100.0_SFrom0.0.parts"
    for number, batches, read in ((signal.SIGKILL, 1, 512), (signal.SIGKILL, 2, 1536), (signal.SIGINT, 1, 2048)):
        code, err = run_and_signal(number, batches, *flags, "--out_dir", "out")
        noted = json.loads((parts / "SUBSET_train_P100.0_SFrom0.0.progress.tmp").read_text())
        assert noted["read"] == read and not list(tmp_path.glob("out/*.bin"))
    assert code == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "prepare.py: interrupted; start the same command again, it goes on"
    with open(parts / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process" in error_line(*flags)
    command = [sys.executable, SCRIPT, *flags, "--out_dir", "out"]
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert finished.returncode == 0 and "\r" not in finished.stderr, finished.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(files) == 5 and files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_a_second_corpus_with_the_tokenizer_of_the_first(tmp_path):
    first = make_texts(tmp_path / "texts", n_files=30, n_words=60)
    done("--source", "text", "--text_files", first, *SMALL)
    tokenizer = (tmp_path / "out" / "SUBSET_tokenizer_P100.0_SFrom0.0.json").rename(tmp_path / "tokenizer.json")
    (tmp_path / "other.txt").write_text("A second corpus.<doc>Of other words, 12345.<doc>Three.")
    flags = ("--source", "text", "--text_files", "other.txt", "--separator", "<doc>", *SMALL, "--tokenizer", tokenizer)
    done(*flags, "--out_dir", "second")
    texts, about = prepared(tmp_path / "second")
    assert about["tokenizer"]["sha256"] == hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    assert len(texts) == 2 and set(texts) < {"A second corpus.", "Of other words, 12345.", "Three."}
    assert "prepared before" in done(*flags, "--out_dir", "second")
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert "tokenizer_sha256" in error_line(*flags, "--out_dir", "second")
    tokenizer.write_text(tokenizer.read_text().replace("<|endoftext|>", "<|end|>"))
    assert "has no token <|endoftext|>" in error_line(*flags, "--out_dir", "third")
    tokenizer.write_text("{")
    assert "not a whole tokenizer" in error_line(*flags, "--out_dir", "third")
