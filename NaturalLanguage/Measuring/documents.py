"""Where documents come from: OpenWebText, any data set, text files, prepared tokens, or docstrings.

Each source is a Documents. Its texts have a fixed, shuffled order (seed), of which any part can be read alone.
"""

import ast
import glob
import importlib.metadata
import os
import re
import sys
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
from tqdm import tqdm

from utils import fail, load_json

OPENWEBTEXT = "Skylion007/openwebtext"
OPENWEBTEXT_REVISION = "79d93d786212f7344586290adb811d4ae6a1762c"
# The packages whose versions requirements.txt pins, so that the corpus is the same for everybody; not what they need.
DOCSTRING_PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tqdm", "transformers", "tokenizers", "tiktoken",
                      "datasets", "scikit-learn")


class Documents(NamedTuple):
    """`read(start, stop)` yields the texts of that part of the order; `source` says where they come from."""
    source: dict
    count: int
    read: Callable


def shuffled(source, texts, seed):
    """Documents of a sequence of texts. Exits with code 2 if there is none."""
    if not len(texts):
        fail(f"the corpus {source['name']} is empty; look at what it was given to read")
    order = np.random.default_rng(seed).permutation(len(texts))
    return Documents({**source, "documents": len(texts)}, len(texts),
                     lambda start, stop: (texts[int(place)] for place in order[start:stop]))


def parquet(source, files, column, seed):
    """Documents of the rows of parquet files, their row groups in shuffled order: only those needed are downloaded."""
    from pyarrow.parquet import ParquetFile
    files = [ParquetFile(file) for file in tqdm(files, desc="files", unit="file")]
    groups = [(file, group) for file in files for group in range(file.metadata.num_row_groups)]
    groups = [groups[place] for place in np.random.default_rng(seed).permutation(len(groups))]
    ends = np.cumsum([file.metadata.row_group(group).num_rows for file, group in groups])

    def read(start, stop):
        for place in range(int(np.searchsorted(ends, start, side="right")), len(groups)):
            file, group = groups[place]
            first = int(ends[place]) - file.metadata.row_group(group).num_rows
            if first >= stop:
                return
            yield from file.read_row_group(group, columns=[column]).column(column).to_pylist()[
                max(start - first, 0):stop - first]

    return Documents({**source, "documents": int(ends[-1])}, int(ends[-1]), read)


def openwebtext(seed):
    """OpenWebText (8,013,769 documents, 40 GB of text) streamed from the Hugging Face hub, as far as needed."""
    from huggingface_hub import HfFileSystem
    source = {"name": "openwebtext", "repository": OPENWEBTEXT, "revision": OPENWEBTEXT_REVISION}
    root = f"datasets/{OPENWEBTEXT}@{OPENWEBTEXT_REVISION}/plain_text"
    try:
        system = HfFileSystem()
        files = [system.open(f"{root}/train-{number:05d}-of-00080.parquet") for number in range(80)]
        return parquet(source, files, "text", seed)
    except Exception as error:  # the hub's client raises many types without a network
        fail(f"cannot read OpenWebText from the hub ({type(error).__name__}): check the network, or use --source "
             "dataset (a local one), text, tokens or docstrings")


def dataset(name, config, split, column, seed):
    """Any data set that datasets.load_dataset or load_from_disk can read."""
    from datasets import load_dataset, load_from_disk
    try:
        saved = any(Path(name, file).exists() for file in ("dataset_info.json", "state.json", "dataset_dict.json"))
        rows = load_from_disk(name) if saved else load_dataset(name, config, split=split)
        rows = rows[split] if isinstance(rows, dict) else rows
    except Exception as error:  # whatever the library meets: no network, no such name, no such split
        fail(f"cannot load the data set {name}: {error}")
    if column not in rows.column_names:
        fail(f"the data set {name} has the columns {', '.join(rows.column_names)}, not {column}; choose with --column")
    return shuffled({"name": "dataset", "dataset": name, "config": config, "split": split, "column": column},
                    rows[column], seed)


def text_files(patterns, separator, seed):
    """The user's own files: one document a file, or several where `separator` stands between them."""
    paths = {path for pattern in patterns for path in glob.glob(pattern, recursive=True)}
    paths = sorted(filter(os.path.isfile, paths))
    if not paths:
        fail(f"no file matches --text_files {' '.join(patterns)}")
    texts = []
    for path in tqdm(paths, desc="files", unit="file"):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
        texts += [part for part in (text.split(separator) if separator else [text]) if part.strip()]
    return shuffled({"name": "text", "files": len(paths), "separator": separator}, texts, seed)


def describe_tokens(path):
    """What the JSON beside a .bin of the training part's prepare.py says of it."""
    return load_json(f"{str(path).removesuffix('.bin')}.json", "the description of the tokens")


def tokens_file(path, seed):
    """The documents of a .bin of the training part's prepare.py, decoded with the tokenizer that lies beside it."""
    from tokenizers import Tokenizer
    path, about = Path(path), describe_tokens(path)
    try:
        tokenizer = Tokenizer.from_file(str(path.parent / about["tokenizer"]["file"]))
        tokens = np.fromfile(path, about["dtype"])
    except Exception as error:  # tokenizers raises plain Exception
        fail(f"cannot read {path} and its tokenizer: {error}; make them again with prepare.py of the training part")
    ends = np.flatnonzero(tokens == tokenizer.token_to_id("<|endoftext|>"))
    texts = [tokenizer.decode(tokens[start:end].tolist(), skip_special_tokens=False)
             for start, end in zip([0, *ends[:-1] + 1], tqdm(ends, desc="documents", unit="doc"))]
    return shuffled({"name": "tokens", "file": path.name, "sha256": about["sha256"]}, texts, seed)


def installed(packages):
    """The distributions of these packages, by normalised name; exactly these, not what they need in turn."""
    found = {}
    for package in packages:
        name = re.sub(r"[-_.]+", "-", package).lower()
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            fail(f"the package {name} is not installed; pip install it or leave it out")
    return dict(sorted(found.items()))


def docstrings_of(path):
    """The docstrings of a module, its classes and functions in the order of the file, or "" if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about other people's code
            waiting = [ast.parse(Path(path).read_text(encoding="utf-8"))]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    found = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(ast.get_docstring(node) or "")
        waiting += [child for child in reversed(list(ast.iter_child_nodes(node))) if not isinstance(child, ast.expr)]
    return "\n\n".join(text for text in found if text.strip())


def docstrings(packages, seed):
    """The docstrings of installed Python packages, one document a module: real text without a download."""
    distributions = installed(packages)
    paths = [str(distribution.locate_file(file)) for distribution in distributions.values()
             for file in sorted(distribution.files or [], key=str) if file.suffix == ".py"]
    with get_context("fork" if sys.platform == "linux" else "spawn").Pool() as pool:
        texts = list(tqdm(pool.imap(docstrings_of, paths, chunksize=32), total=len(paths), desc="modules", unit="file"))
    return shuffled({"name": "docstrings", "packages": {name: found.version for name, found in distributions.items()}},
                    [text for text in texts if text], seed)
