"""prepare.py: what is in the token files, how the documents are split, and what is refused."""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import FOLDER, make_texts

PREPARE = "data/openwebtext/prepare.py"
GPT2_FILES = Path(os.environ.get("TIKTOKEN_CACHE_DIR", FOLDER.parents[3] / "shared" / "tiktoken_cache"))
ENGLISH = FOLDER.parents[3] / "shared" / "wikitext-2" / "valid.txt"
needs_gpt2 = pytest.mark.skipif(not (GPT2_FILES.is_dir() and ENGLISH.exists()),
                                reason="needs GPT-2's BPE files and English text, given beside the repository")


def prepared(folder, percent, start, split, family="LONGCONTEXTSUBSET"):
    """Documents of a split (lists of ids without the end of text), and the JSON beside it."""
    stem = folder / f"{family}_{split}_P{percent}_SFrom{start}"
    about = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    file = stem.with_name(f"{stem.name}.bin")
    tokens = np.fromfile(file, about["dtype"])
    assert len(tokens) == about["tokens"] and hashlib.sha256(file.read_bytes()).hexdigest() == about["sha256"]
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(folder / about["tokenizer"]["file"]))
    ends = np.flatnonzero(tokens == tokenizer.token_to_id("<|endoftext|>"))
    documents = [part.tolist() for part in np.split(tokens, ends + 1)]
    assert documents.pop() == [] and len(documents) == about["documents"]
    return [tokenizer.decode(document[:-1]) for document in documents], about


def test_the_documents_come_back_and_the_splits_are_disjoint(nanogpt, tmp_path):
    """Whatever the part: validation is the same and never trained on, adjacent parts do not overlap, parts nest."""
    pattern = make_texts(tmp_path / "texts", n_files=100, n_words=30)
    texts = {Path(path).read_text() for path in (tmp_path / "texts").iterdir()}
    found = {}
    for percent, start in ((100.0, 0.0), (50.0, 0.0), (20.0, 0.0), (50.0, 50.0)):
        nanogpt(PREPARE, "--source", "text", "--text_files", pattern, "--percent", percent, "--start_from", start,
                "--min_tokens", 0, "--tokenizer", "bpe:270", "--out_dir", "out")
        found[percent, start] = [prepared(tmp_path / "out", percent, start, split, "SUBSET")[0]
                                 for split in ("train", "val")]
    train, valid = found[100.0, 0.0]
    assert len(train) == 95 and len(valid) == 5 and set(train) | set(valid) == texts
    assert all(set(part[1]) == set(valid) for part in found.values())
    assert set(found[20.0, 0.0][0]) < set(found[50.0, 0.0][0])
    assert set(found[50.0, 0.0][0]) | set(found[50.0, 50.0][0]) == set(train)
    assert not set(found[50.0, 0.0][0]) & set(found[50.0, 50.0][0])


def test_only_documents_longer_than_the_limit_are_kept(nanogpt, tmp_path):
    (tmp_path / "all.txt").write_text("<doc>".join("abcd" * n for n in range(1, 200)))
    nanogpt(PREPARE, "--source", "text", "--text_files", "all.txt", "--separator", "<doc>", "--percent", 100,
            "--min_tokens", 50, "--tokenizer", "bpe:257", "--validation_fraction", 0.2, "--out_dir", "out")
    documents = [text for split in ("train", "val") for text in prepared(tmp_path / "out", 100.0, 0.0, split)[0]]
    assert sorted(len(text) // 4 for text in documents) == [n for n in range(13, 200)]  # a byte is a token here


@needs_gpt2
def test_gpt2_tokens_are_those_of_tiktoken_and_of_the_saved_tokenizer(nanogpt, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(GPT2_FILES))
    import tiktoken
    from tokenizers import Tokenizer
    nanogpt(PREPARE, "--source", "text", "--text_files", ENGLISH, "--separator", "\n = ", "--percent", 100,
            "--min_tokens", 0, "--out_dir", "out")
    documents, about = prepared(tmp_path / "out", 100.0, 0.0, "train", "SUBSET")
    assert about["dtype"] == "uint16" and about["vocabulary_size"] == 50_257
    encoding = tiktoken.get_encoding("gpt2")
    tokens = np.fromfile(tmp_path / "out" / "SUBSET_train_P100.0_SFrom0.0.bin", np.uint16)
    assert sum(len(encoding.encode_ordinary(text)) + 1 for text in documents) == len(tokens)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / about["tokenizer"]["file"]))
    for text in (ENGLISH.read_text(), "naïve café — 東京 \t\n\n  x='\\n' 😀 don't 12345   "):
        assert tokenizer.encode(text).ids == encoding.encode_ordinary(text)
    assert tokenizer.token_to_id("<|endoftext|>") == encoding.eot_token


def test_docstrings_are_those_of_the_modules(nanogpt, tmp_path):
    import tqdm.utils
    nanogpt(PREPARE, "--source", "docstrings", "--packages", "tqdm", "--percent", 100, "--min_tokens", 0, "--tokenizer",
            "bpe:300", "--out_dir", "out")
    documents, about = prepared(tmp_path / "out", 100.0, 0.0, "train", "SUBSET")
    documents += prepared(tmp_path / "out", 100.0, 0.0, "val", "SUBSET")[0]
    source = Path(tqdm.utils.__file__).read_text()
    nodes = [node for node in ast.walk(ast.parse(source))
             if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    assert len(nodes) > 10 and "\n\n".join(ast.get_docstring(node) for node in nodes) in documents
    assert about["source"]["packages"]["tqdm"] == tqdm.__version__


def test_any_part_of_parquet_files_can_be_read_alone(tmp_path):
    import pyarrow
    from pyarrow import parquet as files

    from corpora import parquet
    for number in range(3):
        table = pyarrow.table({"text": [f"{number}:{row}" for row in range(10 + number)], "other": range(10 + number)})
        files.write_table(table, tmp_path / f"{number}.parquet", row_group_size=4)
    corpus = parquet({"name": "test"}, [tmp_path / f"{number}.parquet" for number in range(3)], "text", seed=1)
    whole = list(corpus.read(0, corpus.n_documents))
    assert corpus.n_documents == 33 and sorted(whole) == sorted(f"{n}:{row}" for n in range(3) for row in range(10 + n))
    assert whole != sorted(whole)
    for start, stop in ((0, 1), (3, 4), (4, 9), (0, 33), (32, 33), (7, 7)):
        assert list(corpus.read(start, stop)) == whole[start:stop]


def test_a_data_set_on_disk_can_be_the_corpus(nanogpt, tmp_path):
    from datasets import Dataset
    Dataset.from_dict({"body": [f"document number {n} of fifty" for n in range(50)]}).save_to_disk(tmp_path / "saved")
    flags = ("--source", "dataset", "--dataset", "saved", "--percent", 100, "--min_tokens", 0, "--tokenizer", "bpe:260",
             "--out_dir", "out")
    done = nanogpt(PREPARE, *flags, check=False)
    assert done.returncode == 2 and "has the columns body, not text" in done.stderr
    nanogpt(PREPARE, *flags, "--column", "body")
    documents = prepared(tmp_path / "out", 100.0, 0.0, "train", "SUBSET")[0]
    documents += prepared(tmp_path / "out", 100.0, 0.0, "val", "SUBSET")[0]
    assert sorted(documents) == sorted(f"document number {n} of fifty" for n in range(50))


def test_a_killed_preparation_goes_on_to_the_same_bytes(nanogpt, tmp_path):
    pattern = make_texts(tmp_path / "texts", n_files=3000, n_words=30)
    flags = ["--source", "text", "--text_files", pattern, "--percent", "100", "--min_tokens", "0", "--tokenizer",
             "bpe:270"]
    nanogpt(PREPARE, *flags, "--out_dir", "whole")
    command = [sys.executable, str(FOLDER / PREPARE), *flags, "--out_dir", str(tmp_path / "killed")]
    resumed = False
    for delay in (0.0, 0.02, 0.05):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list((tmp_path / "killed").glob("*progress.tmp")) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        resumed = resumed or bool(list((tmp_path / "killed").glob("*progress.tmp")))
    assert resumed
    nanogpt(PREPARE, *flags, "--out_dir", "killed")
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(files) == 5 and files == {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert "prepared before" in nanogpt(PREPARE, *flags, "--out_dir", "killed").stdout
    done = nanogpt(PREPARE, *flags, "--seed", "5", "--out_dir", "killed", check=False)
    assert done.returncode == 2 and "--overwrite" in done.stderr


@pytest.mark.parametrize("flags, message", [
    (("--percent", 60, "--start_from", 50), "their sum at 100 or below"),
    (("--text_files", "nothing/*.txt"), "no file matches"),
    (("--min_tokens", 100000), "no train document is longer than 100000 tokens (the longest of"),
    (("--tokenizer", "wordpiece"), "neither gpt2 nor bpe:N"),
    (("--tokenizer", "bpe:60000"), "too small for --tokenizer bpe:60000"),
    (("--tokenizer", "gpt2"), "TIKTOKEN_CACHE_DIR"),
    (("--source", "openwebtext"), "cannot read OpenWebText"),
    (("--source", "dataset", "--dataset", "no/such"), "cannot load the data set"),
    (("--source", "dataset"), "needs --dataset"),
    (("--source", "docstrings", "--packages", "no-such-package"), "is not installed"),
    (("--out_dir", "/proc/nowhere"), "/proc/nowhere"),
])
def test_bad_input_is_one_line_and_code_2(nanogpt, tmp_path, flags, message):
    pattern = make_texts(tmp_path / "texts", n_files=30, n_words=20)
    no_network = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1",
                  "TIKTOKEN_CACHE_DIR": str(tmp_path / "empty"), "HF_HOME": str(tmp_path / "hub")}
    done = nanogpt(PREPARE, "--source", "text", "--text_files", pattern, "--percent", 100, "--min_tokens", 0,
                   "--tokenizer", "bpe:260", "--out_dir", "out", *flags, check=False, env={**os.environ, **no_network})
    said = [line for line in done.stderr.splitlines() if line.startswith("prepare.py: ")]
    assert done.returncode == 2 and len(said) == 1 and message in said[0], done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("out/*.bin"))
