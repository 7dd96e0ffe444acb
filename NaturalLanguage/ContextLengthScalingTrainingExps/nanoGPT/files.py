"""The files of this part: written whole or not at all, read as users have them, and the rule for what is up to date.

The three parts of the repository have the same text of this file. What cannot be read or written ends the program with
exit code 2 and one line that names the file.
"""

import csv
import fcntl
import hashlib
import io
import json
import math
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

from utils import fail

LINE = 120  # characters of a line of JSON
REMEDY = "delete it and make it again"


class Record(dict):
    """A dictionary out of a file: what it lacks ends the program with exit code 2 and one line, which says where."""

    def __init__(self, contents, where, remedy):
        super().__init__(contents)
        self.where, self.remedy = where, remedy

    def __missing__(self, name):
        fail(f"{self.where} lacks {name}; {self.remedy}")


class Field(str):
    """A field of a table: where a number is wanted and it is none, the program ends with exit code 2 and one line."""

    @classmethod
    def at(cls, text, where, remedy):
        field = cls(text)
        field.where, field.remedy = where, remedy
        return field

    def __float__(self):
        try:
            value = float(str(self))
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            points = " with a decimal point" if "," in self else ""
            fail(f"{self.where} is {str(self)[:40]!r}, which is not a number{points}; {self.remedy}")
        return value

    def __int__(self):
        try:
            return int(str(self))
        except ValueError:
            value = float(self)
        if not value.is_integer():
            fail(f"{self.where} is {self}, which is not a whole number; {self.remedy}")
        return int(value)


def plain(value):
    """A value with the Records in it as dictionaries and the Fields as texts, as torch stores them."""
    if type(value) in (dict, Record):
        return {name: plain(entry) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return str(value) if isinstance(value, Field) else value


def make_directory(path):
    """Create a directory with its parents; exits with code 2 where nothing can be written. Returns a Path."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot create the directory {path}: {error.strerror}; choose another one")
    if not os.access(path, os.W_OK):
        fail(f"cannot write into the directory {path}; choose another one")
    return path


@contextmanager
def lock(path, message=None, wait=False):
    """Hold a lock file while the block runs. If another process has it, waits, or exits with code 2 and `message`.

    The operating system frees the lock of a process that has died, however it died.
    """
    try:
        file = open(path, "w")
    except OSError as error:
        fail(f"cannot write {path} ({error.strerror}); choose another directory, or make it writable")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = os.path.samestat(os.fstat(file.fileno()), os.stat(path))  # not if it was deleted in the meantime
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            fail(message or f"another process is at work in {Path(path).parent}; wait for it, or choose another "
                 "directory")
        yield


@contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded, so that `path` is always whole.

    Exits with code 2 if the file cannot be written (a full disk, say); an older file at `path` then stays.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        fail(f"cannot write {path}: {error}; free some space or choose another place, what was there before is kept")
    finally:
        temporary.unlink(missing_ok=True)


# Tensors, JSON and tables

def save_tensors(path, contents):
    """Write a dictionary of tensors and plain values, whole or not at all."""
    import torch
    with replacing(path) as temporary, open(temporary, "wb") as file:  # given a path, torch writes its name inside
        torch.save(plain(contents), file)


def read_tensors(path, device="cpu", mmap=False):
    """The contents of a file of save_tensors, or None if it is missing or damaged.

    The checksums inside tell what torch.load does not see, a changed byte. With `mmap` they are not looked at: of a
    large file only that is read which is used.
    """
    import torch
    try:
        if not mmap:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    return None
        return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except Exception:  # a damaged file raises many types
        return None


def load_tensors(path, what, device="cpu", mmap=False, kind=dict):
    """What read_tensors gives, of this kind; exits with code 2 if the file is missing, damaged or holds another."""
    try:
        open(path, "rb").close()
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")
    contents = read_tensors(path, device, mmap)
    if contents is None:
        fail(f"{what} {path} is damaged or not a file of ours; {REMEDY}")
    if not isinstance(contents, kind):
        fail(f"{what} {path} holds no dictionary; {REMEDY}")
    return Record(contents, f"{what} {path}", REMEDY) if kind is dict else contents


def json_text(value, indent=""):
    """JSON text of plain values, in lines as full as LINE allows; a list of numbers is one line, however long."""
    line = json.dumps(value)
    pairs = [(json.dumps(key) + ": ", entry) for key, entry in value.items()] if isinstance(value, dict) else [
        ("", entry) for entry in value] if isinstance(value, list) else []
    numbers = isinstance(value, list) and all(entry is None or isinstance(entry, (int, float)) for entry in value)
    if not pairs or numbers or len(indent) + len(line) < LINE:
        return line
    inner, lines = indent + " ", []
    for key, entry in pairs:
        text = key + json_text(entry, inner)
        if lines and "\n" not in lines[-1] + text and len(inner) + len(lines[-1]) + len(text) + 3 < LINE:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    body = ",\n".join(inner + line for line in lines)
    return f"{line[0]}\n{body}\n{indent}{line[-1]}"


def save_json(path, contents):
    """Write JSON, whole or not at all. NaN is refused: a missing value is null."""
    text = json_text(json.loads(json.dumps(contents, allow_nan=False)))
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path):
    """The JSON object in a file, or None if it is missing, malformed or holds something else."""
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return contents if isinstance(contents, dict) else None


def load_json(path, what):
    """Read a JSON object, as Records; exits with code 2 if the file is missing, malformed or holds something else."""
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8-sig"),
                              object_hook=lambda contents: Record(contents, f"{what} {path}", REMEDY))
    except OSError as error:
        fail(f"cannot read {what} {path}: {error.strerror}")
    except ValueError as error:
        fail(f"{what} {path} is not JSON: {error}; {REMEDY}")
    if not isinstance(contents, dict):
        fail(f"{what} {path} holds no JSON object; {REMEDY}")
    return contents


def write_csv(path, rows, columns=None):
    """Write dictionaries as CSV, whole or not at all. The columns are those of the first row, or as given.

    What a row lacks, or has as None, is an empty field.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path, columns=(), remedy="make it again", separator=None):
    """Read a CSV file in UTF-8: `parse_table` of its text. Exits with code 2 if it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}; {remedy}")
    except UnicodeDecodeError as error:
        fail(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8")
    return parse_table(text, path, columns, remedy, separator)


def parse_table(text, path, columns=(), remedy="make it again", separator=None):
    """The rows of a CSV file's text, as users have it, with at least these columns: a list of Records of Fields.

    Spaces before names and values are skipped, and the separator (comma, semicolon or tab) is that of the header,
    unless it is given, or named in a first line like sep=; as Excel does. Exits with code 2 and one line, which ends
    with `remedy`, if the text lacks a column, has no rows or has one with another number of fields; so do the Records
    and Fields where they are used as what they are not.
    """
    header, _, below = text.partition("\n")
    declared = header.lower().startswith("sep=") and len(header.rstrip("\r")) == 5
    if declared:
        separator, text = separator or header[4], below
        header = text.partition("\n")[0]
    found = [mark for mark in ",;\t" if mark in header]
    if separator is None and len(found) > 1:
        fail(f"the header of {path} has several of comma, semicolon and tab: {header!r}; separate its columns by one")
    reader = csv.DictReader(io.StringIO(text), delimiter=separator or (found[0] if found else ","),
                            skipinitialspace=True)
    rows = []
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in columns if name not in reader.fieldnames]
        if missing:
            fail(f"{path} lacks the column {missing[0]} (it has: {', '.join(reader.fieldnames or ['none'])}); {remedy}")
        for row in reader:
            line = f"line {reader.line_num + declared} of {path}"
            if None in row or None in row.values():
                fail(f"{line} has {'more' if None in row else 'fewer'} fields than the header; {remedy}")
            rows.append(Record({name: Field.at(value, f"{line}: {name}", remedy) for name, value in row.items()},
                               path, remedy))
    except csv.Error as error:
        fail(f"{path} is not a CSV file: {error}; {remedy}")
    if not rows:
        fail(f"{path} has no row below its header; {remedy}")
    return rows


# What is up to date

def identity(path):
    """The SHA-256 of a file's bytes, to name it in a request; exits with code 2 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def text_hash(texts):
    """The SHA-256 of a sequence of texts, each with its length before it."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def begins_anew(overwrite, path):
    """Whether what the JSON file `path` describes is to be replaced: `overwrite`, but once in the lives of a Slurm job.

    A job that is requeued starts with the same flags; "slurm_job" in the file tells what an earlier life of it began.
    """
    if overwrite and int(os.environ.get("SLURM_RESTART_COUNT", 0)) and Path(path).exists():
        return load_json(path, "the description").get("slurm_job") != os.environ["SLURM_JOB_ID"]
    return overwrite


def same_request(stored, request):
    """Whether what was stored is this request (`difference`)."""
    return difference(stored, request) is None


def difference(stored, request):
    """The first name in which two requests differ, and its values: "NAME STORED, not WANTED"; None if they are one.

    stored: what a file has; where that is no request at all, this is said.
    """
    if not isinstance(stored, dict):
        return "nothing that says what it was made from"
    stored, request = (json.loads(json.dumps(each)) for each in (stored, request))
    for name in sorted({*stored, *request}):
        old, new = stored.get(name), request.get(name)
        if old != new:
            inner = difference(old, new) if isinstance(old, dict) and isinstance(new, dict) else None
            return f"{name} {inner or f'{old}, not {new}'}"
    return None


def current(path, request):
    """Whether the file at `path` (.json or .pt) is whole and was made by this request, which is stored in it.

    A request is a dictionary of plain values: the arguments that change the result and the identity of the inputs. It
    is the one rule for what is done: neither that a file exists nor its age says so.
    """
    try:
        contents = read_json(path) if Path(path).suffix == ".json" else read_tensors(path, mmap=True)
        return same_request(contents["request"], request)
    except Exception:  # missing, cut short, or a file of another kind: to be made
        return False
