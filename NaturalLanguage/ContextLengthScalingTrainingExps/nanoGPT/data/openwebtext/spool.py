"""The folder of a preparation in progress, and tokens spooled there while documents are read."""

import contextlib
import hashlib
import os
import shutil

import numpy as np

from files import current, lock, read_json, replacing, save_json
from text_files import CorpusError
from utils import progress


class NothingToWrite(CorpusError):
    """A part of a corpus that leaves no document, with one line that says why and what to do."""


@contextlib.contextmanager
def work_folder(path, request):
    """The folder of work in progress on a request; what is there of another one is deleted, as all of it is at the end.

    Exits with code 2 if another process is at work in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with lock(path / "lock", f"another process prepares the same files in {path.parent}; wait for it, or choose "
              "another --out_dir"):
        if not current(path / "request.json", request):
            for entry in path.iterdir():
                if entry.name != "lock":
                    entry.unlink()
            save_json(path / "request.json", {"request": request})
        try:
            yield
        except BaseException as error:
            nothing_done = {entry.name for entry in path.iterdir()} <= {"lock", "request.json"}
            if nothing_done or isinstance(error, NothingToWrite):  # what was asked for cannot be done
                shutil.rmtree(path)
            raise
    shutil.rmtree(path)


class Spool:
    """Token lists of documents in the order of reading, appended to files so that an interruption loses little."""

    def __init__(self, stem, dtype):
        self.dtype = np.dtype(dtype)
        self.paths = {name: stem.with_name(f"{stem.name}.{name}.tmp") for name in ("tokens", "lengths", "progress")}
        self.state = read_json(self.paths["progress"]) or {"read": 0, "tokens": 0, "documents": 0, "longest": 0}
        sizes = {"tokens": self.dtype.itemsize * self.state["tokens"], "lengths": 8 * self.state["documents"]}
        for name in sizes:
            self.paths[name].touch()
        if any(self.paths[name].stat().st_size < size for name, size in sizes.items()):  # the machine lost power
            self.state, sizes = dict.fromkeys(self.state, 0), dict.fromkeys(sizes, 0)
        for name, size in sizes.items():
            os.truncate(self.paths[name], size)  # what came after the last progress is read again

    def append(self, n_read, kept, longest):
        """Note that n_read documents were read, and add those kept (lists of ids)."""
        with open(self.paths["tokens"], "ab") as tokens, open(self.paths["lengths"], "ab") as lengths:
            for ids in kept:
                tokens.write(np.array(ids, self.dtype).tobytes())
            lengths.write(np.array([len(ids) for ids in kept], np.int64).tobytes())
        self.state["read"] += n_read
        self.state["documents"] += len(kept)
        self.state["tokens"] += sum(map(len, kept))
        self.state["longest"] = max(self.state["longest"], longest)
        save_json(self.paths["progress"], self.state)

    def write_shuffled(self, path, seed):
        """Write the documents in shuffled order to `path`. Returns the SHA-256 of the file."""
        lengths = np.fromfile(self.paths["lengths"], np.int64)
        tokens = np.memmap(self.paths["tokens"], self.dtype, "r")
        ends = np.cumsum(lengths)
        digest = hashlib.sha256()
        order = np.random.default_rng(seed).permutation(len(lengths))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            for index in progress(order, desc=path.name, unit="doc"):
                document = tokens[ends[index] - lengths[index]:ends[index]].tobytes()
                digest.update(document)
                file.write(document)
        return digest.hexdigest()

    def remove(self):
        """Delete the files of the spool."""
        for path in self.paths.values():
            path.unlink(missing_ok=True)


def batches(items, size):
    """Lists of up to `size` successive items."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
