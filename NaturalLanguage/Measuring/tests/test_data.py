"""Documents and chunks: what is selected, split, tokenised and cut, against plain Python."""

import contextlib
import json
import os
import pkgutil
import re
import shutil
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import torch

import documents
import text_corpora
from chunks import cut
from files import text_hash
from helpers import FOLDER, error_line, make_texts, run_main, run_script


@pytest.fixture(scope="module")
def tokenizer(models):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(models["llama"])


def read(path, split="train"):
    from datasets import load_from_disk
    return load_from_disk(str(path))[split]


def prepare(models, path, *flags):
    return run_main("prepare_data", "--model_name", models["llama"], "--save_path", path, *flags)


def test_documents_are_split_filtered_and_tokenised_once(texts, models, tokenizer, tmp_path):
    flags = ("--source", "text", "--text_files", texts, "--min_tokens", 400, "--validation_fraction", 0.25)
    for percent, start in ((100, 0), (50, 0), (50, 50)):
        code, _, err = prepare(models, tmp_path / f"{percent}_{start}", *flags, "--percent", percent,
                               "--start_from", start)
        assert code == 0, err
    everything = {Path(path).read_text(): len(tokenizer(Path(path).read_text())["input_ids"]) for path in glob(texts)}
    whole = read(tmp_path / "100_0")
    valid = read(tmp_path / "100_0", "val")
    kept = [*whole["text"], *valid["text"]]
    assert sorted(kept) == sorted(text for text, length in everything.items() if length > 400) and 5 < len(kept) < 24
    assert set(valid["document"]) <= set(range(18, 24)) and set(whole["document"]) <= set(range(18))
    for row in whole:
        assert row["input_ids"] == tokenizer(row["text"], add_special_tokens=False)["input_ids"]
    halves = [read(tmp_path / name)["text"] for name in ("50_0", "50_50")]
    assert [*halves[0], *halves[1]] == list(whole["text"]) and all(halves)
    assert read(tmp_path / "50_50", "val")["text"] == valid["text"]
    provenance = json.loads((tmp_path / "100_0" / "provenance.json").read_text())
    assert provenance["splits"]["train"]["tokens"] == sum(everything[text] for text in whole["text"])
    digest = provenance["splits"]["train"]["text_sha256"]
    assert digest == text_hash(whole["text"]) != text_hash(reversed(whole["text"]))
    assert provenance["source"]["name"] == "text" and provenance["source"]["documents"] == 24
    in_order = [Path(path).read_text() for path in sorted(glob(texts))]
    assert provenance["source"]["text_sha256"] == text_hash(in_order)
    assert not list(tmp_path.glob("*.parts"))


def test_an_interrupted_preparation_goes_on(texts, models, tmp_path, monkeypatch):
    import prepare_data
    monkeypatch.setattr(prepare_data, "DOCUMENTS_AT_ONCE", 4)
    flags = ("--source", "text", "--text_files", texts, "--min_tokens", 400, "--percent", 100)
    assert prepare(models, tmp_path / "whole", *flags)[0] == 0
    encode, calls = prepare_data.encode, []

    def stop_at_the_third(tokenizer, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokenizer, batch)

    monkeypatch.setattr(prepare_data, "encode", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(models, tmp_path / "cut", *flags)
    assert not (tmp_path / "cut").exists() and len(calls) == 3
    assert prepare(models, tmp_path / "cut", *flags)[0] == 0
    assert len(calls) == 3 + (6 + 1) - 2  # of 6 batches for train and 1 for val, two are not tokenised again
    assert read(tmp_path / "cut").to_dict() == read(tmp_path / "whole").to_dict()
    assert "prepared before" in prepare(models, tmp_path / "cut", *flags)[1]
    assert "add --overwrite" in error_line(prepare(models, tmp_path / "cut", *flags[:4], "--min_tokens", 1))


@pytest.mark.parametrize("where", ["pyarrow.parquet.ParquetFile.read_row_group", "datasets.Dataset.to_parquet"])
def test_a_network_or_a_disk_that_fails_loses_no_batch(where, models, tmp_path, monkeypatch):
    """One line, as OpenWebText is read or a batch is written, and the same command goes on."""
    import datasets
    import huggingface_hub
    import prepare_data
    monkeypatch.setattr(prepare_data, "DOCUMENTS_AT_ONCE", 5)
    monkeypatch.setattr(text_corpora, "OPENWEBTEXT_FILES", ["0.parquet"])
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: type("System", (), {
        "open": lambda self, name: open(tmp_path / Path(name).name, "rb")})())
    texts = [f"document {index} " + "word " * 30 for index in range(20)]
    datasets.Dataset.from_dict({"text": texts}).to_parquet(str(tmp_path / "0.parquet"), batch_size=5)
    flags = ("--percent", 100, "--min_tokens", 20, "--validation_fraction", 0)
    with monkeypatch.context() as patch:
        whole, calls = pkgutil.resolve_name(where), []

        def fail_at_the_third(*arguments, **options):
            calls.append(arguments)
            if len(calls) == 3:
                raise OSError("no space, no route")
            return whole(*arguments, **options)

        patch.setattr(where, fail_at_the_third)
        line = error_line(prepare(models, tmp_path / "data", *flags))
    assert "cannot read OpenWebText from the hub (OSError)" in line or "cannot write" in line and "no space" in line
    assert len(list((tmp_path / "data.parts").glob("train_*.json"))) == 2
    assert prepare(models, tmp_path / "data", *flags)[0] == 0
    assert sorted(read(tmp_path / "data")["text"]) == sorted(texts)
    assert error_line(prepare(models, tmp_path / "none", *flags, "--min_tokens", 10**6))
    assert not list(tmp_path.glob("*.parts"))


def test_as_users_run_it(texts, models, tmp_path):
    """A process of its own, in a folder with a space; its log has lines, no redrawn bars."""
    done = run_script("prepare_data.py", "--model_name", models["llama"], "--source", "text", "--text_files", texts,
                      "--min_tokens", 0, "--percent", 100, "--save_path", "my data/set", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr and "train documents: 23/23 doc" in done.stderr
    assert len(read(tmp_path / "my data" / "set")) == 23


def test_tokens_of_the_training_part_come_back_as_their_documents(texts, models, tokenizer, tmp_path):
    """A .bin as the training part writes it, decoded and tokenised again, gives the same tokens."""
    ids = [tokenizer(Path(path).read_text())["input_ids"] for path in sorted(glob(texts))[:5]]
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    np.array([token for document in ids for token in [*document, end]], np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str())
    described = {"dtype": "uint16", "tokenizer": {"file": "tokenizer.json"}}
    (tmp_path / "val.json").write_text(json.dumps(described))
    flags = ("--source", "tokens", "--tokens_file", tmp_path / "val.bin", "--min_tokens", 0)
    code, _, err = prepare(models, tmp_path / "data", *flags)
    assert code == 0, err
    assert sorted(read(tmp_path / "data")["input_ids"]) == sorted(ids)
    whole = (tmp_path / "val.bin").read_bytes()
    for name, contents, message in (("val.bin", whole[:-3], "is not whole documents"),
                                    ("val.bin", whole[:-2], "is not whole documents"),
                                    ("val.bin", b"\xff\xff" + whole, "is not whole documents"),
                                    ("tokenizer.json", (tmp_path / "tokenizer.json").read_bytes()[:500],
                                     "cannot read the tokenizer"),
                                    ("val.json", b'{"dtype": "uint16"}', "does not describe tokens"),
                                    ("val.json", b'{"dtype"', "does not describe tokens")):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(contents)
        assert message in error_line(prepare(models, tmp_path / "other", *flags))
        if name != "val.json":
            assert "prepared with inputs" in error_line(prepare(models, tmp_path / "data", *flags))
        (tmp_path / name).write_bytes(before)
    assert "prepared before" in prepare(models, tmp_path / "data", *flags)[1] and not (tmp_path / "other").exists()


def test_other_sources(models, tmp_path):
    """A data set on disk, docstrings, and parquet files as OpenWebText's: each document once, in shuffled order."""
    import datasets
    numbered = [f"document {index} " + "word " * 30 for index in range(50)]
    datasets.Dataset.from_dict({"body": numbered}).save_to_disk(str(tmp_path / "rows"))
    flags = ("--percent", 100, "--min_tokens", 20, "--validation_fraction", 0.1)
    assert prepare(models, tmp_path / "one", "--source", "dataset", "--dataset", tmp_path / "rows", "--column", "body",
                   *flags)[0] == 0
    line = error_line(prepare(models, tmp_path / "none", "--source", "dataset", "--dataset", tmp_path / "rows", *flags))
    assert "rows" in line and "body" in line and not list(tmp_path.glob("none*"))
    assert sorted([*read(tmp_path / "one")["text"], *read(tmp_path / "one", "val")["text"]]) == sorted(numbered)
    for index in range(2):
        datasets.Dataset.from_dict({"text": numbered[25 * index:25 * index + 25]}).to_parquet(
            str(tmp_path / f"{index}.parquet"), batch_size=5)
    corpus = text_corpora.parquet({"name": "files"}, [tmp_path / f"{index}.parquet" for index in range(2)], "text",
                                  seed=1)
    whole = list(corpus.read(0, 50))
    assert corpus.n_documents == 50 and sorted(whole) == sorted(numbered) != whole
    assert list(corpus.read(13, 37)) == whole[13:37]
    assert prepare(models, tmp_path / "two", "--source", "docstrings", "--packages", "tqdm", *flags)[0] == 0
    import tqdm
    assert any(tqdm.tqdm.update.__doc__.split("\n")[1].strip() in text for text in read(tmp_path / "two")["text"])
    limited = prepare(models, tmp_path / "three", "--source", "docstrings", "--packages", "tqdm", *flags,
                      "--max_documents", 1, "--splits", "val")
    assert limited[0] == 0 and datasets.load_from_disk(str(tmp_path / "three")).keys() == {"val"}
    documents_there = read(tmp_path / "three", "val")["text"]
    assert documents_there[:1] == read(tmp_path / "two", "val")["text"][:1]


def test_bad_input_is_one_line(texts, models, tmp_path):
    make_texts(tmp_path / "empty", n_files=0)
    for flags, words in (
            (("--source", "text", "--text_files", tmp_path / "none*"), "no file matches"),
            (("--source", "text"), "needs --text_files"),
            (("--source", "text", "--text_files", texts, "--min_tokens", 10**6), "lower --min_tokens"),
            (("--source", "text", "--text_files", texts, "--percent", 1, "--min_tokens", 0), "raise --percent"),
            (("--percent", 60, "--start_from", 50), "at 100 or below"),
            (("--seed", 2**63), "argument --seed"),
            (("--source", "docstrings", "--packages", "no-such-package"), "is not installed"),
            (("--source", "dataset", "--dataset", tmp_path / "nowhere"), "cannot load the data set"),
            (("--source", "tokens", "--tokens_file", tmp_path / "x.bin"), "x.json, the description of the tokens")):
        assert words in error_line(prepare(models, tmp_path / "out", *flags))
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.parts"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ((), ("--overwrite",)):
        line = error_line(prepare(models, tmp_path / "mine", "--source", "text", "--text_files", texts, *flags))
        assert "is no data set, so it is not replaced" in line and (tmp_path / "mine" / "thesis.txt").exists()


def test_what_was_prepared_from_other_inputs_is_refused(models, tmp_path):
    """Changed files, a data set saved anew, another tokenizer: refused under the same flags, and made anew if asked."""
    import datasets
    pattern = make_texts(tmp_path / "texts")
    flags = ("--source", "text", "--text_files", pattern, "--min_tokens", 0, "--percent", 100)
    assert prepare(models, tmp_path / "data", *flags)[0] == 0
    (tmp_path / "texts").rename(tmp_path / "moved")
    flags = ("--source", "text", "--text_files", tmp_path / "moved" / "*", *flags[4:])
    (tmp_path / "data.parts").mkdir()  # left by a kill as the preparation ended
    assert "prepared before" in prepare(models, tmp_path / "data", *flags)[1] and not (tmp_path / "data.parts").exists()
    path = tmp_path / "moved" / "003.txt"
    before, text = os.stat(path), path.read_text()
    path.write_text(text[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "inputs sha256" in error_line(prepare(models, tmp_path / "data", *flags))
    assert text in read(tmp_path / "data")["text"]
    assert prepare(models, tmp_path / "data", *flags, "--overwrite")[0] == 0
    assert text[::-1] in read(tmp_path / "data")["text"] and text not in read(tmp_path / "data")["text"]
    rules = models["llama"] / "tokenizer.json"
    changed = shutil.copytree(models["llama"], tmp_path / "model") / "tokenizer.json"
    changed.write_text(rules.read_text().replace('"dropout": null', '"dropout": 0.5'))
    line = error_line(run_main("prepare_data", "--model_name", tmp_path / "model", "--save_path", tmp_path / "data",
                               *flags))
    assert "inputs tokenizer" in line and "--overwrite" in line
    flags = ("--source", "dataset", "--dataset", tmp_path / "rows", "--min_tokens", 0, "--percent", 100)
    for word in ("one", "two"):
        shutil.rmtree(tmp_path / "rows", ignore_errors=True)
        datasets.Dataset.from_dict({"text": [f"{word} {n}" for n in range(40)]}).save_to_disk(str(tmp_path / "rows"))
        code, _, err = prepare(models, tmp_path / "of_rows", *flags)
        assert code == 0 if word == "one" else "inputs fingerprint" in err


RENAMES = 10  # as a data set takes the place of another


@pytest.fixture(scope="module")
def minima(texts, models, tmp_path_factory):
    """Flags but for the last value, and {value: a data set that was prepared with it}."""
    flags = ("--source", "text", "--text_files", texts, "--percent", 100, "--min_tokens")
    folders = {minimum: tmp_path_factory.mktemp("minimum") / "data" for minimum in (0, 400)}
    for minimum, folder in folders.items():
        assert prepare(models, folder, *flags, minimum)[0] == 0
    return flags, folders


@pytest.mark.parametrize("interrupted_at", range(1, RENAMES + 2))
def test_an_interrupted_overwrite_never_mixes_old_and_new(minima, models, tmp_path, monkeypatch, interrupted_at):
    """Stopped before each rename in turn: what can be read is whole, and the same command ends well."""
    import prepare_data
    monkeypatch.setattr(prepare_data, "DOCUMENTS_AT_ONCE", 12)
    flags, folders = minima
    shutil.copytree(folders[0], tmp_path / "data")
    old, calls = read(folders[0]).to_dict(), []

    def interrupt(function):
        def instead(*arguments):
            calls.append(arguments)
            if len(calls) == interrupted_at:
                raise KeyboardInterrupt
            return function(*arguments)
        return instead

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt(os.replace))
        patch.setattr(Path, "rename", interrupt(Path.rename))
        with contextlib.suppress(KeyboardInterrupt):
            prepare(models, tmp_path / "data", *flags, 400, "--overwrite")
    assert len(calls) == min(interrupted_at, RENAMES)
    if (tmp_path / "data").exists():
        minimum = json.loads((tmp_path / "data" / "provenance.json").read_text())["request"]["min_tokens"]
        assert (read(tmp_path / "data").to_dict() == old) == (minimum == 0)
    assert prepare(models, tmp_path / "data", *flags, 400, "--overwrite")[0] == 0
    assert read(tmp_path / "data").to_dict() == read(folders[400]).to_dict() != old
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_packages_of_the_docstrings_corpus_are_those_that_are_pinned():
    pinned = re.findall(r"^([\w-]+)==", (FOLDER.parents[1] / "requirements.txt").read_text(), re.MULTILINE)
    assert set(documents.DOCSTRING_PACKAGES) == {name for name in pinned if not name.startswith("pytest")}


def test_windows_are_cut_where_the_paper_says():
    ids = list(range(1000, 1400))
    kept = ids[100:-50]
    assert cut(ids, 60, 60).tolist() == [kept[start:start + 60] for start in (0, 60, 120, 180)]
    assert cut(ids, 100, 30, (0, 0)).tolist() == [ids[start:start + 100] for start in range(0, 301, 30)]
    assert cut(ids[:209], 60, 60).shape == (0, 60) and cut(ids[:210], 60, 60).shape == (1, 60)
    assert cut(ids[:20], 60, 60).shape == (0, 60)
    assert cut(ids, 60, 60).dtype == torch.int32
