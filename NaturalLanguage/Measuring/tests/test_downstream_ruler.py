"""RULER's generators against its rules, by independent counting."""

import json
import math
import re
from collections import Counter

import pytest
from downstream_helpers import generate
from transformers import AutoTokenizer


@pytest.mark.parametrize("length, demonstration, counts", [(1500, (20, 3, 1), (6, 1)), (4500, (40, 10, 3), (30, 3))])
def test_common_words(length, demonstration, counts, chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "ruler_cwe", "--max_length", length, "--n", 2,
                          *files)
    for sample in samples:
        words = [re.fullmatch(r"(\d+)\. (\w+)", unit).groups() for unit in sample["units"]]
        assert [int(number) for number, _ in words] == list(range(1, len(words) + 1))
        found = Counter(word for _, word in words)
        assert {found[word] for word in sample["answers"]} == {counts[0]} and len(set(sample["answers"])) == 10
        assert {found[word] for word in set(found) - set(sample["answers"])} == {counts[1]}
        assert {words[index][1] for index in sample["gold"]} == set(sample["answers"])
        assert len(sample["gold"]) == 10 * counts[0]
        shown, answer = re.search(r"\n(1\. .*)\nQuestion.*list are: (.*)\n", sample["instruction"]).groups()
        shown = Counter(re.findall(r"\d+\. (\w+)", shown))
        distinct, common, other = demonstration
        assert len(shown) == distinct and Counter(shown.values()) == {common: 10, other: distinct - 10}
        assert {word for word, count in shown.items() if count == common} == set(re.findall(r"\d+\. (\w+)", answer))
        assert not set(shown) & set(found)


def test_frequent_words(chat_models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "ruler_fwe", "--max_length", 6000, "--n", 2)
    zeta = math.pi**2 / 6
    for sample in samples:
        counts = Counter(sample["units"])
        ranked = [count for _, count in counts.most_common()]
        assert counts.most_common(1)[0][0] == "..."
        assert sample["answers"] == [word for word, _ in counts.most_common(4)[1:]]
        n = next(n for n in range(ranked[0], 10 * ranked[0]) if int(n / zeta) == ranked[0])
        same = [n for n in range(n, n + 3)
                if [int(n * rank**-2 / zeta) for rank in range(1, len(ranked) + 1)] == ranked]
        assert same and len(ranked) <= 6000 // 50
        for rank, share in zip((1, 2, 3), (0.152, 0.0675, 0.038)):
            assert ranked[rank] / same[0] == pytest.approx(share, abs=0.003)
        assert all(re.fullmatch("[a-z]{6}", word) for word in counts if word != "...")


def test_variable_tracking(chat_models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "ruler_vt", "--max_length", 4500, "--n", 4)
    tokenizer = AutoTokenizer.from_pretrained(chat_models["qwen3"])
    for sample in samples:
        lines = [sample["units"][index] for index in sample["gold"]]
        noise = {unit for index, unit in enumerate(sample["units"]) if index not in sample["gold"]}
        assert len(noise) == 1 and len(re.findall(r"\.", noise.pop())) == 5
        name, value = re.fullmatch(r"VAR ([A-Z]{5}) = (\d{5})", lines[0]).groups()
        assert 10_000 <= int(value) <= 99_998 and value in sample["question"] and value in sample["prefix"]
        names = [name]
        for line in lines[1:]:
            found, before = re.fullmatch(r"VAR ([A-Z]{5}) = VAR ([A-Z]{5})", line).groups()
            assert before == names[-1]
            names.append(found)
        assert names == sample["answers"] and len(set(names)) == 5
        assert len(re.findall(r"VAR [A-Z]{3} = ", sample["instruction"])) == 5
        demonstration = sample["instruction"].removesuffix("Memorize" + sample["instruction"].rpartition("Memorize")[2])
        assert 400 < len(tokenizer(demonstration)["input_ids"]) <= 500


def test_questions_of_documents(chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["gemma"], "ruler_qa1", "--max_length", 2500, "--n", 8,
                          "--questions", 4, *files)
    articles = json.loads(files[1].read_text())["data"]
    article_of = {entry["context"]: article["title"] for article in articles for entry in article["paragraphs"]}
    assert [sample["context"] for sample in samples] == [0] * 4 + [1] * 4
    for sample in samples:
        texts = [re.fullmatch(r"Document (\d+):\n(.*)", unit).group(2) for unit in sample["units"]]
        assert [int(unit.split(":")[0][9:]) for unit in sample["units"]] == list(range(1, len(texts) + 1))
        assert len(set(texts)) == len(texts) and sample["units"] == samples[4 * sample["context"]]["units"]
        assert [index for index, text in enumerate(texts) if sample["answers"][0] + "." in text] == sample["gold"]
        assert sample["question"].count("What is the thing") == 1
    samples, _ = generate(tmp_path / "units.jsonl", chat_models["gemma"], "ruler_qa1", "--units", 12, "--n", 5, *files)
    for sample in samples:  # distractors of the same article first
        texts = [unit.partition("\n")[2] for unit in sample["units"]]
        assert len({article_of[text] for text in texts}) == 1 and len(texts) == 12
