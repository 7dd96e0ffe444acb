"""Where documents come from: OpenWebText, any data set, text files, prepared tokens, or docstrings.

Each source is a Corpus. Its documents have a fixed, shuffled order (seed), of which any part can be read alone.
"""

import ast
import importlib.metadata
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files import text_hash
from text_files import CorpusError, check_text, read_files, refuse_columns
from utils import available_cores, progress

OPENWEBTEXT = "Skylion007/openwebtext"
OPENWEBTEXT_REVISION = "79d93d786212f7344586290adb811d4ae6a1762c"
OPENWEBTEXT_FILES = [f"plain_text/train-{number:05d}-of-00080.parquet" for number in range(80)]
# The packages whose versions requirements.txt pins, so that the corpus is the same for everybody; not what they need.
DOCSTRING_PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tqdm", "transformers", "tokenizers", "tiktoken",
                      "datasets", "scikit-learn")


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
                  lambda start, stop: (documents[int(index)] for index in order[start:stop]))


def parquet(source, files, column, seed):
    """A Corpus of the rows of parquet files (paths, or files open for reading), their row groups in shuffled order.

    Only the row groups that a part needs are read, so a small part of files on the network is a small download.
    """
    from pyarrow.parquet import ParquetFile
    files = [ParquetFile(file) for file in progress(files, desc="files", unit="file")]
    groups = [(file, group) for file in files for group in range(file.metadata.num_row_groups)]
    groups = [groups[index] for index in np.random.default_rng(seed).permutation(len(groups))]
    ends = np.cumsum([file.metadata.row_group(group).num_rows for file, group in groups])

    def read(start, stop):
        for index in range(int(np.searchsorted(ends, start, side="right")), len(groups)):
            file, group = groups[index]
            first = int(ends[index]) - file.metadata.row_group(group).num_rows
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
    with reading_the_hub():
        system = HfFileSystem()
        corpus = parquet(source, [system.open(f"{root}/{name}") for name in OPENWEBTEXT_FILES], "text", seed)

    def read(start, stop):
        with reading_the_hub():
            yield from corpus.read(start, stop)

    return corpus._replace(read=read)


@contextmanager
def reading_the_hub():
    """Raise CorpusError for what the hub's client raises without a network, which is of many types."""
    try:
        yield
    except Exception as error:
        raise CorpusError(f"cannot read OpenWebText from the hub ({type(error).__name__}): check the network and start "
                          "again, or use --source dataset (a local one), text, tokens or docstrings") from error


def load_rows(name, config, split):
    """The rows of any data set that datasets.load_dataset or load_from_disk can read."""
    from datasets import load_dataset, load_from_disk
    try:
        saved = any(Path(name, file).exists() for file in ("dataset_info.json", "state.json", "dataset_dict.json"))
        rows = load_from_disk(name) if saved else load_dataset(name, config, split=split)
    except Exception as error:  # whatever the library meets: no network, no such name, no such split
        raise CorpusError(f"cannot load the data set {name}: {error}") from error
    if isinstance(rows, dict):
        if split not in rows:
            raise CorpusError(f"the data set {name} has the splits {', '.join(rows)}, not {split}; choose with --split")
        rows = rows[split]
    return rows


def dataset(rows, name, config, split, column, encoding_errors, seed):
    """A Corpus of the rows of a data set. A row that is no text is refused when it is read."""
    refuse_columns(f"the data set {name}", column, rows.column_names)
    corpus = in_memory({"name": "dataset", "dataset": name, "config": config, "split": split, "column": column,
                        "fingerprint": rows._fingerprint}, range(len(rows)), seed)
    texts = rows[column]

    def read(start, stop):
        for index in corpus.read(start, stop):
            yield check_text(texts[index], f"row {index} of the data set {name}", encoding_errors)[0]

    return corpus._replace(read=read)


def text_files(paths, reading, seed):
    """A Corpus of the user's own files, read as `reading` says."""
    documents, replaced = read_files(progress(paths, desc="files", unit="file"), reading)
    return in_memory({"name": "text", "files": len(paths), **reading._asdict(), **replaced,
                      "text_sha256": text_hash(documents)}, documents, seed)


def describe_tokens(path):
    """What the JSON beside a .bin of the training part's prepare.py says of it: its dtype and its tokenizer's file."""
    described = Path(f"{str(path).removesuffix('.bin')}.json")
    try:
        about = json.loads(described.read_text(encoding="utf-8"))
        dtype = np.dtype({"uint16": "uint16", "uint32": "uint32"}[about["dtype"]])
        return dtype, described.with_name(about["tokenizer"]["file"])
    except OSError as error:
        raise CorpusError(f"cannot read {described}, the description of the tokens: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{described} does not describe tokens ({error!r}); make both again with prepare.py of the "
                          "training part") from None


def tokens_file(path, seed):
    """A Corpus of a .bin of the training part's prepare.py, decoded with the tokenizer that lies beside it."""
    from tokenizers import Tokenizer
    dtype, tokenizer_file = describe_tokens(path)
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises plain Exception
        raise CorpusError(f"cannot read the tokenizer {tokenizer_file}: {error}; make it again with prepare.py of the "
                          "training part") from None
    try:
        tokens = np.fromfile(path, dtype)
        whole = os.path.getsize(path) == tokens.nbytes
    except OSError as error:
        raise CorpusError(f"cannot read the tokens {path}: {error.strerror}") from None
    end = tokenizer.token_to_id("<|endoftext|>")
    ends = np.flatnonzero(tokens == end) if end is not None else []
    if not whole or not len(ends) or ends[-1] != len(tokens) - 1 or tokens.max() >= tokenizer.get_vocab_size():
        raise CorpusError(f"{path} is not whole documents of the tokenizer {tokenizer_file.name}: cut short, or of "
                          "another one; make both again with prepare.py of the training part")
    texts = [tokenizer.decode(tokens[start:end].tolist(), skip_special_tokens=False)
             for start, end in zip([0, *ends[:-1] + 1], progress(ends, desc="documents", unit="doc"))]
    return in_memory({"name": "tokens", "file": Path(path).name}, texts, seed)


def normalised(package):
    """The name of a package as package indices write it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def installed(packages):
    """The distributions of these packages, by normalised name; exactly these, not what they need in turn."""
    found = {}
    for name in map(normalised, packages):
        try:
            found[name] = importlib.metadata.distribution(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            raise CorpusError(f"the package {name} is not installed; pip install it or leave it out") from None
    return dict(sorted(found.items()))


def versions(distributions):
    """{package: version}, without what tells builds of one version apart (+cpu, +cu130)."""
    return {name: found.version.partition("+")[0] for name, found in distributions.items()}


def parse_file(path):
    """The syntax tree of a Python file, an empty one if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about other people's code
            return ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ast.parse("")


def statements_in(node):
    """The parts of a node of a syntax tree that may hold definitions: all but its expressions."""
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]


def docstrings_of(path):
    """The docstrings of a module, its classes and functions in the order of the file, or "" if it cannot be parsed."""
    found, waiting = [], [parse_file(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(ast.get_docstring(node) or "")
        waiting += reversed(statements_in(node))
    return "\n\n".join(text for text in found if text.strip()).encode("utf-8", "replace").decode()


def docstrings(distributions, seed):
    """A Corpus of the docstrings of installed Python packages, a document a module: real text without a download."""
    files = [(name, str(found.locate_file(file))) for name, found in distributions.items()
             for file in sorted(found.files or [], key=str) if file.suffix == ".py"]
    without = [name for name in distributions if name not in dict(files)]
    if without:
        raise CorpusError(f"the package {without[0]} has no Python files, or no list of them; leave it out")
    paths = [path for _, path in files]
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    ignoring = signal.signal, (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process
    with context.Pool(available_cores(), *ignoring) as pool:
        texts = pool.imap(docstrings_of, paths, chunksize=32)
        texts = list(progress(texts, total=len(paths), desc="modules", unit="file"))
    documents = [text for text in texts if text]
    return in_memory({"name": "docstrings", "packages": {name: found.version for name, found in distributions.items()},
                      "text_sha256": text_hash(documents)}, documents, seed)
