"""What is wrong with a model, a corpus or a flag is one line; a signal too, and the same command goes on."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import hub
from helpers import CUT, FOLDER, error_line, run_main


def test_bad_input_is_one_line(models, corpus, tmp_path):
    good = {"--model_name": models["llama"], "--dataset_path": corpus, "--window": 40, "--stride": 25, "--n_samples": 5,
            "--seq_lens": 4, "--device": "cpu", "--out_dir": "out"}
    for change, words in (
            ({"--model_name": "./nowhere"}, "no model directory ./nowhere"),
            ({"--model_name": tmp_path}, "cannot load"),
            ({"--seq_lens": 40}, "needs --window 41"),
            ({"--seq_lens": 65, "--window": 70}, "sees at most 64 tokens"),
            ({"--n_samples": 100_000}, "chunks of 40 tokens, 100000 were asked for"),
            ({"--window": 5000}, "no document gives a chunk: the longest has"),
            ({"--dataset_path": "nowhere"}, "make it with prepare_data.py"),
            ({"--dataset_column_name": "words"}, "not words"),
            ({"--split": "test"}, "not test"),
            ({"--seq_lens": 0}, "not an integer of at least 1"),
            ({"--device": "cuda:9"}, "use --device cpu"),
            ({"--device_map": "auto"}, "pip install accelerate")):
        if change == {"--device_map": "auto"} and __import__("importlib").util.find_spec("accelerate"):
            continue
        flags = [part for pair in {**good, **change}.items() for part in pair]
        assert words in error_line(run_main("evaluate_CE", *flags))
    flags = [part for pair in good.items() for part in pair]
    assert "the model has 2 layers" in error_line(run_main("save_mid_features", *flags, "--layer", 9))
    assert not list(tmp_path.glob("out/*_seq_*"))
    assert run_main("save_mid_features", *flags)[0] == 0
    for more in ((), ("--n_samples", 9), ("--seq_lens", 8)):
        assert "is of --layer None, not 1" in error_line(run_main("save_mid_features", *flags, *more, "--layer", 1))
    assert run_main("evaluate_CE", *flags, "--seq_lens", 8)[0] == 0  # needs no features


def test_a_column_that_is_not_text_is_one_line(models, tmp_path):
    import datasets
    for name, values, where in (("nulls", ["a", None], "row 1, but None"), ("numbers", [3, 4], "row 0, but 3")):
        datasets.Dataset.from_dict({"text": values}).save_to_disk(str(tmp_path / name))
        line = error_line(run_main("evaluate_CE", "--model_name", models["llama"], "--dataset_path", tmp_path / name))
        assert f"the column text of the data set has no text in {where}" in line


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"])
def test_a_model_whose_file_is_cut_short_is_one_line(name, models, corpus, tmp_path):
    folder = shutil.copytree(models["llama"], tmp_path / "model")
    whole = (folder / name).read_bytes()
    for size in (0, 2, len(whole) // 2, len(whole) - 2):
        (folder / name).write_bytes(whole[:size])
        line = error_line(run_main("evaluate_CE", "--model_name", folder, "--dataset_path", corpus, *CUT, "--n_samples",
                                   5, "--seq_lens", 4, "--device", "cpu"))
        assert str(folder) in line


def test_a_data_set_whose_file_is_cut_short_is_one_line(models, corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    flags = ("--model_name", models["llama"], "--dataset_path", folder, *CUT, "--n_samples", 5, "--seq_lens", 4,
             "--device", "cpu")
    for path in (*(folder / "train").glob("*.arrow"), folder / "provenance.json", folder / "train" / "state.json"):
        whole = path.read_bytes()
        path.write_bytes(whole[:len(whole) // 2])
        error_line(run_main("evaluate_CE", *flags))
        path.write_bytes(whole)
    assert run_main("evaluate_CE", *flags)[0] == 0


@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_one_line_and_the_same_command_goes_on(received, models, corpus, tmp_path):
    """As Ctrl-C does it, while the second context length is measured; what is there then is kept."""
    flags = ("--model_name", models["gpt2"], "--dataset_path", corpus, *CUT, "--n_samples", 12, "--device", "cpu",
             "--seq_lens", 2, 39, "--out_dir", "out dir")
    code = ("import sys, time, scorer, save_mid_features, utils; score = scorer.Scorer.score_batch\n"
            "def slow(self, tokens):\n"
            "    if tokens.shape[1] == 40: print('now', flush=True); time.sleep(60)\n"
            "    return score(self, tokens)\n"
            "scorer.Scorer.score_batch = slow; utils.run_main(save_mid_features.main)")
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, flags)], cwd=tmp_path, text=True,
                               env={**os.environ, "PYTHONPATH": str(FOLDER)}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    while process.stdout.readline() not in ("now\n", ""):
        pass
    process.send_signal(received)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -received and "Traceback" not in err, err
    line = err.splitlines()[-1]
    assert line.startswith("-c: ") and received.name in line and "out dir" in line and "same command" in line
    code, printed, _ = run_main("save_mid_features", *flags)
    assert code == 0 and "context 2: finished before" in printed and "context 39: cross entropy" in printed


def test_a_model_that_is_not_here_and_no_network(models, corpus, monkeypatch):
    """A hub name without a network, and the hub's word that a model is gated, are one line each."""
    import socket
    import transformers
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    flags = ("--model_name", "nobody/nothing", "--dataset_path", corpus, "--seq_lens", 3)

    def refuse(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with monkeypatch.context() as patch:  # in the cache, but of no use
        patch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "config.json")
        assert "no network" not in error_line(run_main("evaluate_CE", *flags))
    assert "no network to huggingface.co" in error_line(run_main("evaluate_CE", *flags))

    def gated(*_, **__):
        raise OSError("You are trying to access a gated repo.")

    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", gated)
    line = error_line(run_main("evaluate_CE", *flags))
    assert "hf auth login" in line and "give the path" in line


def test_a_model_whose_weights_change_is_another_one(tmp_path, monkeypatch):
    """Also where the ends of its one file stay, and where not all of it is read."""
    monkeypatch.setattr(hub, "HASHED_WHOLE", 2**22)
    for mebibytes in (3, 6):
        path, blank = tmp_path / "model.safetensors", bytes(mebibytes * 2**20)
        path.write_bytes(blank)
        before = hub.local_revision(tmp_path)
        path.write_bytes(blank[:2**21] + b"x" + blank[2**21 + 1:])
        assert hub.local_revision(tmp_path) != before
