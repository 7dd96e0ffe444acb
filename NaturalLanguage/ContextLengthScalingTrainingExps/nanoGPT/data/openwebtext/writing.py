"""Files that are whole or not there, a folder for work in progress, and tokens spooled while documents are read."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil

import numpy as np

from console import fail, progress


@contextlib.contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded."""
    temporary = path.with_name(f"{path.name}.tmp")
    yield temporary
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, contents):
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(contents, indent=1) + "\n")


def load_json(path):
    """Read a JSON object; None if there is no such file or it is not whole."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return contents if isinstance(contents, dict) else None


def file_hash(path):
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def work_folder(path, request):
    """The folder of work in progress on a request; what is there of another one is deleted, as all of it is at the end.

    Exits with code 2 if another process is at work in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(file.fileno()), os.stat(path / "lock"))
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:
            fail(f"another process prepares the same files in {path.parent}; wait for it, or choose another --out_dir")
        if load_json(path / "request.json") != request:
            for entry in path.iterdir():
                if entry.name != "lock":
                    entry.unlink()
            write_json(path / "request.json", request)
        try:
            yield
        except BaseException as error:
            nothing_done = {entry.name for entry in path.iterdir()} <= {"lock", "request.json"}
            if nothing_done or isinstance(error, SystemExit):  # what was asked for cannot be done
                shutil.rmtree(path)
            raise
    shutil.rmtree(path)


class Spool:
    """Token lists of documents in the order of reading, appended to files so that an interruption loses little."""

    def __init__(self, stem, dtype):
        self.dtype = np.dtype(dtype)
        self.paths = {name: stem.with_name(f"{stem.name}.{name}.tmp") for name in ("tokens", "lengths", "progress")}
        self.state = load_json(self.paths["progress"]) or {"read": 0, "tokens": 0, "documents": 0, "longest": 0}
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
        write_json(self.paths["progress"], self.state)

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
