"""Pairs, retrieved documents and needles against their benchmarks' rules, and the tasks of symbols."""

import json
import re
import uuid

import pytest
from downstream_helpers import error_of, generate, read_lines, whole_text, write_nq
from transformers import AutoTokenizer

from downstream.prompts import Encoder


def test_pairs(chat_models, tmp_path):
    positions = [0, 34, 69, 104, 139]
    samples, about = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "kv_retrieval", "--units", 140, "--n", 7,
                              "--gold_positions", *positions)
    assert about["comparable"]
    for number, sample in enumerate(samples):
        body = sample["opening"].rpartition("\n")[2] + sample["separator"].join(sample["units"])
        pairs = json.loads(body + sample["question"][0])
        assert len(pairs) == 140 and all(uuid.UUID(text).version == 4 for pair in pairs.items() for text in pair)
        key, = re.findall(r'Key: "(.*)"', sample["question"])
        assert sample["answers"] == [pairs[key]] and sample["target"] == f' "{pairs[key]}"'
        assert sample["gold"] == [positions[number % 5]] and list(pairs)[sample["gold"][0]] == key


def test_the_key_stands_before_the_json(chat_models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(chat_models["qwen3"])
    for task, opening in (("kv_retrieval", "JSON data:\n{"), ("helmet_recall", "{")):
        (sample,), _ = generate(tmp_path / f"{task}.jsonl", chat_models["qwen3"], task, "--units", 5, "--n", 1)
        text, start, _ = Encoder(tokenizer, "qwen3", "off", query_first=True).text(sample)
        assert sample["query"].endswith("\n\n") and text[start:].startswith(sample["units"][0])
        assert text[:start] == sample["instruction"] + sample["query"] + opening
        without, _, _ = Encoder(tokenizer, "qwen3", "off").text(sample)
        assert without == whole_text(sample) == text.replace(sample["query"], "", 1)


def test_retrieved_documents(chat_models, files, tmp_path):
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "multi_document_qa", "--units", 20, "--n", 5,
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


def test_the_flag_says_which_passages_have_an_answer(chat_models, tmp_path):
    def passage(title, text, **flags):
        return {"title": title, "text": text, **flags}

    (tmp_path / "nq.jsonl").write_text(json.dumps({"question": "who", "answers": ["Foo"], "ctxs": [
        passage("gold", "It is Foo.", isgold=True, hasanswer=True), passage("true", "It is F. Oo.", hasanswer=True),
        passage("false", "A fool.", hasanswer=False), passage("absent", "No food."), passage("other", "Nothing.")]}))
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "multi_document_qa", "--units", 3, "--n", 1,
                          "--nq", tmp_path / "nq.jsonl")
    assert {re.search(r"Title: (\w+)", unit)[1] for unit in samples[0]["units"]} == {"gold", "false", "other"}


@pytest.mark.parametrize("task", ["multi_document_qa", "helmet_rag", "helmet_rerank"])
def test_special_tokens_in_retrieved_passages(task, chat_models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(chat_models["llama"])
    write_nq(tmp_path / "nq.jsonl")
    lines = read_lines(tmp_path / "nq.jsonl")
    for number, line in enumerate(lines):
        for part, entry in zip(("title", "text"), line["ctxs"]):
            entry[part] += tokenizer.bos_token
        line["ctxs"][5]["title"] += tokenizer.bos_token * (number % 2)  # the gold one
    (tmp_path / "nq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["llama"], task, "--units", 8, "--n", 6,
                          "--nq", tmp_path / "nq.jsonl")
    assert all(tokenizer.bos_token not in whole_text(sample) and len(sample["units"]) == 8 for sample in samples)


def test_needles(chat_models, files, tmp_path):
    samples, about = generate(tmp_path / "s.jsonl", chat_models["qwen3"], "two_needles", "--max_length", 2000, "--n", 6,
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
