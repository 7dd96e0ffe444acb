"""Generators of downstream/ against their benchmarks' rules, by independent counting."""

import gzip
import json
import math
import random
import re
import uuid
from collections import Counter

import pytest
from downstream_helpers import (
    WORDS, error_of, generate, make_models, read_lines, succeed, symbol_model, write_nq, write_sources,
    write_squad,
)
from scipy.stats import chisquare
from transformers import AutoTokenizer

from downstream import sources
from downstream.prompts import Encoder
from downstream.scoring import chance
from downstream.tasks import TASKS, fit


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("files"))


def whole_text(sample):
    return (sample["instruction"] + sample["opening"] + sample["separator"].join(sample["units"]) + sample["question"]
            + sample["prefix"])


@pytest.mark.parametrize("task", TASKS)
def test_samples_fill_the_length(task, models, files, tmp_path):
    length = 2048 if task in ("multi_document_qa", "helmet_rag", "helmet_rerank") else 4096
    samples, about = generate(tmp_path / "s.jsonl", models["llama"], task, "--max_length", length, "--n", 3, *files)
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    budget = length - about["new_tokens"]
    assert about["comparable"] and len(samples) == 3 and about["new_tokens"] == TASKS[task].new_tokens
    for sample in samples:
        if task.startswith("helmet"):
            ids = tokenizer(whole_text(sample))["input_ids"]
        else:
            user = whole_text(sample).removesuffix(sample["prefix"])
            turn = tokenizer.apply_chat_template([{"role": "user", "content": user}], tokenize=False,
                                                 add_generation_prompt=True)
            ids = tokenizer(turn + sample["prefix"].lstrip(), add_special_tokens=False)["input_ids"]
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        assert sample["prompt_tokens"] == len(ids) <= budget
        unit = min(len(tokenizer(unit)["input_ids"]) for unit in sample["units"]) + 10
        assert len(ids) >= budget - max(0.01 * budget, unit)  # a length cannot be filled better than by whole units


@pytest.mark.parametrize("length, demonstration, counts", [(1500, (20, 3, 1), (6, 1)), (4500, (40, 10, 3), (30, 3))])
def test_common_words(length, demonstration, counts, models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "ruler_cwe", "--max_length", length, "--n", 2, *files)
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


def test_frequent_words(models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "ruler_fwe", "--max_length", 6000, "--n", 2)
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


def test_variable_tracking(models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "ruler_vt", "--max_length", 4500, "--n", 4)
    tokenizer = AutoTokenizer.from_pretrained(models["qwen3"])
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


def test_questions_of_documents(models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["gemma"], "ruler_qa1", "--max_length", 2500, "--n", 8,
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
    one, _ = generate(tmp_path / "one.jsonl", models["gemma"], "ruler_qa1", "--units", 12, "--n", 5, *files)
    for sample in one:  # distractors of the same article first
        texts = [unit.partition("\n")[2] for unit in sample["units"]]
        assert len({article_of[text] for text in texts}) == 1 and len(texts) == 12


@pytest.mark.parametrize("task", ["ruler_qa1", "kv_retrieval", "multi_document_qa", "helmet_recall"])
def test_gold_positions_are_uniform(task, models, files, tmp_path):
    flags = ["--units", 10, "--n", 400] + ([] if task == "multi_document_qa" else ["--questions", 2])
    samples, _ = generate(tmp_path / "s.jsonl", models["llama"], task, *flags, *files)
    counts = Counter(sample["gold"][0] for sample in samples)
    assert chisquare([counts[index] for index in range(10)]).pvalue > 0.001
    assert all(len(sample["gold"]) == 1 for sample in samples)


def test_pairs(models, tmp_path):
    positions = [0, 34, 69, 104, 139]
    samples, about = generate(tmp_path / "s.jsonl", models["qwen3"], "kv_retrieval", "--units", 140, "--n", 7,
                              "--gold_positions", *positions)
    assert about["comparable"]
    for number, sample in enumerate(samples):
        body = sample["opening"].rpartition("\n")[2] + sample["separator"].join(sample["units"])
        pairs = json.loads(body + sample["question"][0])
        assert len(pairs) == 140 and all(uuid.UUID(text).version == 4 for pair in pairs.items() for text in pair)
        key, = re.findall(r'Key: "(.*)"', sample["question"])
        assert sample["answers"] == [pairs[key]] and sample["target"] == f' "{pairs[key]}"'
        assert sample["gold"] == [positions[number % 5]] and list(pairs)[sample["gold"][0]] == key


def test_the_key_stands_before_the_json(models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(models["qwen3"])
    for task, opening in (("kv_retrieval", "JSON data:\n{"), ("helmet_recall", "{")):
        (sample,), _ = generate(tmp_path / f"{task}.jsonl", models["qwen3"], task, "--units", 5, "--n", 1)
        text, start, _ = Encoder(tokenizer, "qwen3", "off", query_first=True).text(sample)
        assert sample["query"].endswith("\n\n") and text[start:].startswith(sample["units"][0])
        assert text[:start] == sample["instruction"] + sample["query"] + opening
        without, _, _ = Encoder(tokenizer, "qwen3", "off").text(sample)
        assert without == whole_text(sample) == text.replace(sample["query"], "", 1)


def test_retrieved_documents(models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "multi_document_qa", "--units", 20, "--n", 5,
                          "--gold_positions", 0, 4, 9, 14, 19, *files)
    questions = {line["question"]: line for line in read_lines(files[3])}
    for sample, position in zip(samples, (0, 4, 9, 14, 19)):
        found = [re.fullmatch(r"Document \[(\d+)\]\(Title: (.*?)\) (.*)", unit).groups() for unit in sample["units"]]
        assert [int(number) for number, *_ in found] == list(range(1, 21)) and sample["gold"] == [position]
        line = questions[re.search("Question: (.*)", sample["question"]).group(1)]
        others = [entry["title"] for entry in line["ctxs"] if not entry["hasanswer"]][:19]
        titles = [title for _, title, _ in found]
        assert titles.pop(position).startswith("Gold") and titles == others  # the best retrieved, in their order
        assert [index for index, (*_, text) in enumerate(found)
                if line["answers"][0].lower() in text.lower()] == [position]


def test_needles(models, files, tmp_path):
    samples, about = generate(tmp_path / "s.jsonl", models["qwen3"], "two_needles", "--max_length", 2000, "--n", 6,
                              "--values", 50, "--needle_depths", 0.25, 0.75, *files)
    assert about["values"] == 50 and [sample["needle"] for sample in samples] == list("ABABAB")
    for first, second in zip(samples[::2], samples[1::2]):
        assert first["units"] == second["units"] and first["answers"] != second["answers"]
        for sample, depth in ((first, 0.25), (second, 0.75)):
            city, = re.findall("number of ([A-Z][a-z]+) is", sample["prefix"])
            unit = sample["units"][sample["gold"][0]]
            assert unit == f"The secret number of {city} is {sample['answers'][0]}."
            assert [city in other for other in sample["units"]].count(True) == 1
            assert sample["gold"][0] / len(sample["units"]) == pytest.approx(depth, abs=0.02)
            assert 10_000 <= int(sample["answers"][0]) < 10_050 and sample["target"] == f" {sample['answers'][0]}"


def test_json_recall_and_rag(models, files, tmp_path):
    samples, _ = generate(tmp_path / "a.jsonl", models["qwen3"], "helmet_recall", "--units", 30, "--n", 2)
    for sample in samples:
        pairs = json.loads(sample["opening"] + sample["separator"].join(sample["units"]) + sample["question"][0])
        keys = re.findall("Key: (.*)", sample["question"])
        values = re.findall("value: *(.+)", sample["question"])
        assert len(pairs) == 30 and len(set(keys)) == 3
        assert [pairs[key] for key in keys] == [*values, *sample["answers"]]
    samples, _ = generate(tmp_path / "b.jsonl", models["qwen3"], "helmet_rag", "--units", 12, "--n", 3, *files)
    for sample in samples:
        assert len(re.findall("Question: ", sample["instruction"])) == 2 and len(sample["units"]) == 12
        holding = [index for index, unit in enumerate(sample["units"]) if sample["answers"][0].lower() in unit.lower()]
        assert holding == sample["gold"]


def test_the_flag_says_which_passages_have_an_answer(models, tmp_path):
    def passage(title, text, **flags):
        return {"title": title, "text": text, **flags}

    (tmp_path / "nq.jsonl").write_text(json.dumps({"question": "who", "answers": ["Foo"], "ctxs": [
        passage("gold", "It is Foo.", isgold=True, hasanswer=True), passage("true", "It is F. Oo.", hasanswer=True),
        passage("false", "A fool.", hasanswer=False), passage("absent", "No food."), passage("other", "Nothing.")]}))
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "multi_document_qa", "--units", 3, "--n", 1,
                          "--nq", tmp_path / "nq.jsonl")
    assert {re.search(r"Title: (\w+)", unit)[1] for unit in samples[0]["units"]} == {"gold", "false", "other"}


@pytest.mark.parametrize("task", ["multi_document_qa", "helmet_rag", "helmet_rerank"])
def test_special_tokens_in_retrieved_passages(task, models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    write_nq(tmp_path / "nq.jsonl")
    lines = read_lines(tmp_path / "nq.jsonl")
    for number, line in enumerate(lines):
        for part, entry in zip(("title", "text"), line["ctxs"]):
            entry[part] += tokenizer.bos_token
        line["ctxs"][5]["title"] += tokenizer.bos_token * (number % 2)  # the gold one
    (tmp_path / "nq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples, _ = generate(tmp_path / "s.jsonl", models["llama"], task, "--units", 8, "--n", 6,
                          "--nq", tmp_path / "nq.jsonl")
    assert all(tokenizer.bos_token not in whole_text(sample) and len(sample["units"]) == 8 for sample in samples)


def test_demonstrated_pairs_are_uniform(models, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "helmet_recall", "--units", 10, "--n", 300,
                          "--questions", 2)
    counts = Counter()
    for sample in samples[::2]:
        keys = [re.match('"(.*?)"', unit)[1] for unit in sample["units"]]
        shown = [keys.index(key) for key in re.findall("Key: (.*)", sample["question"])[:2]]
        assert not {*shown} & {*sample["gold"], *samples[sample["index"] + 1]["gold"]}
        counts.update(shown)
    assert chisquare([counts[index] for index in range(10)]).pvalue > 0.001


def test_reranking(models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "helmet_rerank", "--units", 10, "--n", 3, *files)
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
def test_demonstrations_of_passages(task, flags, passages, shown, models, tmp_path):
    """As many as HELMET's files have from its shortest length on, or all where there are fewer."""
    nq = write_nq(tmp_path / "nq.jsonl", passages=passages)
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], task, "--units", 6, "--n", 4, "--nq", nq, *flags)
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


def test_chance_of_built_in_reranking_is_low(models, tmp_path):
    """The gold passage and two of its module are relevant, of many."""
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "helmet_rerank", "--max_length", 8192, "--n", 4)
    for sample in samples:
        gains = sorted(sample["relevance"].values(), reverse=True)
        assert gains[0] == 2 and gains[1:3] in ([1, 1], [1, 0], [0, 0]) and not any(gains[3:])
        assert chance(sample) < 0.25  # of a tokenizer so small that some 35 passages fit
        name = re.search(r" of (\S+) do\?", sample["question"])[1]
        for unit in sample["units"]:
            number, module = re.match(r"\[ID: (\d+)\] Document \(Title: (.*)\.\w+\): ", unit).groups()
            assert bool(sample["relevance"][number]) == (module == name)
    assert max(map(chance, samples)) < 1.5 * min(map(chance, samples))


def test_in_context_learning(models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", models["qwen3"], "helmet_icl", "--units", 25, "--n", 6, *files)
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


@pytest.mark.parametrize("task, flags, length", [
    ("kv_retrieval", ("--questions", 2), 2048), ("kv_retrieval", ("--gold_positions", 0, 4, 9), 2048),
    ("helmet_recall", ("--questions", 3, "--gold_positions", 5, 7, 1), 2048),
    ("ruler_qa1", ("--questions", 2, "--gold_positions", 3, 8), 2000),
    ("multi_document_qa", ("--gold_positions", 9), 1500),
    ("helmet_rag", ("--gold_positions", 2, 6), 1500), ("helmet_rerank", ("--gold_positions", 2, 6), 2500)])
def test_questions_and_positions_in_a_length(task, flags, length, models, files, tmp_path):
    samples, about = generate(tmp_path / "s.jsonl", models["qwen3"], task, "--max_length", length, "--n", 6, *flags,
                              *files)
    positions = flags[flags.index("--gold_positions") + 1:] if "--gold_positions" in flags else None
    budget = length - about["new_tokens"]
    for number, sample in enumerate(samples):
        assert 0.85 * budget < sample["prompt_tokens"] <= budget
        assert not positions or sample["gold"] == [positions[number % len(positions)]]


@pytest.mark.parametrize("task, flags, message", [
    ("kv_retrieval", ("--max_length", 1000, "--gold_positions", 99), "too short for kv_retrieval: its shortest"),
    ("ruler_qa1", ("--max_length", 300, "--gold_positions", 40), "too short for ruler_qa1: its shortest"),
    ("ruler_qa1", ("--max_length", 9000, "--gold_positions", 500), "too small for 1 question about one context with"),
    ("helmet_recall", ("--units", 3, "--questions", 2), "needs 4 units for 2 questions about one context, not 3")])
def test_too_short_is_not_too_small(task, flags, message, models, files, tmp_path):
    assert message in error_of("generate_tasks", "--tokenizer", models["qwen3"], "--task", task, *flags, *files,
                               "--out", tmp_path / "s.jsonl")


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    return symbol_model(tmp_path_factory.mktemp("symbols"))


def test_pairs_of_symbols(symbols, tmp_path):
    flags = ("--style", "symbols", "--n", 6)
    samples, about = generate(tmp_path / "s.jsonl", symbols, "kv_retrieval", *flags, "--units", 16, "--questions", 2)
    assert about["values"] == 8 and about["comparable"] is False
    for sample in samples:
        pairs, asked = dict(unit.split() for unit in sample["units"]), sample["question"].strip()
        assert len(pairs) == 16 and sample["answers"] == [pairs[asked]] and sample["prompt_tokens"] == 33
        assert whole_text(sample).split() == [word for pair in pairs.items() for word in pair] + [asked]
    samples, _ = generate(tmp_path / "n.jsonl", symbols, "two_needles", *flags, "--max_length", 49)
    assert [sample["needle"] for sample in samples] == list("ABABAB") and samples[0]["gold"] < samples[1]["gold"]
    samples, _ = generate(tmp_path / "near.jsonl", symbols, "two_needles", *flags, "--max_length", 49,
                          "--needle_depths", 0.5, 0.6)
    size = len(samples[0]["units"])
    assert [sample["gold"] for sample in samples[:2]] == [[int(0.5 * size)], [int(0.6 * size)]]
    assert "has 0 keys" in error_of("generate_tasks", "--task", "kv_retrieval", *flags, "--units", 4,
                                    "--tokenizer", symbols, "--keys", "x.*")


def test_variables_and_labels_of_symbols(symbols, tmp_path):
    flags = ("--style", "symbols", "--n", 8, "--units", 20)
    samples, _ = generate(tmp_path / "v.jsonl", symbols, "ruler_vt", *flags)
    hops = []
    for sample in samples:
        sources = dict(unit.split(" = ") for unit in sample["units"])
        mark, key = sample["question"].split()
        chain = [key]
        while sources[chain[-1]].startswith("k"):
            chain.append(sources[chain[-1]])
        assert mark == "?" and sample["answers"] == [sources[chain[-1]]] and len(chain) <= 5
        assert [sample["units"][index].split()[0] for index in sample["gold"]] == chain[::-1]
        hops.append(len(chain) - 1)
    assert max(hops) > 1
    samples, _ = generate(tmp_path / "l.jsonl", symbols, "helmet_icl", *flags, "--symbols_per_class", 8)
    for sample in samples:
        shown = [unit.split() for unit in sample["units"]]
        label = {int(key[1:]) // 8: name for key, name in shown}
        assert len(label) == len(set(label.values())) == 5 and len(shown) == 20
        assert all(label[int(key[1:]) // 8] == name for key, name in shown)
        assert sample["answers"] == [label[int(sample["question"].strip()[1:]) // 8]]
        assert [index for index, (_, name) in enumerate(shown) if name == sample["answers"][0]] == sample["gold"]


def test_built_in_sources(models, tmp_path):
    """Questions about docstrings: one passage of a context has the answer, the same at each start."""
    for task in ("ruler_qa1", "multi_document_qa"):
        samples, about = generate(tmp_path / f"{task}.jsonl", models["llama"], task, "--max_length", 1500, "--n", 3)
        assert about["comparable"] is False and set(about["source"]["docstrings"]) >= {"numpy", "scipy"}
        for sample in samples:
            holding = [index for index, unit in enumerate(sample["units"]) if sample["answers"][0] in unit]
            assert holding == sample["gold"]
            name, module = re.search(r"What does (\S+) of (\S+) do", sample["question"]).groups()
            assert f"{name} of {module}: {sample['answers'][0]}" in sample["units"][sample["gold"][0]]
    line = error_of("generate_tasks", "--task", "ruler_cwe", "--max_length", 1500, "--tokenizer", models["llama"],
                    "--no-built_in", "--out", tmp_path / "none.jsonl")
    assert "--words FILE" in line


@pytest.mark.parametrize("task, flag, comparable", [
    ("multi_document_qa", "--squad", False), ("helmet_rag", "--squad", False), ("helmet_rerank", "--squad", False),
    ("multi_document_qa", "--nq", True), ("ruler_qa1", "--squad", True)])
def test_comparable_by_task_and_source(task, flag, comparable, models, files, tmp_path):
    _, about = generate(tmp_path / "s.jsonl", models["qwen3"], task, "--units", 6, "--n", 1, "--no-built_in",
                        flag, files[files.index(flag) + 1])
    assert about["comparable"] is comparable


def test_samples_do_not_depend_on_their_number(models, files, tmp_path):
    flags = ["--max_length", 1200, *files]
    three, _ = generate(tmp_path / "a.jsonl", models["qwen3"], "ruler_qa1", "--n", 3, *flags)
    five, _ = generate(tmp_path / "b.jsonl", models["qwen3"], "ruler_qa1", "--n", 5, *flags)
    other, _ = generate(tmp_path / "c.jsonl", models["qwen3"], "ruler_qa1", "--n", 3, "--seed", 43, *flags)
    assert five[:3] == three != other
    again = succeed("generate_tasks", "--task", "ruler_qa1", "--tokenizer", models["qwen3"],
                    "--out", tmp_path / "a.jsonl", "--n", 3, *flags)
    assert "made before" in again


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


def test_the_search_for_a_size_ends():
    generator = random.Random(3)
    for _ in range(300):
        slope, base, noise, limit = (generator.choice((0.3, 1, 7, 45)), generator.randint(0, 200),
                                     generator.randint(0, 30), generator.choice((None, 50, 1000)))
        calls = []

        def length_of(size, slope=slope, base=base, noise=noise, limit=limit, calls=calls):
            calls.append(size)
            return None if limit and size > limit else base + int(slope * size) + (size * 7919) % (noise + 1)

        budget, least = generator.randint(1, 5000), generator.choice((0, 4))
        size, length = fit(length_of, least, generator.randint(1, 2000), budget)
        assert len(calls) < 60
        if size is None:
            assert length > budget
        else:
            assert length == base + int(slope * size) + (size * 7919) % (noise + 1) <= budget


@pytest.mark.parametrize("flags, message", [
    (("--task", "kv_retrieval", "--max_length", 130), "too short for kv_retrieval"),
    (("--task", "kv_retrieval", "--max_length", 90), "leaves nothing beside the 100 tokens"),
    (("--task", "kv_retrieval"), "give --max_length, or --units"),
    (("--task", "ruler_cwe", "--max_length", 2000, "--questions", 2), "one question a context"),
    (("--task", "ruler_vt", "--max_length", 2000, "--gold_positions", 1), "no single gold unit"),
    (("--task", "ruler_cwe", "--max_length", 2000, "--style", "symbols"), "has no style symbols"),
    (("--task", "kv_retrieval", "--units", 5, "--gold_positions", 5), "not 5 units"),
    (("--task", "kv_retrieval", "--units", 50, "--max_length", 1000), "lower --units"),
    (("--task", "ruler_qa1", "--max_length", 1000, "--squad", "absent.json"), "cannot read absent.json"),
    (("--task", "kv_retrieval", "--max_length", 1000, "--seed", -1), "is not an integer from 0 to"),
])
def test_bad_input(flags, message, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error_of("generate_tasks", "--tokenizer", models["qwen3"], *flags)


def test_labelled_texts_of_a_spreadsheet(tmp_path):
    for name, pack in (("a.csv", bytes), ("a.csv.gz", gzip.compress)):
        for separator, first in ((",", ""), (";", ""), ("\t", "sep=\t\r\n")):
            rows = separator.join(("label", "id", "text")) + f"\r\n7{separator}1{separator}\"one, two; three\"\r\n"
            (tmp_path / name).write_bytes(pack((first + rows).encode("utf-8-sig")))
            assert sources.labelled(tmp_path / name).items == (("one, two; three", "7"),)


def test_bad_sources(models, symbols, tmp_path):
    def error(task, flag, name, contents, *flags):
        (tmp_path / name).write_text(contents)
        return error_of("generate_tasks", "--task", task, "--tokenizer", models["qwen3"], "--max_length", 3000,
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
        assert "n.txt is not text: character" in error(task, flag, "n.txt", contents)
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
