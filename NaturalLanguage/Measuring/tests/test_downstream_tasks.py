"""What samples of every task have in common: their length, positions, questions, number, and what is refused."""

import random
from collections import Counter

import pytest
from downstream_helpers import error_of, generate, succeed, whole_text
from scipy.stats import chisquare
from transformers import AutoTokenizer

from downstream.tasks import TASKS, fit


@pytest.mark.parametrize("task", TASKS)
def test_samples_fill_the_length(task, chat_models, files, tmp_path):
    length = 2048 if task in ("multi_document_qa", "helmet_rag", "helmet_rerank") else 4096
    samples, about = generate(tmp_path / "s.jsonl", chat_models["llama"], task, "--max_length", length, "--n", 3,
                              *files)
    tokenizer = AutoTokenizer.from_pretrained(chat_models["llama"])
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


@pytest.mark.parametrize("task", ["ruler_qa1", "kv_retrieval", "multi_document_qa", "helmet_recall"])
def test_gold_positions_are_uniform(task, chat_models, files, tmp_path):
    flags = ["--units", 10, "--n", 400] + ([] if task == "multi_document_qa" else ["--questions", 2])
    samples, _ = generate(tmp_path / "s.jsonl", chat_models["llama"], task, *flags, *files)
    counts = Counter(sample["gold"][0] for sample in samples)
    assert chisquare([counts[index] for index in range(10)]).pvalue > 0.001
    assert all(len(sample["gold"]) == 1 for sample in samples)


@pytest.mark.parametrize("task, flags, length", [
    ("kv_retrieval", ("--questions", 2), 2048), ("kv_retrieval", ("--gold_positions", 0, 4, 9), 2048),
    ("helmet_recall", ("--questions", 3, "--gold_positions", 5, 7, 1), 2048),
    ("ruler_qa1", ("--questions", 2, "--gold_positions", 3, 8), 2000),
    ("multi_document_qa", ("--gold_positions", 9), 1500),
    ("helmet_rag", ("--gold_positions", 2, 6), 1500), ("helmet_rerank", ("--gold_positions", 2, 6), 2500)])
def test_questions_and_positions_in_a_length(task, flags, length, chat_models, files, tmp_path):
    samples, about = generate(tmp_path / "s.jsonl", chat_models["qwen3"], task, "--max_length", length, "--n", 6,
                              *flags, *files)
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
def test_too_short_is_not_too_small(task, flags, message, chat_models, files, tmp_path):
    assert message in error_of("generate_tasks", "--tokenizer", chat_models["qwen3"], "--task", task, *flags, *files,
                               "--out", tmp_path / "s.jsonl")


def test_samples_do_not_depend_on_their_number(chat_models, files, tmp_path):
    flags = ["--max_length", 1200, *files]
    three, _ = generate(tmp_path / "a.jsonl", chat_models["qwen3"], "ruler_qa1", "--n", 3, *flags)
    five, _ = generate(tmp_path / "b.jsonl", chat_models["qwen3"], "ruler_qa1", "--n", 5, *flags)
    other, _ = generate(tmp_path / "c.jsonl", chat_models["qwen3"], "ruler_qa1", "--n", 3, "--seed", 43, *flags)
    assert five[:3] == three != other
    again = succeed("generate_tasks", "--task", "ruler_qa1", "--tokenizer", chat_models["qwen3"],
                    "--out", tmp_path / "a.jsonl", "--n", 3, *flags)
    assert "made before" in again


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
def test_bad_input(flags, message, chat_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error_of("generate_tasks", "--tokenizer", chat_models["qwen3"], *flags)
