"""What the scripts below data/ write: token files and test documents, each with a JSON beside it that describes it."""

from pathlib import Path

import numpy as np

from files import difference, identity, load_json, read_json
from utils import fail


def read_tokens(path):
    """Tokens (memory map) of a .bin file and the JSON beside it; exits with code 2 if they do not belong together."""
    path = Path(path)
    about = load_json(path.with_suffix(".json"), "the description of the tokens,")
    try:
        dtype = np.dtype({"uint16": "uint16", "uint32": "uint32"}[about["dtype"]])
        size, wanted = path.stat().st_size, about["tokens"] * dtype.itemsize
        for name in ("sha256", "vocabulary_size"):
            about[name]
        for name in ("name", "file", "sha256"):
            about["tokenizer"][name]
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}; make it with data/openwebtext/prepare.py")
    except (KeyError, TypeError) as error:
        fail(f"{path.with_suffix('.json')} does not describe tokens ({error!r}); make both with "
             "data/openwebtext/prepare.py")
    if size != wanted or not wanted:
        fail(f"{path} has {size} bytes, its description says {wanted}; make it again")
    return np.memmap(path, dtype, "r"), about


def is_prepared(path, request, hashed=False):
    """Whether the file at `path` and its tokenizer are there and whole; exits with code 2 if another request made them.

    A token file is whole if it has its size; `hashed`: a file is if its bytes are those that were written.
    """
    described = path.with_suffix(".json")
    about = read_json(described)
    if about is None:
        return False
    if not isinstance(about.get("request"), dict):
        other = "something that it does not say"
    else:
        other = difference(about["request"], request)
    if other:
        fail(f"{described} was prepared with {other}; add --overwrite to replace it, or choose another --out_dir")
    try:
        tokenizer = path.with_name(about["tokenizer"]["file"])
        if not path.is_file() or not tokenizer.is_file() or identity(tokenizer) != about["tokenizer"]["sha256"]:
            return False
        if hashed:
            return identity(path) == about["sha256"]
        return path.stat().st_size == about["tokens"] * np.dtype(about["dtype"]).itemsize
    except (KeyError, TypeError):  # the description of another version
        return False
