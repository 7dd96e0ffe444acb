"""HELMET's generators against its rules, by independent counting."""

import json
import re
from collections import Counter

import pytest
from downstream_helpers import generate, read_lines, write_nq
from scipy.stats import chisquare


def test_json_recall_and_rag(chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "a.jsonl", chat_models["qwen3"], "helmet_recall", "--units", 30, "--n", 2)
    for sample in samples:
        pairs = json.loads(sample["opening"] + sample["separator"].join(sample["units"]) + sample["question"][0])
        keys = re.findall("Key: (.*)", sample["question"])
        values = re.findall("value: *(.+)", sample["question"])
        assert len(pairs) == 30 and len(set(keys)) == 3
        assert [pairs[key] for key in keys] == [*values, *sample["answers"]]
    samples, _ = generate(tmp_path / "b.jsonl", chat_models["qwen3"], "helmet_rag", "--units", 12, "--n", 3, *files)
    for sample in samples:
        assert len(re.findall("Question: ", sample["instruction"])) == 2 and len(sample["units"]) == 12
        holding = [index for index, unit in enumerate(sample["units"]) if sample["answers"][0].lower() in unit.lower()]
        assert holding == sample["gold"]


def test_demonstrated_pairs_are_uniform(chat_models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "helmet_recall", "--units", 10, "--n", 300,
                          "--questions", 2)
    counts = Counter()
    for sample in samples[::2]:
        keys = [re.match('"(.*?)"', unit)[1] for unit in sample["units"]]
        shown = [keys.index(key) for key in re.findall("Key: (.*)", sample["question"])[:2]]
        assert not {*shown} & {*sample["gold"], *samples[sample["index"] + 1]["gold"]}
        counts.update(shown)
    assert chisquare([counts[index] for index in range(10)]).pvalue > 0.001


def test_reranking(chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "helmet_rerank", "--units", 10, "--n", 3, *files)
    for sample in samples:
        names = [re.match(r"\[ID: (\d+)\] Document \(Title: .*\): ", unit).group(1) for unit in sample["units"]]
        assert len(set(names)) == 10 and sorted(sample["relevance"]) == sorted(names)
        assert sample["relevance"][names[sample["gold"][0]]] == max(sample["relevance"].values()) > 0
        ranked = [sample["relevance"][name] for name in sample["answers"]]
        assert ranked == sorted(sample["relevance"].values(), reverse=True)
        assert re.findall(r"\d+", sample["target"]) == sample["answers"][:10]
        assert len(re.findall("Ranking: ID", sample["instruction"])) == 2 + 1  # two demonstrations and the format


@pytest.mark.parametrize("task, flags, passages, shown", [
    ("helmet_rag", (), 90, 3), ("helmet_rag", ("--max_length", 8191), 90, 1), ("helmet_rerank", (), 90, 10),
    ("helmet_rerank", ("--max_length", 8191), 90, 5), ("helmet_rerank", ("--max_length", 8192), 6, 7)])
def test_demonstrations_of_passages(task, flags, passages, shown, chat_models, tmp_path):
    """As many as HELMET's files have from its shortest length on, or all where there are fewer."""
    nq = write_nq(tmp_path / "nq.jsonl", passages=passages)
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], task, "--units", 6, "--n", 4, "--nq", nq, *flags)
    for sample in samples:
        demonstrations = re.split(r"(?<=\n)(?:Answer|Ranking): (.*)\n\n", sample["instruction"])[2:]
        assert len(demonstrations) == 5 and demonstrations[4] == ""
        asked = [re.search(r"question (\d+)$", part)[1]
                 for part in (*demonstrations[0:3:2], sample["question"].strip())]
        assert len(set(asked)) == 3
        for part, number, answer in zip(demonstrations[::2], asked, demonstrations[1::2]):
            texts = re.findall(r"Document \(Title: \w+ (\d+).*?\): (.*)", part)
            assert len(texts) == shown and {of for of, _ in texts} == {number}
            holding = [index for index, (_, text) in enumerate(texts) if f"Answer{number}" in text]
            if task == "helmet_rag":
                assert len(holding) == 1 and answer == f"Answer{number}"
            else:
                names = re.findall(r"\[ID: (\d+)\]", part)
                ranked = re.findall(r"ID(\d+)", answer)
                assert sorted(ranked) == sorted(names) and len(set(names)) == shown
                assert ranked[0] == names[holding[0]]


def test_in_context_learning(chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "helmet_icl", "--units", 25, "--n", 6, *files)
    label_of = {line["text"]: line["label"] for line in read_lines(files[9])}
    mappings = []
    for sample in samples:
        pairs = [re.fullmatch(r"(.*)\nlabel: (\d+)", unit).groups() for unit in sample["units"]]
        mapping = {label_of[text]: number for text, number in pairs}
        assert sorted(map(int, mapping.values())) == list(range(7))
        for start in (0, 7, 14):
            assert len({number for _, number in pairs[start:start + 7]}) == 7
        assert len(pairs) == 25 and len({number for _, number in pairs[21:]}) == 4
        question = sample["question"].strip()
        assert sample["answers"] == [mapping[label_of[question]]] and question not in dict(pairs)
        mappings.append(tuple(sorted(mapping.items())))
    assert len(set(mappings)) > 1
