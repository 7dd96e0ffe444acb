"""Files of text as users have them: plain text, .jsonl and .parquet with a column of texts, each of them also as .gz.

Nothing is guessed: what is not text in the encoding that was named is refused in one line, with its file and place.
"""

import codecs
import glob
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
WIDE_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
              (codecs.BOM_UTF16_BE, "utf-16"))  # in this order: UTF-32's mark begins with UTF-16's
GZIP_MARK = b"\x1f\x8b"


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


def kind_of(path):
    """The ending that decides how a file is read: .jsonl, .parquet, or "" for plain text; .gz is not counted."""
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    return suffix if suffix in (".jsonl", ".parquet") else ""


def read_bytes(path):
    """The bytes of a file, those of a .gz decompressed."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CorpusError(f"{path} is not a regular file; save what it gives as a file first")
        data = Path(path).read_bytes()
        return gzip.decompress(data) if path.lower().endswith(".gz") else data
    except EOFError:
        raise CorpusError(f"{path} is cut short: its compressed data do not end; copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is not a whole gzip file ({error}); copy or download it again") from None
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from None


def contents_sha256(paths):
    """SHA-256 over the contents of files and how they are read: what is made of them is current while it is equal."""
    digest = hashlib.sha256()
    for path in paths:
        data = read_bytes(path)
        digest.update(f"{kind_of(path)} {len(data)} ".encode() + data)
    return digest.hexdigest()


def decode(data, path, reading):
    """The text of a file, without a byte order mark and with \\n at the ends of lines: (text, characters replaced)."""
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
            advice = ("it is compressed: give it the ending .gz" if data.startswith(GZIP_MARK) else
                      "name its encoding, for example --encoding latin-1, or add --encoding_errors replace")
            raise CorpusError(f"{path} is not {reading.encoding}: byte {error.start} is 0x{data[error.start]:02x} "
                              f"({error.reason}); {advice}") from None
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


def json_lines(text, path, column):
    """Yield (where, value of the column) of each line that is not blank; a line is a JSON object."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{where}: not JSON ({error.msg}, at character {error.pos + 1})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise CorpusError(f"{where}: cannot be read as JSON ({error})") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{where}: not an object {{\"{column}\": \"...\"}} but a {type(row).__name__}")
        if column not in row:
            raise CorpusError(f"{where}: there is no column {column} (it has: {', '.join(row)}); choose with --column")
        yield where, row[column]


def parquet_rows(data, path, column):
    """Yield (where, value of the column) of each row of a parquet file."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile
    number = 0
    try:
        file = ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        if column not in names:
            raise CorpusError(f"{path} has no column {column} (it has: {', '.join(names)}); choose with --column")
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

    Plain text is one document, or several where the separator stands between them; a line of .jsonl or a row of
    .parquet is one. Raises CorpusError.
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
        rows = json_lines(text, path, reading.column)
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
