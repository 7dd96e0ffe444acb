"""utils.py and files.py, which the three parts have in common: lines for the user, flags, signals, files, requests."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import utils
from files import (current, identity, load_json, load_tensors, lock, make_directory, read_table, read_tensors,
                   replacing, save_json, save_tensors, text_hash, write_csv)
from helpers import FOLDER, call


@pytest.fixture
def error_of(capsys):
    """Calls what must fail with exit code 2 and one line; returns the line."""
    def error_of(function, *arguments, **options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            function(*arguments, **options)
        line, = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        return line
    return error_of


def test_no_bar_is_drawn_into_a_file_and_the_error_is_the_last_line(capsys, monkeypatch):
    monkeypatch.setattr(utils, "LINE_INTERVAL", 0)
    with pytest.raises(SystemExit) as stopped:
        for item in utils.progress(range(5), desc="counting", unit="items"):
            if item == 3:
                utils.fail("went\nwrong")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert stopped.value.code == 2 and out == "" and "\r" not in err and len(lines) == 4
    assert [line.partition(",")[0] for line in lines[:3]] == [f"counting: {n}/5 items" for n in (1, 2, 3)]
    assert lines[-1].endswith(": went wrong")
    assert list(utils.progress([1, 2], disable=True)) == [1, 2] and capsys.readouterr().err == ""
    monkeypatch.setattr(utils, "LINE_INTERVAL", 30)
    with utils.progress(total=10, desc="all", initial=4) as bar:
        bar.set_postfix(loss="1.0")
        bar.update(6)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("all: 10/10 it, ") and line.endswith("loss=1.0")
    assert list(utils.progress(iter("ab"), leave=False)) == ["a", "b"] and capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_is_cleared_before_the_line_of_an_error(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = utils.progress(range(5), desc="counting")
    items = iter(bar)
    next(items)
    with pytest.raises(SystemExit):
        utils.fail("went wrong")
    drawn, _, last = capsys.readouterr().err.rpartition("\r")
    assert "counting:   0%" in drawn and bar.disable and last.endswith(": went wrong\n") and "counting" not in last


def test_under_torchrun_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    utils.say("loud")
    with pytest.raises(SystemExit) as stopped:
        utils.fail("wrong")
    assert stopped.value.code == 2 and capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    utils.say("loud")
    assert capsys.readouterr() == ("loud\n", "")


def test_ctrl_c_is_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        utils.run_main(interrupted)
    line, = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 130 and "interrupted" in line


def test_a_signal_is_noted_or_raised_once_and_given_back():
    former = signal.getsignal(signal.SIGTERM)
    with utils.StopSignal() as stop:
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)  # changes nothing
        assert stop.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGTERM) == former
    with utils.StopSignal(raising=True) as stop:
        with pytest.raises(utils.Stopped):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) == former


def test_a_run_ends_by_the_signal_that_it_received():
    code = ("import os, signal, utils; stop = utils.StopSignal(); os.kill(os.getpid(), signal.SIGUSR1); "
            "stop.end('all is saved')")
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True)
    line, = done.stderr.splitlines()
    assert done.returncode == -signal.SIGUSR1 and "SIGUSR1" in line and line.endswith("all is saved")


def test_defaults_are_shown_by_help():
    """The mechanism once, and one script's."""
    parser = utils.Parser("About.")
    for flag, options in (("--size", {"type": int, "default": 0}), ("--name", {}), ("--all", {"action": "store_true"}),
                          ("--lengths", {"nargs": "+", "default": ["5%", 8]}), ("--none", {"default": []}),
                          ("--file", {"default": "a/b", "help": "of x (default: the x of y)"})):
        parser.add_argument(flag, **{"help": "what", **options})
    text = " ".join(parser.format_help().split())
    assert text.count("default") == 3 and "--size SIZE what (default: 0)" in text and "(default: the x of y)" in text
    assert "what (default: 5% 8)" in text
    done = call("train_model.py", "--help", cwd=".")
    assert "(default: 0.0001)" in done.stdout and "(default: data/train.pt)" in done.stdout


@pytest.mark.parametrize("name, good, bad", [
    ("positive_int", {"1": 1}, "0 1.5 x"), ("non_negative_int", {"0": 0}, "-1 inf"),
    ("positive_float", {"1e-9": 1e-9}, "0 -1 inf nan x"), ("non_negative_float", {"0": 0}, "-1e-9 inf nan"),
    ("fraction", {"0": 0, "1": 1}, "1.01 -0.1 nan"), ("seed", {"0": 0, str(2**63 - 1): 2**63 - 1}, f"-1 {2**63} 1.5")])
def test_argument_types(name, good, bad):
    for text, value in good.items():
        assert getattr(utils, name)(text) == value
    for text in bad.split():
        with pytest.raises(argparse.ArgumentTypeError, match="is not a"):
            getattr(utils, name)(text)


def test_a_device_that_is_not_here(error_of, monkeypatch):
    assert utils.choose_device("cpu") == torch.device("cpu")
    for name in ("abacus", "meta"):
        assert f"--device {name} " in error_of(utils.choose_device, name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "needs GPU 2, and torch sees 2 GPUs" in error_of(utils.choose_device, "cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "sees 0 GPUs" in error_of(utils.choose_device, "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert utils.choose_device("cuda") == torch.device("cuda", 1)


def test_what_a_run_ran_on():
    about = utils.describe_environment(torch.device("cpu"))
    assert about["torch"] == torch.__version__ and about["threads"] == torch.get_num_threads()
    assert about["hardware"].endswith(f"{os.cpu_count()} cores")


def test_a_full_disk_leaves_the_old_file(tmp_path, error_of):
    """What torch.save and write_text raise on a full disk; the file that was there stays as it was."""
    path = tmp_path / "kept"
    path.write_text("old")

    def write(error):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    for error in (OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")):
        assert "kept" in error_of(write, error)
    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and path.read_text() == "old"


def test_tensors_come_back_and_damage_is_seen(tmp_path, error_of):
    path = tmp_path / "a.pt"
    save_tensors(path, {"values": torch.arange(1000.0)})
    for mmap in (False, True):
        assert torch.equal(load_tensors(path, "the values", mmap=mmap)["values"], torch.arange(1000.0))
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1  # one bit of one number
    for content in (bytes(changed), whole[:len(whole) // 2], b"", b"not a tensor file"):
        path.write_bytes(content)
        assert read_tensors(path) is None and "a.pt is damaged" in error_of(load_tensors, path, "the values")
    torch.save(torch.zeros(3), path)
    assert "holds no dictionary" in error_of(load_tensors, path, "the values")
    assert load_tensors(path, "the values", kind=(dict, torch.Tensor)).shape == (3,)
    assert "No such file" in error_of(load_tensors, tmp_path / "nowhere.pt", "the values")


def test_json_comes_back(tmp_path, error_of):
    path, contents = tmp_path / "a.json", {"a": [1, 2.5, None], "b": [["x]", "[\n1\n]"], [[3], [4]]], "c": {"d": []}}
    save_json(path, contents)
    assert load_json(path, "it") == contents and '"a": [1, 2.5, null]' in path.read_text()
    with pytest.raises(ValueError):
        save_json(path, {"a": float("nan")})
    assert load_json(path, "it") == contents
    for text, words in (("{", "is not JSON"), ("[1]", "holds no JSON object")):
        path.write_text(text)
        assert words in error_of(load_json, path, "it")
    assert "No such file" in error_of(load_json, tmp_path / "nowhere.json", "it")
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert load_json(path, "it") == {"a": 1}


def test_tables_are_read_as_users_have_them(tmp_path):
    """With a byte order mark, semicolons or tabs, line ends of Windows, and what a quoted field may hold."""
    path = tmp_path / "a.csv"
    for separator in ",;\t":
        path.write_bytes("\ufeffa,b\r\n1,2\r\n".replace(",", separator).encode())
        assert read_table(path, ("a", "b")) == [{"a": "1", "b": "2"}]
    rows = [{"a": "x, \"y\"\nz", "b": ""}, {"a": "\u2028", "b": "2"}]
    write_csv(path, rows)
    assert read_table(path) == rows
    write_csv(path, [{"b": 1}, {"a": None, "b": 2}], ("a", "b"))
    assert path.read_text() == "a,b\n,1\n,2\n"
    path.write_text("a,b;c\n1,2;3\n")
    assert read_table(path, separator=";") == [{"a,b": "1,2", "c": "3"}]
    path.write_bytes(b"\xef\xbb\xbfSEP=;\r\na,b;c\r\n1,2;3\r\n")
    assert read_table(path) == [{"a,b": "1,2", "c": "3"}]


@pytest.mark.parametrize("content, words", [
    (b"", "lacks the column a (it has: none); ask"), (b"a,b\n", "no row below its header; ask"),
    (b"a,b;c\n1,2;3\n", "several of comma, semicolon and tab"), (b"a,c\n1,2\n", "lacks the column b (it has: a, c)"),
    (b"a,b\n1\n", "line 2 of "), (b"a,b\n1\n", "fewer fields"), (b"a,b\n\n1,2,3\n", "line 3 of "),
    (b"a,b\n1,2,3\n", "more fields"), (b"a,b\n\xff,2\n", "not UTF-8 text (byte 4)")])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, error_of, content, words):
    (tmp_path / "table.csv").write_bytes(content)
    line = error_of(read_table, tmp_path / "table.csv", ("a", "b"), "ask")
    assert words in line and "table.csv" in line


@pytest.mark.parametrize("use, words", [
    (lambda row: float(row["a"]), "line 3 of {}: a is '0,5', which is not a number with a decimal point; ask"),
    (lambda row: float(row["b"]), "line 3 of {}: b is 'inf', which is not a number; ask"),
    (lambda row: int(row["c"]), "line 3 of {}: c is 2.5, which is not a whole number; ask"),
    (lambda row: int(row["d"]), "line 3 of {}: d is '', which is not a number; ask"),
    (lambda row: row["e"], "{} lacks e; ask")])
def test_a_field_that_is_not_what_it_is_used_as_is_one_line(tmp_path, error_of, use, words):
    path = tmp_path / "table.csv"
    path.write_text("sep=;\na;b;c;d\n0,5;inf;2.5;\n")
    (row,) = read_table(path, remedy="ask")
    assert words.format(path) in error_of(use, row)


def test_fields_are_numbers_and_texts(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"a,b\n{2**62 + 1},128.0\n1e3,-2.5e-7\n")
    first, second = read_table(path)
    assert [int(first["a"]), int(first["b"]), int(second["a"]), float(second["b"])] == [2**62 + 1, 128, 1000, -2.5e-7]
    save_tensors(tmp_path / "a.pt", {"rows": [first, second], "first": (first["a"],)})
    assert load_tensors(tmp_path / "a.pt", "the rows") == {
        "rows": [{"a": str(2**62 + 1), "b": "128.0"}, {"a": "1e3", "b": "-2.5e-7"}], "first": (str(2**62 + 1),)}


def test_what_a_file_lacks_is_one_line(tmp_path, error_of):
    path, tensors = tmp_path / "a.json", tmp_path / "a.pt"
    path.write_text('{"a": {"b": [{"c": 1}]}}')
    contents = load_json(path, "the result")
    assert contents["a"]["b"][0]["c"] == 1 and contents.get("d") is None
    for use in (lambda: contents["d"], lambda: contents["a"]["d"], lambda: contents["a"]["b"][0]["d"]):
        assert f"the result {path} lacks d; delete it" in error_of(use)
    save_tensors(tensors, {"a": 1})
    assert f"the weights {tensors} lacks d; delete it" in error_of(lambda: load_tensors(tensors, "the weights")["d"])


def test_a_lock_is_held_by_one_process(tmp_path):
    code = "import sys; from files import lock\nwith lock(sys.argv[1], *sys.argv[2:]): print('mine')"

    def other(*message):
        return subprocess.run([sys.executable, "-c", code, tmp_path / "lock", *message], cwd=FOLDER,
                              capture_output=True, text=True)

    with lock(tmp_path / "lock"):
        assert other().returncode == 2 and f"another process is at work in {tmp_path}" in other().stderr
        assert other("it is taken").stderr == "-c: it is taken\n"
        patient = [sys.executable, "-c", code.replace("*sys.argv[2:]", "wait=True"), tmp_path / "lock"]
        waiting = subprocess.Popen(patient, cwd=FOLDER, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
    assert waiting.communicate()[0] == "mine\n" and other().stdout == "mine\n"


def test_directories(tmp_path, error_of):
    assert make_directory(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    assert "choose another one" in error_of(make_directory, tmp_path / "file" / "b")


def test_a_file_is_current_when_its_request_is_the_one_asked_for(tmp_path):
    """Neither existence nor age counts, only the whole file's request."""
    request = {"names": ("a", "b"), "size": 3, "share": 0.1, "none": None}
    save_json(tmp_path / "a.json", {"request": request})
    save_tensors(tmp_path / "a.pt", {"request": json.loads(json.dumps(request)), "values": torch.zeros(100)})
    save_tensors(tmp_path / "tuple.pt", {"request": request})
    for path in tmp_path.iterdir():
        assert current(path, request) and not current(path, {**request, "size": 4})
        path.write_bytes(path.read_bytes()[:-20])
        assert not current(path, request)
    assert not current(tmp_path / "nowhere.pt", request)
    save_tensors(tmp_path / "b.pt", {"values": torch.zeros(1)})
    assert not current(tmp_path / "b.pt", None)


def test_identities(tmp_path, error_of):
    """The hashes by another program, and of texts that differ only in where they are cut."""
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1000)
    done = subprocess.run(["sha256sum", tmp_path / "a"], capture_output=True, text=True, check=True)
    assert identity(tmp_path / "a") == done.stdout.split()[0]
    assert "cannot read" in error_of(identity, tmp_path / "nowhere")
    assert len({text_hash(texts) for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""])}) == 4
    assert text_hash(iter(["a", "\ud800"])) == text_hash(["a", "\ud800"])
