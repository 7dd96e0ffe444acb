"""Corpora (text_corpora.py) of the docstrings or the code of installed packages."""

import ast
import importlib.metadata
import os
import platform
import re
import tokenize
import warnings
from pathlib import Path

import numpy as np

from files import load_json, text_hash
from text_corpora import Corpus, in_memory, worker_pool
from text_files import CorpusError
from utils import progress

REFERENCE = Path(__file__).with_name("reference_corpora.json")  # of the committed results
# The packages whose versions requirements.txt pins, so that the corpus is the same for everybody; not what they need.
DOCSTRING_PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "tqdm", "transformers", "tokenizers", "tiktoken",
                      "datasets", "scikit-learn")
# 7% of the tokens of the code, 8% to 9% of the docstrings'. Of the lines of their code 0.2% (matplotlib) and 2%
# (datasets) stand in other packages too; scikit-learn and scipy bring the same files of third ones.
VALIDATION_PACKAGES = ("datasets", "matplotlib")
# Written when a package is built, so not the same in all builds of one version.
BUILD_FILES = {"version.py", "_version.py", "__config__.py"}


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
    return "\n\n".join(text for text in found if text.strip()).encode("utf-8", "replace").decode()


def code_of(path):
    """The source code of a module with its comments and strings, or "" if it cannot be read as Python reads it."""
    try:
        with tokenize.open(path) as file:
            return file.read().replace("\0", "")
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ""


def modules(distributions, extract):
    """[(package, text)] of every module of these packages, in the order of packages and paths; blank texts left out."""
    files = [(name, str(found.locate_file(file))) for name, found in distributions.items()
             for file in sorted(found.files or [], key=str) if file.suffix == ".py"]
    if extract is code_of:
        files = [(name, path) for name, path in files if os.path.basename(path) not in BUILD_FILES]
    without = [name for name in distributions if name not in dict(files)]
    if without:
        raise CorpusError(f"the package {without[0]} has no Python files, or no list of them; leave it out")
    owners, paths = [name for name, _ in files], [path for _, path in files]
    with worker_pool() as pool:
        texts = list(progress(pool.imap(extract, paths, chunksize=32), total=len(paths), desc="modules", unit="file"))
    return [(owner, text) for owner, text in zip(owners, texts) if text.strip()]


def package_texts(name, distributions, validation_packages, seed):
    """A Corpus of installed Python packages, a document a module: their docstrings, or their code (`name`).

    With validation_packages the modules of these alone are for validation, but for those that other packages have too,
    word for word; without, all documents are shuffled together.
    """
    found = modules(distributions, {"docstrings": docstrings_of, "code": code_of}[name])
    source = {"name": name, "packages": {package: found.version for package, found in distributions.items()},
              "text_sha256": text_hash(text for _, text in found)}
    if not validation_packages:
        return in_memory(source, [text for _, text in found], seed)
    held_out = set(validation_packages)
    training = [text for owner, text in found if owner not in held_out]
    seen = set(training)
    validation = [text for owner, text in found if owner in held_out and text not in seen]
    if not training or not validation:
        raise CorpusError("--validation_packages leaves no document for validation or for training; choose others")
    source |= {"training_packages": [package for package in distributions if package not in held_out],
               "validation_packages": sorted(held_out), "documents": len(training) + len(validation),
               "dropped_from_validation": len(found) - len(training) - len(validation)}
    documents, generator = training + validation, np.random.default_rng(seed)
    order = np.concatenate([generator.permutation(len(training)),
                            len(training) + generator.permutation(len(validation))])
    return Corpus(source, len(documents), lambda start, stop: (documents[index] for index in order[start:stop]),
                  len(validation))


def compare_with_reference(source):
    """Say in one line if the corpus of the pinned packages is not the one that the committed results were made with."""
    reference = load_json(REFERENCE, "the description of the reference corpora")
    if source.get("packages", {}).keys() != reference["packages"].keys():
        return
    if source["text_sha256"] == reference["text_sha256"][source["name"]]:
        return
    versions = {"python": platform.python_version(), **source["packages"]}
    there = {"python": reference["python"], **reference["packages"]}
    different = [f"{name} {version} (there {there[name]})" for name, version in versions.items()
                 if version.partition("+")[0] != there[name] and not version.startswith(f"{there[name]}.")]
    print("the corpus differs from that of the committed results: "
          + (", ".join(different) or "the same versions, but other files or another way to read them"))
