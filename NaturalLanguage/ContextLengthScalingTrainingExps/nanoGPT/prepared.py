"""What the scripts below data/ write: token files and test documents, each with a JSON beside it that describes it."""

from pathlib import Path

import numpy as np

from files import difference, identity, load_json, plain, read_json
from utils import fail


def describe(path):
    """The JSON beside a .bin file, and what of it identifies the tokens; exits with code 2 if it is another."""
    path = Path(path).with_suffix(".json")
    about = plain(load_json(path, "the description of the tokens,"))
    try:
        about = {**about, "dtype": np.dtype({"uint16": "uint16", "uint32": "uint32"}[about["dtype"]]),
                 "tokens": int(about["tokens"]), "vocabulary_size": int(about["vocabulary_size"])}
        tokenizer = {"tokenizer": about["tokenizer"]["name"], "tokenizer_sha256": about["tokenizer"]["sha256"]}
        return about, {**tokenizer, "sha256": about["sha256"]}
    except (KeyError, TypeError, ValueError) as error:
        fail(f"{path} does not describe tokens ({error!r}); make both again with prepare.py")


def open_tokens(path, about):
    """Tokens (memory map) of a .bin file that `about` describes; exits with code 2 unless it has so many."""
    wanted = about["tokens"] * about["dtype"].itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        fail(f"cannot read the tokens {path}: {error.strerror}; make them with data/openwebtext/prepare.py")
    if size != wanted or not wanted:
        fail(f"{path} has {size} bytes, its description says {wanted}: it is cut short or of another corpus; make it "
             "again with prepare.py --overwrite")
    return np.memmap(path, about["dtype"], "r")


def read_tokens(path):
    """Tokens (memory map) of a .bin file and the JSON beside it; exits with code 2 if they do not belong together."""
    path = Path(path)
    about, _ = describe(path)
    if "file" not in about["tokenizer"]:
        fail(f"{path.with_suffix('.json')} does not name the file of the tokenizer; make both again with prepare.py")
    return open_tokens(path, about), about


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


def offset(n_tokens, seed, packed=1):
    """Where the part of a seed begins in a stream of n_tokens: at random, at a multiple of `packed`."""
    return int(np.random.default_rng(seed).integers(n_tokens)) // packed * packed


def distinct_tokens(n_tokens, part, seeds, packed=1):
    """How many tokens of a stream of n_tokens are in the parts, of `part` tokens each, that these seeds take.

    Fewer than len(seeds) x part where parts overlap: their runs are then no independent samples of the data.
    """
    starts = sorted({offset(n_tokens, seed, packed) for seed in seeds})
    return sum(min(part, after - start) for start, after in zip(starts, [*starts[1:], starts[0] + n_tokens]))


def take(tokens, n_tokens, seed, packed=1):
    """The first n_tokens (None: all) of a stream or, with a seed, those from a random offset on, in a ring.

    The offset is a multiple of `packed`, the tokens of a window of data/mix.py.
    """
    if seed is None:
        return tokens[:n_tokens]
    first = offset(len(tokens), seed, packed)
    last = first + (n_tokens or len(tokens))
    return tokens[first:last] if last <= len(tokens) else np.concatenate((tokens[first:], tokens[:last - len(tokens)]))
