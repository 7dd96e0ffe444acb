"""What the tasks are made of: built-in texts, users' files, files that are refused, and a random model of texts."""

import bz2
import gzip
import json
import re
import shutil

import pytest
from downstream_helpers import WORDS, error_of, generate, run, succeed, write_squad

from downstream import sources
from downstream.scoring import chance


def test_built_in_sources(chat_models, two_packages, tmp_path, monkeypatch):
    """Questions about docstrings: one passage of a context has the answer, the same at each start."""
    for task in ("ruler_qa1", "multi_document_qa"):
        samples, about = generate(tmp_path / f"{task}.jsonl", chat_models["llama"], task, "--max_length", 1500,
                                  "--n", 3)
        assert about["comparable"] is False and set(about["source"]["docstrings"]) == {"numpy", "scipy"}
        for sample in samples:
            holding = [index for index, unit in enumerate(sample["units"]) if sample["answers"][0] in unit]
            assert holding == sample["gold"]
            name, module = re.search(r"What does (\S+) of (\S+) do", sample["question"]).groups()
            assert f"{name} of {module}: {sample['answers'][0]}" in sample["units"][sample["gold"][0]]
    flags = ("--task", "ruler_qa1", "--tokenizer", chat_models["llama"], "--max_length", 1500, "--n", 3, "--out",
             tmp_path / "ruler_qa1.jsonl")
    assert "made before" in succeed("generate_tasks", *flags)
    monkeypatch.setattr(sources, "about_docstrings", lambda: {"docstrings": {"numpy": "0.1"}})
    assert "holds samples with docstrings" in error_of("generate_tasks", *flags)
    line = error_of("generate_tasks", "--task", "ruler_cwe", "--max_length", 1500, "--tokenizer", chat_models["llama"],
                    "--no-built_in", "--out", tmp_path / "none.jsonl")
    assert "--words FILE" in line


def test_a_data_set_that_was_saved_anew_gives_other_samples(chat_models, tmp_path):
    import datasets
    flags = ("--task", "ruler_qa1", "--tokenizer", chat_models["llama"], "--units", 2, "--n", 2, "--dataset",
             tmp_path / "rows", "--out", tmp_path / "s.jsonl")
    for word in ("one", "two"):
        shutil.rmtree(tmp_path / "rows", ignore_errors=True)
        sources.load_rows.cache_clear()
        datasets.Dataset.from_list([
            {"question": f"which {n}", "title": "t", "context": f"{word} {n}.", "answers": {"text": [f"{word} {n}"]}}
            for n in range(9)]).save_to_disk(str(tmp_path / "rows"))
        code, _, err = run("generate_tasks", *flags)
        assert code == 0 if word == "one" else "holds samples with fingerprint" in err, err
        assert word == "two" or "made before" in succeed("generate_tasks", *flags)


def test_chance_of_built_in_reranking_is_low(chat_models, two_packages, tmp_path):
    """The gold passage and two of its module are relevant, of many."""
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "helmet_rerank", "--max_length", 8192, "--n", 4)
    for sample in samples:
        gains = sorted(sample["relevance"].values(), reverse=True)
        assert gains[0] == 2 and gains[1:3] in ([1, 1], [1, 0], [0, 0]) and not any(gains[3:])
        assert chance(sample) < 0.25  # of a tokenizer so small that some 35 passages fit
        name = re.search(r" of (\S+) do\?", sample["question"])[1]
        for unit in sample["units"]:
            number, module = re.match(r"\[ID: (\d+)\] Document \(Title: (.*)\.\w+\): ", unit).groups()
            assert bool(sample["relevance"][number]) == (module == name)
    assert max(map(chance, samples)) < 1.5 * min(map(chance, samples))


@pytest.mark.parametrize("task, flag, comparable", [
    ("multi_document_qa", "--squad", False), ("helmet_rag", "--squad", False), ("helmet_rerank", "--squad", False),
    ("multi_document_qa", "--nq", True), ("ruler_qa1", "--squad", True)])
def test_comparable_by_task_and_source(task, flag, comparable, chat_models, files, tmp_path):
    _, about = generate(tmp_path / "s.jsonl", chat_models["qwen3"], task, "--units", 6, "--n", 1, "--no-built_in",
                        flag, files[files.index(flag) + 1])
    assert about["comparable"] is comparable


def test_a_random_model_is_made_once(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("some words to make tokens of")
    flags = ["--out_dir", tmp_path / "model", "--text_files", text]
    assert "weights" in succeed("make_random_model", *flags)
    assert "made before" in succeed("make_random_model", *flags)
    assert "add --overwrite" in error_of("make_random_model", *flags, "--seed", 1)
    text.write_text("other words")
    assert "add --overwrite" in error_of("make_random_model", *flags)
    assert "weights" in succeed("make_random_model", *flags, "--overwrite")
    text.write_bytes("words".encode("utf-16"))
    assert "is not utf-8" in error_of("make_random_model", *flags, "--overwrite")


def test_labelled_texts_of_a_spreadsheet(tmp_path):
    for name, pack in (("a.csv", bytes), ("a.csv.gz", gzip.compress)):
        for separator, first in ((",", ""), (";", ""), ("\t", "sep=\t\r\n")):
            rows = separator.join(("label", "id", "text")) + f"\r\n7{separator}1{separator}\"one, two; three\"\r\n"
            (tmp_path / name).write_bytes(pack((first + rows).encode("utf-8-sig")))
            assert sources.labelled(tmp_path / name).items == (("one, two; three", "7"),)


def test_lines_of_json_end_where_json_says(tmp_path):
    """A text may have a line separator of Unicode in it; the file may be compressed in any way that texts are."""
    line = json.dumps({"text": "one\u2028two", "label": "a"}, ensure_ascii=False)
    (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress(f"{line}\r\n{line}\n".encode()))
    assert sources.labelled(tmp_path / "a.jsonl.bz2").items == (("one\u2028two", "a"),) * 2


def test_bad_sources(chat_models, symbols, tmp_path):
    def error(task, flag, name, contents, *flags):
        (tmp_path / name).write_text(contents)
        return error_of("generate_tasks", "--task", task, "--tokenizer", chat_models["qwen3"], "--max_length", 3000,
                        "--out", tmp_path / "s.jsonl", flag, tmp_path / name, *flags)

    assert "not SQuAD's JSON" in error("ruler_qa1", "--squad", "a.json", "{}")
    assert "has no answerable questions" in error("ruler_qa1", "--squad", "b.json", '{"data": []}')
    assert "line 2 is not JSON with the fields" in error("multi_document_qa", "--nq", "c.jsonl", "\n{}\n")
    assert "used up" in error("ruler_cwe", "--words", "d.txt", "\n".join(WORDS * 3 + [word + "x" for word in WORDS]))
    assert "lacks the column text" in error("helmet_icl", "--labelled", "e.csv", "a,b\n1,2\n")
    for contents, message in (("text,label\na,b\nshort\n", "line 3 of "), ("a,b;c\n1,2;3\n", "has several of comma"),
                              (f"text,label\n{'a' * 200_000},b\n", "g.csv is not a CSV file: field larger"),
                              ("text,label\n", "g.csv has no row"), ("", "g.csv lacks the column text")):
        assert message in error("helmet_icl", "--labelled", "g.csv", contents)
    for task, flag, contents in (("helmet_icl", "--labelled", '{"text": "\0"}'), ("ruler_cwe", "--words", "a\nb\0\n"),
                                 ("two_needles", "--essays", "One.\0"), ("helmet_rag", "--nq", '{"question": "\0"}'),
                                 ("ruler_qa1", "--squad", '{"data": "\0"}')):
        assert "n.txt is not text: byte" in error(task, flag, "n.txt", contents)
    for line in ('{"text": 3, "label": "a"}', '{"text": "a", "label": null}', '{"text": "a", "label": ["b"]}',
                 r'{"text": "a\u0000", "label": 1}', r'{"text": "a", "label": "\ud800"}'):
        assert "h.jsonl: line 2 has no text with a label" in error("helmet_icl", "--labelled", "h.jsonl",
                                                                   f'{{"text": "a", "label": 1}}\n{line}\n')
    gold = {"title": "t", "text": "It is Foo."}
    for fields in ({"question": 3}, {"answers": []}, {"answers": "Foo"}, {"answers": [3]}, {"ctxs": []},
                   {"ctxs": [gold, {"title": 3, "text": "a"}]}, {"ctxs": [gold, {"title": "a", "text": None}]}):
        line = json.dumps({"question": "who", "answers": ["Foo"], "ctxs": [gold], **fields})
        assert "i.jsonl: line 2 is not a question" in error("helmet_rag", "--nq", "i.jsonl", f"\n{line}\n")
    for part, fields in (("context", {"context": 3}), ("question", {"question": None}), ("answer", {"answer": 3})):
        fields = {"context": "It is Foo.", "question": "who", "answer": "Foo", **fields}
        questions = [{"question": "what", "answers": [{"text": "Foo"}]},
                     {"question": fields["question"], "answers": [{"text": fields["answer"]}]}]
        squad = {"data": [{"title": "t", "paragraphs": [{"context": fields["context"], "qas": questions}]}]}
        number = 1 if part == "context" else 2
        assert f"question {number}: TypeError: {fields[part]!r} is not text" in error("ruler_qa1", "--squad", "j.json",
                                                                                     json.dumps(squad))
    assert "no chat template" in error("ruler_qa1", "--squad", write_squad(tmp_path / "f.json").name,
                                       (tmp_path / "f.json").read_text(), "--chat", "on",
                                       "--tokenizer", symbols)
