"""Corpora that are read from elsewhere: OpenWebText, any data set, text files. Both language parts have this file.

Each is a Corpus. Its documents have a fixed, shuffled order (seed), of which any part can be read alone. A script gives
its parser `add_flags`, and the arguments to `check_flags` and `choose_source`.
"""

import signal
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files import text_hash
from text_files import CorpusError, Reading, check_text, contents_sha256, find_files, read_files
from utils import argument_type, available_cores, fail, non_negative_int, progress, seed

OPENWEBTEXT = "Skylion007/openwebtext"
OPENWEBTEXT_REVISION = "79d93d786212f7344586290adb811d4ae6a1762c"
OPENWEBTEXT_FILES = [f"plain_text/train-{number:05d}-of-00080.parquet" for number in range(80)]
# Flags that change what a source gives, beside those that do for all sources; the inputs themselves are identified.
SOURCE_FLAGS = {"openwebtext": (), "dataset": ("column", "encoding_errors"),
                "text": ("column", "separator", "encoding", "encoding_errors")}

percentage = argument_type(float, lambda value: 0 <= value <= 100, "a number from 0 to 100")


def add_flags(parser, sources):
    """The flags that say which documents; sources: what --source can be. Returns the first group, for further ones."""
    documents = parser.add_argument_group("which documents")
    group = documents.add_argument
    group("--source", choices=tuple(sources), default="openwebtext", help="the corpus")
    group("--percent", type=percentage, default=10.0, help="of the documents that are for training")
    group("--start_from", type=percentage, default=0.0, help="where that part begins, in percent")
    group("--min_tokens", type=non_negative_int, default=3000, help="keep documents longer than this (0: all)")
    group("--seed", type=seed, default=114, help="of the order of the documents")
    group = parser.add_argument_group("--source text").add_argument
    group("--text_files", nargs="+", help="files or patterns (**: any depth): plain text, .jsonl, .json (a list), "
          ".csv, .tsv or .parquet, also as .gz, .bz2 or .xz; a plain file, a line, an entry or a row is a document")
    group("--separator", help="what stands between documents within a plain file (default: nothing does)")
    group("--encoding", default="utf-8", help="of the files, except .parquet")
    group("--encoding_errors", choices=("strict", "replace"), default="strict",
          help="refuse what is not of this encoding, NUL too, or replace and count it")
    group("--column", default="text", help="with the text: of all but plain files, and of data sets")
    group = parser.add_argument_group("--source dataset").add_argument
    group("--dataset", help="name on the hub, or directory")
    group("--config", help="its configuration")
    group("--split", default="train", help="its split")
    return documents


def check_flags(args):
    """Exit with code 2 where the flags of add_flags do not fit each other."""
    if args.percent == 0 or args.start_from + args.percent > 100:
        fail("--percent must lie above 0, and its sum with --start_from at 100 or below")
    for source, flag in (("text", "text_files"), ("dataset", "dataset")):
        if args.source == source and not getattr(args, flag):
            fail(f"--source {source} needs --{flag}")
    try:
        b"x".decode(args.encoding, "ignore")
    except (LookupError, ValueError):
        fail(f"--encoding {args.encoding} is none that Python knows; for example utf-8, utf-16, latin-1, cp1252")


def choose_source(args):
    """What identifies the inputs that the flags name, and a function that reads them into a Corpus."""
    if args.source == "text":
        paths = find_files(args.text_files)
        reading = Reading(args.column, args.separator, args.encoding, args.encoding_errors)
        return ({"files": len(paths), "sha256": contents_sha256(paths)},
                lambda: text_files(paths, reading, args.seed))
    if args.source == "dataset":
        rows = load_rows(args.dataset, args.config, args.split, args.column)
        return {"fingerprint": rows._fingerprint}, lambda: dataset(rows, args)
    return {"revision": OPENWEBTEXT_REVISION}, lambda: openwebtext(args.seed)


class Corpus(NamedTuple):
    """`read(start, stop)` yields the texts of that part of the order; `source` says where they come from.

    The last `n_validation` documents of the order are for validation (None: a fraction that the caller chooses).
    """
    source: dict
    n_documents: int
    read: Callable
    n_validation: int | None = None


def worker_pool():
    """A pool of processes, one a core, that Ctrl-C does not reach.

    Spawned: a process forked from one that has threads, of pyarrow for example, can wait for a lock for ever.
    """
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        return get_context("spawn").Pool(available_cores())
    finally:
        signal.signal(signal.SIGINT, former)


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
                          "again, or use --source text, dataset (a local one) or docstrings") from error


def load_rows(name, config, split, column=None):
    """The rows of any data set that datasets.load_dataset or load_from_disk can read; `column`, if given, is in it."""
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
    if column and column not in rows.column_names:
        raise CorpusError(f"the data set {name} has the columns {', '.join(rows.column_names)}, not {column}; "
                          "choose one with --column")
    return rows


def dataset(rows, args):
    """A Corpus of the rows of a data set. A row that is no text is refused when it is read."""
    named = {name: getattr(args, name) for name in ("dataset", "config", "split", "column")}
    corpus = in_memory({"name": "dataset", **named, "fingerprint": rows._fingerprint}, range(len(rows)), args.seed)
    texts = rows[args.column]

    def read(start, stop):
        for index in corpus.read(start, stop):
            yield check_text(texts[index], f"row {index} of the data set {args.dataset}", args.encoding_errors)[0]

    return corpus._replace(read=read)


def text_files(paths, reading, seed):
    """A Corpus of the user's own files, read as `reading` says."""
    documents, replaced = read_files(progress(paths, desc="files", unit="file"), reading)
    return in_memory({"name": "text", "files": len(paths), **reading._asdict(), **replaced,
                      "text_sha256": text_hash(documents)}, documents, seed)
