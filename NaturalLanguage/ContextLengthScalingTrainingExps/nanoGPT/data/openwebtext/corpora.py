"""Where documents come from: OpenWebText, text files, any data set, or the docstrings of installed packages.

Each source is a Corpus. Its documents have a fixed, shuffled order (seed), of which any part can be read alone.
"""

import ast
import glob
import hashlib
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

OPENWEBTEXT = "Skylion007/openwebtext"
OPENWEBTEXT_REVISION = "79d93d786212f7344586290adb811d4ae6a1762c"
OPENWEBTEXT_FILES = [f"plain_text/train-{number:05d}-of-00080.parquet" for number in range(80)]
# The packages whose versions requirements.txt pins, so that the corpus is the same for everybody; not what they need.
DOCSTRING_PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tqdm", "transformers", "tokenizers", "tiktoken",
                      "datasets", "scikit-learn")


class CorpusError(Exception):
    """A corpus that cannot be read, with one line that says why and what to do."""


class Corpus(NamedTuple):
    """`read(start, stop)` yields the texts of that part of the order; `source` says where they come from."""
    source: dict
    n_documents: int
    read: Callable


def in_memory(source, documents, seed):
    """A Corpus of a sequence of texts, in shuffled order."""
    if not len(documents):
        raise CorpusError(f"the {source['name']} corpus has no document; look at what it was given to read")
    order = np.random.default_rng(seed).permutation(len(documents))
    return Corpus({**source, "documents": len(documents)}, len(documents),
                  lambda start, stop: (documents[int(place)] for place in order[start:stop]))


def parquet(source, files, column, seed):
    """A Corpus of the rows of parquet files (paths, or files open for reading), their row groups in shuffled order.

    Only the row groups that a part needs are read, so a small part of files on the network is a small download.
    """
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
            rows = file.read_row_group(group, columns=[column]).column(column).to_pylist()
            yield from rows[max(start - first, 0):stop - first]

    return Corpus({**source, "documents": int(ends[-1])}, int(ends[-1]), read)


def openwebtext(seed):
    """OpenWebText (8,013,769 documents, 40 GB of text) from the Hugging Face hub, read as far as needed."""
    from huggingface_hub import HfFileSystem
    source = {"name": "openwebtext", "repository": OPENWEBTEXT, "revision": OPENWEBTEXT_REVISION}
    root = f"datasets/{OPENWEBTEXT}@{OPENWEBTEXT_REVISION}"
    try:
        system = HfFileSystem()
        return parquet(source, [system.open(f"{root}/{name}") for name in OPENWEBTEXT_FILES], "text", seed)
    except Exception as error:  # the hub's client raises many types without a network
        raise CorpusError(f"cannot read OpenWebText from the hub ({type(error).__name__}): check the network, or use "
                          "--source text, dataset (a local one) or docstrings") from error


def dataset(name, config, split, column, seed):
    """Any data set that datasets.load_dataset or load_from_disk can read."""
    from datasets import load_dataset, load_from_disk
    try:
        rows = load_from_disk(name) if Path(name, "dataset_info.json").exists() or Path(name, "state.json").exists() \
            else load_dataset(name, config, split=split)
    except Exception as error:  # whatever the library meets: no network, no such name, no such split
        raise CorpusError(f"cannot load the data set {name}: {error}") from error
    if column not in rows.column_names:
        raise CorpusError(f"the data set {name} has the columns {', '.join(rows.column_names)}, not {column}; "
                          "choose one with --column")
    return in_memory({"name": "dataset", "dataset": name, "config": config, "split": split, "column": column,
                      "fingerprint": rows._fingerprint}, rows[column], seed)


def text_files(patterns, separator, seed):
    """The user's own files: one document a file, or several where `separator` stands between them."""
    paths = sorted({path for pattern in patterns for path in glob.glob(pattern, recursive=True)})
    paths = [path for path in paths if os.path.isfile(path)]
    if not paths:
        raise CorpusError(f"no file matches --text_files {' '.join(patterns)}")
    documents = []
    for path in tqdm(paths, desc="files", unit="file"):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise CorpusError(f"cannot read {path}: {error.strerror}") from error
        documents += [part for part in (text.split(separator) if separator else [text]) if part.strip()]
    source = {"name": "text", "files": len(paths), "separator": separator, "text_sha256": text_hash(documents)}
    return in_memory(source, documents, seed)


def installed(packages):
    """The distributions of these packages, by normalised name; exactly these, not what they need in turn."""
    found = {}
    for package in packages:
        name = re.sub(r"[-_.]+", "-", package).lower()
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise CorpusError(f"the package {name} is not installed; pip install it or leave it out") from None
    return dict(sorted(found.items()))


def text_hash(documents):
    """SHA-256 over a sequence of texts, each with its length before it."""
    digest = hashlib.sha256()
    for text in documents:
        encoded = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


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
    """The docstrings of installed Python packages, one document a module."""
    distributions = installed(packages)
    paths = [str(distribution.locate_file(file)) for distribution in distributions.values()
             for file in sorted(distribution.files or [], key=str) if file.suffix == ".py"]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with get_context("fork" if sys.platform == "linux" else "spawn").Pool(workers) as pool:
        documents = list(tqdm(pool.imap(docstrings_of, paths, chunksize=32), total=len(paths), desc="modules",
                              unit="file"))
    documents = [document for document in documents if document]
    versions = {name: found.version for name, found in distributions.items()}
    return in_memory({"name": "docstrings", "packages": versions, "text_sha256": text_hash(documents)}, documents, seed)
