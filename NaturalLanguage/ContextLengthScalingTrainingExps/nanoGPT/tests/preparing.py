"""Running prepare.py in the process of the tests, and reading what it has written."""

import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np

import prepare

SMALL = ("--percent", 100, "--min_tokens", 0, "--tokenizer", "bpe:270")


def run(*arguments):
    """Run prepare.py's main() in this process with --out_dir out; returns (exit code, stdout, stderr)."""
    out, err, code, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["prepare.py", "--out_dir", "out", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            prepare.main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue()


def done(*arguments):
    """Run prepare.py's main(), which must succeed; returns stdout."""
    code, out, err = run(*arguments)
    assert code == 0, err
    return out


def error_line(*arguments):
    """Run prepare.py's main(), which must fail with code 2 and one line, the last of stderr; returns the line."""
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
