"""Files as users have them: all kinds and encodings are read, and what cannot be is named in one line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import text_files
from preparing import SMALL, all_prepared, done, error_line, prepared


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


LATIN1 = "garçon été ".encode("latin-1") * 20


def zipped(name):
    """The bytes of a .zip file with one file of text."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "text " * 9)
    return data.getvalue()


def tarred():
    """The bytes of a .tar file with one file of text."""
    data, entry = io.BytesIO(), tarfile.TarInfo("a.txt")
    entry.size = 4
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(b"text"))
    return data.getvalue()


@pytest.mark.parametrize("name, contents, flags, message", [
    ("latin1.txt", LATIN1, (), "latin1.txt is not utf-8: byte 3 is 0xe7"),
    ("latin1.txt", b"\xef\xbb\xbfab" + LATIN1, (), "byte 8 is 0xe7"),
    ("latin1.txt.gz", gzip.compress(LATIN1, mtime=0), (), "byte 3 is 0xe7"),
    ("lines.jsonl", b'{"text": "' + LATIN1 + b'"}', (), "byte 13 is 0xe7"),
    ("wide.txt", "été".encode("utf-16"), (), "byte order mark of utf-16 at byte 0; add --encoding utf-16"),
    ("wide.txt", "été".encode("utf-32"), (), "byte order mark of utf-32"),
    ("wide.txt", "abc".encode("utf-16-le"), (), "byte 1 is NUL; if it is UTF-16 without a mark"),
    ("nul.txt", b"abc\0def", (), "nul.txt is not text: byte 3 is NUL"),
    ("nul.txt", "ab\0c".encode("utf-16"), ("--encoding", "utf-16"), "character 2 is NUL"),
    ("odd.txt", "abc".encode("utf-16")[:-1], ("--encoding", "utf-16"), "not utf-16: byte 6 is 0x63 (truncated data)"),
    ("packed.txt", gzip.compress(b"text", mtime=0), (), "it is compressed: give it the ending .gz"),
    ("cut.txt.gz", gzip.compress(bytes(range(256)) * 9, mtime=0)[:-9], (), "cut.txt.gz is cut short"),
    ("plain.txt.gz", b"not compressed", (), "plain.txt.gz is not a whole gzip file"),
    ("crc.txt.gz", gzip.compress(b"abc", mtime=0)[:-8] + bytes(8), (), "crc.txt.gz is not a whole gzip file"),
    ("cut.txt.xz", lzma.compress(bytes(range(256)) * 9)[:-9], (), "cut.txt.xz is not a whole xz file"),
    ("plain.txt.bz2", b"not compressed", (), "plain.txt.bz2 is not a whole bzip2 file"),
    ("packed.txt", bz2.compress(b"text"), ("--encoding", "latin-1"), "it is compressed: give it the ending .bz2"),
    ("texts.zip", zipped("a.txt"), (), "texts.zip is not text: it is an archive; unpack it"),
    ("texts.txt", zipped("a.txt"), ("--encoding", "latin-1", "--encoding_errors", "replace"), "it is an archive"),
    ("texts.tar.gz", gzip.compress(tarred(), mtime=0), ("--encoding_errors", "replace"), "it is an archive; unpack it"),
    ("report.docx", zipped("word/document.xml"), (), "save it as plain text"),
    ("report.pdf", b"%PDF-1.4 text", (), "save it as plain text"),
    ("empty.txt", b"", (), "empty.txt is empty or blank"),
    ("blank.jsonl", b"\n \n", (), "blank.jsonl is empty or blank"),
    ("lines.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', (), "lines.jsonl, line 3: not JSON"),
    ("lines.jsonl", b'{"text": "a"}\n["b"]\n', (), "lines.jsonl, line 2: not an object"),
    ("lines.jsonl", b'{"body": "a", "n": 1}\n', (), "line 1: there is no column text (it has: body, n)"),
    ("lines.jsonl", b'{"text": "a"}\n{"text": 7}\n', (), "line 2: the text is a int, not a string"),
    ("lines.jsonl", b'{"text": null}', (), "line 1: the text is missing (null), not a string"),
    ("lines.jsonl", b'{"text": "a\\u0000"}', (), "line 1: the text has a NUL"),
    ("lines.jsonl", b'{"text": "a\\ud800"}', (), "line 1: the text has a half of a surrogate pair"),
    ("lines.jsonl", b"[" * 200_000, (), "line 1: cannot be read as JSON"),
    ("lines.ndjson", b'{"text": "a"}\n{"text": 7}\n', (), "lines.ndjson, line 2: the text is a int, not a string"),
    ("list.json", b'{"text": "a"}\n{"text": "b"}\n', (), "list.json: not JSON (Extra data, at character 15)"),
    ("list.json", b'{"data": ["a", "b"]}', (), "list.json is not a list of strings or objects but a dict"),
    ("list.json", b'[{"text": "a"}, {"body": "b"}]', (), "entry 2: there is no column text (it has: body)"),
    ("list.json", b'["a", null]', (), "entry 2: not an object"),
    ("rows.csv", b"id,body\n1,a\n", (), "there is no column text (it has: id, body); choose with --column"),
    ("rows.csv", b"text,text\na,b\n", (), "there are several columns text"),
    ("rows.csv", b"id,text\n1,one, two\n", (), "rows.csv, line 2: 3 fields where the header has 2"),
    ("rows.csv", b'id,text\n1,"one\n2,two\n', (), "rows.csv, line 3: not CSV (unexpected end of data)"),
    ("rows.csv", b"id;text,body\n1;a,b\n", (), "rows.csv: the first line must be the names of the columns"),
    ("rows.csv", b"sep=;\nid;text\n1;a\n", (), "rows.csv: the first line must be the names of the columns"),
    ("rows.csv", b"", (), "rows.csv: there is no column text (it has: none)"),
    ("rows.parquet", b"PAR1 and no more", (), "rows.parquet is not a whole parquet file"),
    ("good.txt", b"text", ("--encoding", "no-such"), "--encoding no-such is none that Python knows"),
    ("good.txt", b"text", ("--encoding", "hex"), "--encoding hex is none that Python knows"),
])
def test_what_is_not_text_is_named_in_one_line(tmp_path, name, contents, flags, message):
    (tmp_path / name).write_bytes(contents)
    assert message in error_line("--source", "text", "--text_files", name, *SMALL, *flags)
    assert not list(tmp_path.glob("out/*"))


def test_what_is_no_file_is_named_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "nowhere.txt").symlink_to("no such file")
    os.mkfifo(tmp_path / "pipe.txt")
    for name, message in (("folder", "folder is a directory; name the files in it"),
                          ("folder/**", "no file matches folder/**"), ("none.txt", "no file matches none.txt"),
                          ("nowhere.txt", "cannot read nowhere.txt: No such file"),
                          ("pipe.txt", "pipe.txt is not a regular file")):
        assert message in error_line("--source", "text", "--text_files", "good.txt", name, *SMALL)
    if sys.platform == "linux":
        assert "cannot read /proc/self/mem" in error_line("--source", "text", "--text_files", "/proc/self/mem", *SMALL)


def test_files_are_read_as_users_have_them(tmp_path):
    """Each kind of file, with each encoding, in folders with spaces and brackets, gives its documents, each once."""
    import pyarrow
    from pyarrow import parquet
    folder = tmp_path / "my [draft] texts"
    folder.mkdir()
    texts = {f"kind {n}": f"{n}: naïve café 東京 \N{GRINNING FACE} " + "word " * n for n in range(1, 12)}
    documents = list(texts.values())
    (folder / "plain.txt").write_bytes(documents[0].encode())
    (folder / "marked.txt").write_bytes(documents[1].encode("utf-8-sig"))
    (folder / "packed.TXT.GZ").write_bytes(gzip.compress(documents[2].encode()))
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=n % 2) for n, text in enumerate(documents[3:7])]
    (folder / "lines.jsonl").write_bytes("\r\n".join(lines[:2]).encode("utf-8-sig"))
    (folder / "lines.jsonl.gz").write_bytes(gzip.compress("\n\n".join(lines[2:]).encode()))
    parquet.write_table(pyarrow.table({"id": [1, 2], "text": documents[7:9]}), folder / "rows.parquet")
    parquet.write_table(pyarrow.table({"text": documents[9:]}), folder / "more.parquet")
    (folder / "same.txt").symlink_to("plain.txt")
    done("--source", "text", "--text_files", "my [[]draft] texts/*", "my [draft] texts/plain.txt", *SMALL, "--out_dir",
         "my out")
    assert all_prepared(Path("my out")) == sorted(documents)
    for name, contents, flags, text in (
            ("a", "été".encode("latin-1"), ("--encoding", "latin-1"), "été"),
            ("b", "été 東京\r\n".encode("utf-16"), ("--encoding", "utf-16"), "été 東京\n"),
            ("c", "\N{BYTE ORDER MARK}été".encode("utf-16-be"), ("--encoding", "UTF-16BE"), "été"),
            ("d", b"a\xe9b\0c\xff", ("--encoding_errors", "replace"), "a\ufffdb\ufffdc\ufffd"),
            ("e", "\ufffd\ufffd ok".encode() + b"\xe9", ("--encoding_errors", "replace"), "\ufffd\ufffd ok\ufffd")):
        (tmp_path / f"{name}.txt").write_bytes(contents)
        reading = text_files.Reading(**{flags[0].removeprefix("--"): flags[1]})
        assert text_files.read_documents(f"{name}.txt", reading) == ([text], {"d": 3, "e": 1}.get(name, 0))
    (tmp_path / "body.jsonl").write_text('{"body": "one\\u0000"}\n{"body": "two"}\n{"body": " "}\n')
    out = done("--source", "text", "--text_files", "body.jsonl", "--column", "body", *SMALL, "--tokenizer", "bpe:257",
               "--encoding_errors", "replace", "--validation_fraction", 0.5)
    assert all_prepared() == ["one\ufffd", "two"] and "1 characters in 1 of the files" in out
    assert prepared(Path("out"))[1]["source"]["replaced_characters"] == 1


def test_tables_of_texts_are_read_by_column(tmp_path):
    """Each entry of a list and each row is a document, whatever separators, quotes and lines it has in it."""
    texts = [f"{n}: naïve, café; \"東京\"\tand\nmore " + "word " * n for n in range(1, 14)]
    texts[6] = "7: " + "word " * 30_000  # beyond the limit of a field that the csv module sets

    def rows(separator, chosen):
        file = io.StringIO()
        csv.writer(file, delimiter=separator).writerows([("id", "body"), *enumerate(chosen)])
        return file.getvalue()

    def write(name, text, encode=bytes):
        (tmp_path / name).write_bytes(encode(text.encode()))

    write("lines.ndjson", "\n".join(json.dumps({"body": text}) for text in texts[:2]))
    write("list.json", json.dumps([{"id": 1, "body": text} for text in texts[2:4]]))
    write("strings.json.xz", json.dumps(texts[4:6]), lzma.compress)
    write("rows.csv", rows(",", texts[6:8]))
    write("excel.csv", rows(";", texts[8:10]))
    write("rows.tsv.bz2", rows("\t", texts[10:12]), bz2.compress)
    quoted = '"' + texts[12].replace('"', '""') + '"'
    write("marked.csv", f"\ufeffbody\r\n{quoted}\r\n")
    done("--source", "text", "--text_files", "lines.ndjson", "list.json", "strings.json.xz", "rows.csv", "excel.csv",
         "rows.tsv.bz2", "marked.csv", *SMALL, "--column", "body")
    assert all_prepared() == sorted(texts)
