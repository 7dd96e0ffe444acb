"""Preparing tokens: which documents go where, and what is refused."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import corpora
import text_corpora
from helpers import FOLDER, make_texts
from preparing import SMALL, all_prepared, done, error_line, fake_package, prepared, run

SCRIPT = FOLDER / "data" / "openwebtext" / "prepare.py"
REPOSITORY = FOLDER.parents[2]
GPT2_FILES = Path(os.environ.get("TIKTOKEN_CACHE_DIR", REPOSITORY.parent / "shared" / "tiktoken_cache"))
ENGLISH = REPOSITORY.parent / "shared" / "wikitext-2" / "valid.txt"
needs_gpt2 = pytest.mark.skipif(not (GPT2_FILES.is_dir() and ENGLISH.exists()),
                                reason="needs GPT-2's BPE files and English text, given beside the repository")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Which documents go where

def test_the_documents_come_back_and_the_splits_are_disjoint(tmp_path):
    """Whatever the part: validation is the same and never trained on, adjacent parts do not overlap, parts nest."""
    pattern = make_texts(tmp_path / "texts", n_files=100, n_words=30)
    texts = {Path(path).read_text() for path in (tmp_path / "texts").iterdir()}
    found = {}
    for percent, start in ((100.0, 0.0), (50.0, 0.0), (20.0, 0.0), (50.0, 50.0)):
        done("--source", "text", "--text_files", pattern, *SMALL, "--percent", percent, "--start_from", start)
        found[percent, start] = [prepared(tmp_path / "out", percent, start, split)[0] for split in ("train", "val")]
    train, valid = found[100.0, 0.0]
    assert len(train) == 95 and len(valid) == 5 and set(train) | set(valid) == texts
    assert all(set(part[1]) == set(valid) for part in found.values())
    assert set(found[20.0, 0.0][0]) < set(found[50.0, 0.0][0])
    assert set(found[50.0, 0.0][0]) | set(found[50.0, 50.0][0]) == set(train)
    assert not set(found[50.0, 0.0][0]) & set(found[50.0, 50.0][0])


def test_only_documents_longer_than_the_limit_are_kept(tmp_path):
    (tmp_path / "all.txt").write_text("<doc>".join("abcd" * n for n in range(1, 200)))
    done("--source", "text", "--text_files", "all.txt", "--separator", "<doc>", "--percent", 100, "--min_tokens", 50,
         "--tokenizer", "bpe:257", "--validation_fraction", 0.2)
    documents = [text for split in ("train", "val")
                 for text in prepared(tmp_path / "out", split=split, family="LONGCONTEXTSUBSET")[0]]
    assert sorted(len(text) // 4 for text in documents) == list(range(13, 200))  # a byte is a token here


@needs_gpt2
def test_gpt2_tokens_are_those_of_tiktoken_and_of_the_saved_tokenizer(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(GPT2_FILES))
    import tiktoken
    from tokenizers import Tokenizer
    done("--source", "text", "--text_files", ENGLISH, "--separator", "\n = ", "--percent", 100, "--min_tokens", 0)
    documents, about = prepared(tmp_path / "out")
    assert about["dtype"] == "uint16" and about["vocabulary_size"] == 50_257
    encoding = tiktoken.get_encoding("gpt2")
    assert sum(len(encoding.encode_ordinary(text)) + 1 for text in documents) == about["tokens"]
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / about["tokenizer"]["file"]))
    for text in (ENGLISH.read_text(), "naïve café — 東京 \t\n\n  x='\\n' 😀 don't 12345   "):
        assert tokenizer.encode(text).ids == encoding.encode_ordinary(text)
    assert tokenizer.token_to_id("<|endoftext|>") == encoding.eot_token


def test_docstrings_are_those_of_the_modules():
    import tqdm.utils
    done("--source", "docstrings", "--packages", "tqdm", *SMALL, "--tokenizer", "bpe:300")
    source = Path(tqdm.utils.__file__).read_text()
    nodes = [node for node in ast.walk(ast.parse(source))
             if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    assert len(nodes) > 10 and "\n\n".join(ast.get_docstring(node) for node in nodes) in all_prepared()
    assert prepared(Path("out"))[1]["source"]["packages"]["tqdm"] == tqdm.__version__


def test_code_is_split_by_package(tmp_path, monkeypatch):
    """Validation has the modules of its packages alone, whole, without those that a training package has too."""
    shared = "y = 'in both'\n"
    training = {f"alpha/m{n}.py": f"# module {n}\nx = {n}\n" for n in range(30)} | {"alpha/shared.py": shared}
    validation = {f"beta/m{n}.py": f'"""Module {n}."""\n\n\ndef f():\n    return {n}\n' for n in range(6)}
    fake_package(tmp_path / "site", "alpha", "1.0", training | {"alpha/version.py": "x = 1\n", "alpha/no.txt": ""})
    fake_package(tmp_path / "site", "beta", "2.0", validation | {"beta/shared.py": shared, "beta/empty.py": ""})
    monkeypatch.syspath_prepend(tmp_path / "site")
    flags = ("--packages", "Alpha", "beta", *SMALL, "--validation_packages", "beta")
    done("--source", "code", *flags)
    (train, about), (valid, _) = prepared(tmp_path / "out"), prepared(tmp_path / "out", split="val")
    assert sorted(train) == sorted(training.values()) and sorted(valid) == sorted(validation.values())
    source = about["source"]
    assert source["packages"] == {"alpha": "1.0", "beta": "2.0"} and source["dropped_from_validation"] == 1
    assert source["training_packages"] == ["alpha"] and source["validation_packages"] == ["beta"]
    in_order = [contents for path, contents in sorted(training.items())]
    in_order += [contents for path, contents in sorted((validation | {"beta/shared.py": shared}).items())]
    assert source["text_sha256"] == corpora.text_hash(in_order)
    done("--source", "code", *flags, "--overwrite", "--percent", 50)
    assert set(prepared(tmp_path / "out", 50.0)[0]) < set(train)
    assert sorted(prepared(tmp_path / "out", 50.0, split="val")[0]) == sorted(valid)
    docstrings = ("--source", "docstrings", "--packages", "tqdm", "beta", *SMALL)
    assert "not among --packages" in error_line(*docstrings, "--split_by_package")
    done(*docstrings, "--overwrite", "--validation_packages", "beta")
    assert sorted(prepared(tmp_path / "out", split="val")[0]) == [f"Module {n}." for n in range(6)]
    assert "exclude each other" in error_line("--source", "code", *flags, "--validation_fraction", 0.1)
    assert "--split_by_package" in error_line("--source", "text", "--text_files", "x", "--split_by_package")
    assert "leaves no document" in error_line("--source", "code", *flags, "--validation_packages", "alpha", "beta",
                                              "--overwrite")


def test_any_part_of_parquet_files_can_be_read_alone(tmp_path):
    import pyarrow
    from pyarrow import parquet as files
    for number in range(3):
        table = pyarrow.table({"text": [f"{number}:{row}" for row in range(10 + number)], "other": range(10 + number)})
        files.write_table(table, tmp_path / f"{number}.parquet", row_group_size=4)
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    corpus = text_corpora.parquet({"name": "test"}, paths, "text", seed=1)
    whole = list(corpus.read(0, corpus.n_documents))
    assert corpus.n_documents == 33 and sorted(whole) == sorted(f"{n}:{row}" for n in range(3) for row in range(10 + n))
    assert whole != sorted(whole)
    for start, stop in ((0, 1), (3, 4), (4, 9), (0, 33), (32, 33), (7, 7)):
        assert list(corpus.read(start, stop)) == whole[start:stop]


def test_a_data_set_on_disk_can_be_the_corpus(tmp_path):
    from datasets import Dataset, DatasetDict
    texts = [f"document number {n} of fifty" for n in range(50)]
    rows = Dataset.from_dict({"body": texts, "n": range(50)})
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    flags = ("--source", "dataset", "--dataset", "saved", *SMALL)
    assert "has the columns body, n, not text" in error_line(*flags)
    assert "has the splits train, not test" in error_line(*flags, "--split", "test")
    assert "row " in (line := error_line(*flags, "--column", "n")) and "is a int, not a string" in line
    done(*flags, "--column", "body")
    assert all_prepared() == sorted(texts)
    Dataset.from_dict({"body": [*texts[:-1], None]}).save_to_disk(tmp_path / "other")
    other = (*flags, "--column", "body", "--dataset", "other")
    assert "inputs fingerprint" in error_line(*other)
    assert "row 49 of the data set other: the text is missing" in error_line(*other, "--overwrite")
    assert all_prepared() == sorted(texts)


# What is refused

@pytest.mark.parametrize("flags, message", [
    (("--percent", 60, "--start_from", 50), "sum with --start_from at 100 or below"),
    (("--percent", "nan"), "argument --percent"),
    (("--seed", 2**63), "argument --seed: 9223372036854775808 is not an integer from 0"),
    (("--min_tokens", 100000), "no train document is longer than 100000 tokens (the longest of"),
    (("--tokenizer", "wordpiece"), "neither gpt2 nor bpe:N"),
    (("--tokenizer", "bpe:60000"), "too small for --tokenizer bpe:60000"),
    (("--source", "dataset"), "needs --dataset"),
    (("--source", "docstrings", "--packages", "no-such-package"), "is not installed"),
])
def test_bad_input_is_one_line_and_code_2(tmp_path, flags, message):
    pattern = make_texts(tmp_path / "texts", n_files=30, n_words=20)
    assert message in error_line("--source", "text", "--text_files", pattern, *SMALL, *flags)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("flags, message", [
    (("--tokenizer", "gpt2"), "TIKTOKEN_CACHE_DIR"),
    (("--source", "openwebtext"), "cannot read OpenWebText"),
    (("--source", "dataset", "--dataset", "no/such"), "cannot load the data set"),
    (("--out_dir", "/proc/nowhere"), "/proc/nowhere"),
])
def test_what_cannot_be_reached_is_one_line_and_code_2(tmp_path, flags, message):
    """As users run it, without a network."""
    pattern = make_texts(tmp_path / "texts", n_files=30, n_words=20)
    no_network = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1",
                  "TIKTOKEN_CACHE_DIR": str(tmp_path / "empty"), "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, SCRIPT, "--source", "text", "--text_files", pattern, *SMALL, "--out_dir", "out", *flags]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **no_network})
    lines = result.stderr.splitlines()
    assert result.returncode == 2 and lines[-1].startswith("prepare.py: ") and message in lines[-1], result.stderr
    assert "Traceback" not in result.stderr and not list(tmp_path.glob("out/*"))


def test_a_network_that_fails_while_documents_are_read_is_one_line(tmp_path, monkeypatch):
    """OpenWebText's files are open, and the second part of one does not come."""
    import huggingface_hub
    import pyarrow
    import pyarrow.parquet
    texts = [f"document {index} " + "word " * 30 for index in range(20)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "0.parquet", row_group_size=5)
    monkeypatch.setattr(text_corpora, "OPENWEBTEXT_FILES", ["0.parquet"])
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: type("System", (), {
        "open": lambda self, name: open(tmp_path / Path(name).name, "rb")})())
    read, calls = pyarrow.parquet.ParquetFile.read_row_group, []

    def fail_at_the_second(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise ConnectionError("no route")
        return read(*arguments, **options)

    flags = ("--source", "openwebtext", *SMALL, "--validation_fraction", 0.25)
    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", fail_at_the_second)
        assert "cannot read OpenWebText from the hub (ConnectionError)" in error_line(*flags)
    done(*flags)
    assert all_prepared() == sorted(texts)


def test_help_shows_every_default():
    code, out, _ = run("--help")
    text = " ".join(out.split())
    assert code == 0
    for default in ("10.0", "0.0", "3000", "114", "0.05", "10000000", "utf-8", "strict", "text", "train", "gpt2",
                    " ".join(corpora.VALIDATION_PACKAGES)):
        assert f"(default: {default}" in text
