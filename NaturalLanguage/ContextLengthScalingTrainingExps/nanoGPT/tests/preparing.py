"""Running both prepare.py in the process of the tests, and reading what they have written."""

import hashlib
import json
from pathlib import Path

import numpy as np

from helpers import run_script

SMALL = ("--percent", 100, "--min_tokens", 0, "--tokenizer", "bpe:270")


def run(*arguments):
    """Run data/openwebtext/prepare.py with --out_dir out; returns (exit code, stdout, stderr)."""
    ended = run_script("data/openwebtext/prepare.py", "--out_dir", "out", *arguments)
    return ended.returncode, ended.stdout, ended.stderr


def prepare_retrieval(folder, *flags, code=0):
    """Run data/retrieval/prepare.py, which must end with this code: a CompletedProcess."""
    ended = run_script("data/retrieval/prepare.py", "--out_dir", folder, "--test_documents", 20, *flags)
    assert ended.returncode == code, ended.stderr
    return ended


def done(*arguments):
    """What `run` prints; it must succeed."""
    code, out, err = run(*arguments)
    assert code == 0, err
    return out


def error_line(*arguments):
    """The line of an error, the last of stderr, of `run`, which must fail with code 2 and this one line."""
    code, _, err = run(*arguments)
    lines = err.splitlines()
    assert code == 2 and "Traceback" not in err, err
    assert [line.startswith("prepare.py: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines[-1]


def prepared(folder, percent=100.0, start=0.0, split="train", family="SUBSET"):
    """Documents of a split (texts without the end of text), and the JSON beside it."""
    stem = folder / f"{family}_{split}_P{percent}_SFrom{start}"
    about = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    file = stem.with_name(f"{stem.name}.bin")
    tokens = np.fromfile(file, about["dtype"])
    assert len(tokens) == about["tokens"] and hashlib.sha256(file.read_bytes()).hexdigest() == about["sha256"]
    tokenizer_file = folder / about["tokenizer"]["file"]
    assert hashlib.sha256(tokenizer_file.read_bytes()).hexdigest() == about["tokenizer"]["sha256"]
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    ends = np.flatnonzero(tokens == tokenizer.token_to_id("<|endoftext|>"))
    documents = [part.tolist() for part in np.split(tokens, ends + 1)]
    assert documents.pop() == [] and len(documents) == about["documents"]
    return [tokenizer.decode(document[:-1]) for document in documents], about


def all_prepared(folder=Path("out")):
    """The documents of both splits, sorted."""
    return sorted(text for split in ("train", "val") for text in prepared(folder, split=split)[0])


def fake_package(site, name, release, modules):
    """An installed package of made-up modules {path: source} below the folder `site`."""
    info = f"{name}-{release}.dist-info"
    files = modules | {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n",
                       f"{info}/RECORD": "".join(f"{path},,\n" for path in modules)}
    for path, contents in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(contents)
