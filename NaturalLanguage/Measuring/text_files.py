"""Files of text as users have them: plain text and tables with a column of texts, each of them also compressed.

Nothing is guessed: what is not text in the encoding that was named is refused in one line, with its file and place.
"""

import bz2
import codecs
import csv
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import stat
import sys
import zlib
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from utils import progress

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
WIDE_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
              (codecs.BOM_UTF16_BE, "utf-16"))  # in this order: UTF-32's mark begins with UTF-16's
# The endings of tables, and as which kind each is read; what has another ending is plain text.
KINDS = {".ndjson": ".jsonl"} | {kind: kind for kind in (".jsonl", ".json", ".csv", ".tsv", ".parquet")}
COMPRESSED = {".gz": ("gzip", gzip.decompress, b"\x1f\x8b"), ".bz2": ("bzip2", bz2.decompress, b"BZh9"),
              ".xz": ("xz", lzma.decompress, b"\xfd7zXZ\0")}  # ending: name, how it is unpacked, its first bytes
# What is not text: its endings, its first bytes, what to do. A .docx, .epub or .xlsx has the first bytes of a .zip.
REFUSED = (
    ((".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".mobi"), (b"%PDF-", b"{\\rtf", b"\xd0\xcf\x11\xe0"),
     "a document with a layout; save it as plain text"),
    ((".xls", ".xlsx", ".ods"), (), "a spreadsheet; save it as .csv"),
    ((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".zst"),
     (b"PK\3\4", b"PK\5\6", b"7z\xbc\xaf", b"Rar!\x1a", b"\x28\xb5\x2f\xfd"),
     "an archive; unpack it, and name the files in it"))


class CorpusError(Exception):
    """A corpus that cannot be read, with one line that says why and what to do."""


class Reading(NamedTuple):
    """How files are read: the column with the text, the separator of documents in plain text, the encoding, and what
    to do about bytes that are not of this encoding ("strict": refuse, "replace": count them)."""
    column: str = "text"
    separator: str | None = None
    encoding: str = "utf-8"
    encoding_errors: str = "strict"


def find_files(patterns):
    """The files that patterns match, sorted, each once; a path that exists is taken as it is, whatever signs it has."""
    found = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            raise CorpusError(f"{pattern} is a directory; name the files in it, for example '{pattern}/**/*.txt'")
        paths = [pattern] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)
        paths = [path for path in paths if not os.path.isdir(path)]
        if not paths:
            raise CorpusError(f"no file matches {pattern} (--text_files)")
        for path in sorted(paths):
            found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def inner_suffix(path):
    """The ending of a file's name in lower case, that of a compressed file without .gz and the like."""
    path = Path(path.lower())
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def kind_of(path):
    """How a file is read: .jsonl, .json, .csv, .tsv, .parquet, or "" for plain text."""
    return KINDS.get(inner_suffix(path), "")


def read_bytes(path):
    """The bytes of a file, decompressed where its ending says so."""
    name, decompress, _ = COMPRESSED.get(Path(path.lower()).suffix, ("", bytes, b""))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CorpusError(f"{path} is not a regular file; save what it gives as a file first")
        packed = Path(path).read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return decompress(packed)
    except EOFError:
        raise CorpusError(f"{path} is cut short: its compressed data do not end; copy or download it again") from None
    except (OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{path} is not a whole {name} file ({error}); copy or download it again") from None


def contents_sha256(paths):
    """SHA-256 over the contents of files and how they are read: what is made of them is current while it is equal."""
    digest = hashlib.sha256()
    for path in progress(paths, unit="file", desc="hashing", leave=False):
        data = read_bytes(path)
        digest.update(f"{kind_of(path)} {len(data)} ".encode() + data)
    return digest.hexdigest()


def refuse_other_kinds(data, path):
    """Raise CorpusError for what REFUSED lists, and for what is compressed without an ending that says so."""
    named = [what for endings, _, what in REFUSED if inner_suffix(path) in endings]
    marked = [what for _, marks, what in REFUSED if data.startswith(marks)]
    packed = [f"compressed: give it the ending {suffix}" for suffix, (_, _, mark) in COMPRESSED.items()
              if data.startswith(mark)]
    found = [*named, *marked, *packed]
    if found:
        raise CorpusError(f"{path} is not text: it is {found[0]}")


def decode(data, path, reading):
    """The text of a file, without a byte order mark and with \\n at the ends of lines: (text, characters replaced)."""
    refuse_other_kinds(data, path)
    encoding = codecs.lookup(reading.encoding).name
    for mark, wide in WIDE_MARKS:
        if encoding == "utf-8" and data.startswith(mark):
            raise CorpusError(f"{path} is not utf-8: it begins with the byte order mark of {wide} at byte 0; add "
                              f"--encoding {wide}")
    replaced = 0
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if reading.encoding_errors == "strict":
            raise CorpusError(f"{path} is not {reading.encoding}: byte {error.start} is 0x{data[error.start]:02x} "
                              f"({error.reason}); name its encoding, for example --encoding latin-1, or add "
                              "--encoding_errors replace") from None
        text = data.decode(encoding, "replace")
        replaced = text.count(REPLACEMENT) - data.decode(encoding, "ignore").count(REPLACEMENT)
    if "\0" in text and reading.encoding_errors == "strict":
        position = f"character {text.index(chr(0))}" if encoding.startswith(("utf-16", "utf-32")) else \
            f"byte {data.index(0)}"
        raise CorpusError(f"{path} is not text: {position} is NUL; if it is UTF-16 without a mark, add --encoding "
                          "utf-16-le (or -be), or replace such bytes with --encoding_errors replace")
    replaced += text.count("\0")
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").replace("\0", REPLACEMENT)
    return text.replace("\r\n", "\n").replace("\r", "\n"), replaced


def check_text(value, where, encoding_errors):
    """A text of a column, which must be a string without NUL and halves of surrogate pairs: (text, replaced)."""
    if not isinstance(value, str):
        kind = "missing (null)" if value is None else f"a {type(value).__name__}"
        raise CorpusError(f"{where}: the text is {kind}, not a string; choose another --column, or mend the file")
    whole = value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if whole and "\0" not in value:
        return value, 0
    if encoding_errors == "strict":
        raise CorpusError(f"{where}: the text has a {'NUL' if whole else 'half of a surrogate pair'}; mend it, or add "
                          "--encoding_errors replace")
    letters = [REPLACEMENT if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter for letter in value]
    return "".join(letters), sum(old != new for old, new in zip(value, letters))


def refuse_columns(where, column, names):
    """Raise CorpusError if the column is not among the names, or there twice."""
    if names.count(column) != 1:
        known = shorten(", ".join(names), 200, placeholder=" ...")
        raise CorpusError(f"{where}: there {'are several columns' if column in names else 'is no column'} {column} (it "
                          f"has: {known or 'none'}); choose with --column")


def parse_json(text, where, advice=""):
    """A value of JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON ({error.msg}, at character {error.pos + 1}){advice}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise CorpusError(f"{where}: cannot be read as JSON ({error})") from None


def json_text(row, where, column):
    """The value of the column of a JSON object."""
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: not an object {{\"{column}\": \"...\"}} but a {type(row).__name__}")
    refuse_columns(where, column, list(row))
    return row[column]


def json_lines(text, path, column):
    """Yield (where, value of the column) of each line that is not blank; a line is a JSON object."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, json_text(parse_json(line, where), where, column)


def json_list(text, path, column):
    """Yield (where, text) of each entry of a list of JSON, which is a string or an object with the column."""
    rows = parse_json(text, path, "; if it has an object on every line, give it the ending .jsonl")
    if not isinstance(rows, list):
        raise CorpusError(f"{path} is not a list of strings or objects but a {type(rows).__name__}; make it one, or "
                          ".jsonl, an object on every line")
    for number, row in enumerate(rows, 1):
        where = f"{path}, entry {number}"
        yield where, row if isinstance(row, str) else json_text(row, where, column)


def csv_rows(text, path, column, separators):
    """Yield (where, value of the column) of each row of a CSV file, separated as its header, by one of these."""
    header = text.partition("\n")[0]
    found = [mark for mark in separators if mark in header]
    if len(found) > 1 or header.lower().startswith("sep="):
        raise CorpusError(f"{path}: the first line must be the names of the columns, separated by one of {separators}")
    reader = csv.reader(io.StringIO(text), delimiter=(found or separators)[0], strict=True)
    limit = csv.field_size_limit(sys.maxsize)  # a text may be long
    try:
        names = [name.strip() for name in next(reader, [])]
        refuse_columns(path, column, names)
        for row in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(names):
                raise CorpusError(f"{where}: {len(row)} fields where the header has {len(names)}; put quotes around "
                                  "fields that have separators in them")
            yield where, row[names.index(column)]
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: not CSV ({error}); mend it, or give .jsonl") from None
    finally:
        csv.field_size_limit(limit)  # it is the whole process's


def parquet_rows(data, path, column):
    """Yield (where, value of the column) of each row of a parquet file."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile
    number = 0
    try:
        file = ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        refuse_columns(path, column, names)
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield f"{path}, row {number}", value
    except (ArrowException, OSError) as error:
        raise CorpusError(f"{path} is not a whole parquet file ({error}); copy or download it again") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: a text after row {number} is not utf-8 ({error.reason})") from None


def read_documents(path, reading):
    """The documents of a file that are not blank, and how many characters of them were replaced.

    Plain text is one document, or several where the separator stands between them; a line of .jsonl, an entry of .json
    and a row of .csv, .tsv and .parquet is one. Raises CorpusError.
    """
    data, kind = read_bytes(path), kind_of(path)
    replaced = 0
    if kind == ".parquet":
        rows = parquet_rows(data, path, reading.column)
    else:
        text, replaced = decode(data, path, reading)
        if not kind:
            parts = text.split(reading.separator) if reading.separator else [text]
            return [part for part in parts if part.strip()], replaced
        rows = (csv_rows(text, path, reading.column, ",;" if kind == ".csv" else "\t") if kind in (".csv", ".tsv") else
                (json_list if kind == ".json" else json_lines)(text, path, reading.column))
    texts = []
    for where, value in rows:
        text, n_replaced = check_text(value, where, reading.encoding_errors)
        texts.append(text)
        replaced += n_replaced
    return [text for text in texts if text.strip()], replaced


def read_files(paths, reading):
    """The documents of files, and {"replaced_characters": n} if there were such. Raises CorpusError for one without."""
    documents, replaced, damaged, blank = [], 0, 0, []
    for path in paths:
        found, n_replaced = read_documents(path, reading)
        documents += found
        replaced += n_replaced
        damaged += n_replaced > 0
        if not found:
            blank.append(path)
    if blank:
        others = f" (and {len(blank) - 1} more files)" if len(blank) > 1 else ""
        raise CorpusError(f"{blank[0]}{others} is empty or blank; leave it out")
    if not replaced:
        return documents, {}
    print(f"{replaced:,} characters in {damaged} of the files are not {reading.encoding} and were replaced by "
          f"U+{ord(REPLACEMENT):04X}")
    return documents, {"replaced_characters": replaced}
