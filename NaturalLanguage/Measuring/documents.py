"""Corpora (text_corpora.py) of prepared tokens and of the docstrings of installed packages."""

import ast
import importlib.metadata
import json
import os
import re
import warnings
from pathlib import Path

import numpy as np

from files import text_hash
from text_corpora import in_memory, worker_pool
from text_files import CorpusError
from utils import progress

# The packages whose versions requirements.txt pins, so that the corpus is the same for everybody; not what they need.
DOCSTRING_PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tqdm", "transformers", "tokenizers", "tiktoken",
                      "datasets", "scikit-learn")


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
    with worker_pool() as pool:
        texts = pool.imap(docstrings_of, paths, chunksize=32)
        texts = list(progress(texts, total=len(paths), desc="modules", unit="file"))
    documents = [text for text in texts if text]
    return in_memory({"name": "docstrings", "packages": {name: found.version for name, found in distributions.items()},
                      "text_sha256": text_hash(documents)}, documents, seed)
