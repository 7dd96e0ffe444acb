"""Documents and chunks: what is selected, split, tokenised and cut, against plain Python."""

import json

import numpy as np
import pytest
import torch
from glob import glob
from pathlib import Path

import documents
from chunks import cut
from helpers import error_line, make_texts, run_main
from prepare_data import text_hash


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
    assert provenance["source"] == {"name": "text", "files": 24, "separator": None, "documents": 24}
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


def test_tokens_of_the_training_part_come_back_as_their_documents(texts, models, tokenizer, tmp_path):
    """A .bin as the training part writes it, decoded and tokenised again, gives the same tokens."""
    ids = [tokenizer(Path(path).read_text())["input_ids"] for path in sorted(glob(texts))[:5]]
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    np.array([token for document in ids for token in [*document, end]], np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str())
    (tmp_path / "val.json").write_text(json.dumps({"dtype": "uint16", "tokenizer": {"file": "tokenizer.json"},
                                                   "sha256": "0"}))
    code, _, err = prepare(models, tmp_path / "data", "--source", "tokens", "--tokens_file", tmp_path / "val.bin",
                           "--min_tokens", 0)
    assert code == 0, err
    assert sorted(read(tmp_path / "data")["input_ids"]) == sorted(ids)


def test_other_sources(models, tmp_path):
    """A data set on disk, docstrings, and parquet files as OpenWebText's: each document once, in shuffled order."""
    import datasets
    numbered = [f"document {place} " + "word " * 30 for place in range(50)]
    datasets.Dataset.from_dict({"body": numbered}).save_to_disk(str(tmp_path / "rows"))
    flags = ("--percent", 100, "--min_tokens", 20, "--validation_fraction", 0.1)
    assert prepare(models, tmp_path / "one", "--source", "dataset", "--dataset", tmp_path / "rows", "--column", "body",
                   *flags)[0] == 0
    assert sorted([*read(tmp_path / "one")["text"], *read(tmp_path / "one", "val")["text"]]) == sorted(numbered)
    for place in range(2):
        datasets.Dataset.from_dict({"text": numbered[25 * place:25 * place + 25]}).to_parquet(
            str(tmp_path / f"{place}.parquet"), batch_size=5)
    corpus = documents.parquet({"name": "files"}, [tmp_path / f"{place}.parquet" for place in range(2)], "text", seed=1)
    whole = list(corpus.read(0, 50))
    assert corpus.count == 50 and sorted(whole) == sorted(numbered) != whole
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
            (("--source", "docstrings", "--packages", "no-such-package"), "is not installed"),
            (("--source", "dataset", "--dataset", tmp_path / "nowhere"), "cannot load the data set"),
            (("--source", "tokens", "--tokens_file", tmp_path / "x.bin"), "cannot read the description")):
        assert words in error_line(prepare(models, tmp_path / "out", *flags))
        assert not (tmp_path / "out").exists()


def test_windows_are_cut_where_the_paper_says():
    ids = list(range(1000, 1400))
    kept = ids[100:-50]
    assert cut(ids, 60, 60).tolist() == [kept[start:start + 60] for start in (0, 60, 120, 180)]
    assert cut(ids, 100, 30, (0, 0)).tolist() == [ids[start:start + 100] for start in range(0, 301, 30)]
    assert cut(ids[:209], 60, 60).shape == (0, 60) and cut(ids[:210], 60, 60).shape == (1, 60)
    assert cut(ids[:20], 60, 60).shape == (0, 60)
    assert cut(ids, 60, 60).dtype == torch.int32
