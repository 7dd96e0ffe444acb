"""data/retrieval/prepare.py: its documents are counted again from their text, by rules written anew here."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from helpers import start_script
from preparing import prepare_retrieval as prepare


def documents(folder, task, split="train"):
    """The documents of a split as lists of words, decoded by the tokenizer beside them."""
    about = json.loads((folder / f"{task}_{split}.json").read_text())
    tokens = np.fromfile(folder / f"{task}_{split}.bin", about["dtype"])
    assert len(tokens) == about["tokens"] and tokens.max() < about["vocabulary_size"]
    tokenizer = Tokenizer.from_file(str(folder / about["tokenizer"]["file"]))
    text = tokenizer.decode(tokens.tolist(), skip_special_tokens=False)
    assert tokenizer.encode(text).ids == tokens.tolist()
    found = [part.split() for part in text.split("<|endoftext|>")]
    assert found.pop() == [] and len(found) == about["documents"]
    return found, about


def pairs_and_queries(words, n_queries):
    """A key-value document taken apart: {key: (place, value)} and the queries [(key, value)], from the text alone."""
    assert all(re.fullmatch("kv"[i % 2] + r"\d+", word) for i, word in enumerate(words))
    pairs = list(zip(words[::2], words[1::2]))
    n = len(pairs) - n_queries
    stored = {key: (place, value) for place, (key, value) in enumerate(pairs[:n])}
    assert len(stored) == n
    for first in range(n, len(pairs), n):  # none is asked for again before all have been
        asked = [key for key, _ in pairs[first:first + n]]
        assert len(set(asked)) == len(asked)
    return stored, pairs[n:]


def chi_square(counts, shares):
    """Pearson's statistic of counts against shares of their sum."""
    counts, shares = np.array(counts, float), np.array(shares, float)
    expected = counts.sum() * shares / shares.sum()
    return ((counts - expected) ** 2 / expected).sum()


@pytest.fixture(scope="module")
def key_value(tmp_path_factory):
    folder = tmp_path_factory.mktemp("key_value")
    prepare(folder, "--train_tokens", 150_000, "--val_tokens", 20_000, "--min_units", 4, "--max_units", 12,
            "--n_queries", 5)
    return folder


def test_key_value_documents_answer_every_query_from_a_pair(key_value):
    found, about = documents(key_value, "key_value")
    sizes, values, golds, answers = Counter(), Counter(), [], 0
    for words in found:
        stored, queries = pairs_and_queries(words, 5)
        assert all(stored[key][1] == value for key, value in queries)
        sizes[len(stored)] += 1
        values.update(value for _, value in stored.values())
        answers += len(queries)
        if len(stored) == 12:
            golds += [stored[key][0] for key, _ in queries]
    assert answers == about["answers"]
    assert set(sizes) == set(range(4, 13))
    shares = [math.log((n + 1) / n) / math.log(13 / 4) for n in range(4, 13)]  # of the tokens: log-uniform
    tokens = [sizes[n] * (2 * n + 11) / about["tokens"] for n in range(4, 13)]
    assert tokens == pytest.approx(shares, abs=0.005)
    assert len(values) == 16 and chi_square(list(values.values()), np.ones(16)) < 40  # 99.95% of chi-square(15)
    assert chi_square([golds.count(place) for place in range(12)], np.ones(12)) < 34  # of chi-square(11)


def test_the_growing_order_grows_and_the_mixed_one_does_not(key_value, tmp_path):
    prepare(tmp_path, "--train_tokens", 60_000, "--val_tokens", 2_000, "--max_units", 12, "--order", "growing",
            "--min_units", 4)
    sizes = [len(pairs_and_queries(words, 16)[0]) for words in documents(tmp_path, "key_value")[0]]
    assert sizes == sorted(sizes) and sizes[0] == 4 and sizes[-1] == 12
    assert sizes.count(8) * 49 / 60_000 == pytest.approx(math.log(9 / 8) / math.log(13 / 4), abs=0.005)
    mixed = [len(pairs_and_queries(words, 5)[0]) for words in documents(key_value, "key_value")[0]]
    assert all(set(mixed[first:first + 40]) == set(range(4, 13)) for first in range(0, len(mixed) - 40, 40))


def test_gold_units_at_the_ends_have_the_weights_asked_for(tmp_path):
    """The first query of a document is drawn by the weights; test documents are uniform whatever is asked."""
    prepare(tmp_path, "--gold", "ends", "--ends_power", 2, "--min_units", 8, "--max_units", 8, "--n_queries", 1,
            "--train_tokens", 80_000, "--val_tokens", 2_000)
    golds = Counter()
    for words in documents(tmp_path, "key_value")[0]:
        stored, queries = pairs_and_queries(words, 1)
        golds[stored[queries[0][0]][0]] += 1
    shares = [49, 25, 9, 1, 1, 9, 25, 49]  # (2 (i + 1/2) / 8 - 1)^2 = (2 i - 7)^2 / 64
    assert chi_square([golds[place] for place in range(8)], shares) < 28  # 99.98% of chi-square(7)
    prepare(tmp_path / "few", "--gold", "ends", "--max_units", 8, "--n_queries", 1, "--train_tokens", 2_000,
            "--val_tokens", 2_000, "--test_documents", 2_000)
    lines = map(json.loads, (tmp_path / "few" / "key_value_test.jsonl").read_text().splitlines())
    golds = Counter(answer[1] for line in lines for answer in line["answers"])
    assert chi_square([golds[place] for place in range(8)], np.ones(8)) < 28


def test_variables_are_tracked_through_their_chains(tmp_path):
    prepare(tmp_path, "--task", "variables", "--max_units", 20, "--min_units", 5, "--max_hops", 3, "--n_queries", 6,
            "--train_tokens", 60_000, "--val_tokens", 2_000)
    hops_asked = Counter()
    for words in documents(tmp_path, "variables")[0]:
        first_query = words.index("?")
        assigned = {}
        for key, sign, source in zip(*[iter(words[:first_query])] * 3):
            assert sign == "=" and key not in assigned and (source[0] == "v" or source in assigned)
            assigned[key] = source
        used = [source for source in assigned.values() if source[0] == "k"]
        assert len(set(used)) == len(used)  # a chain does not branch
        for mark, key, value in zip(*[iter(words[first_query:])] * 3):
            hops = 0
            while assigned[key][0] == "k":
                key, hops = assigned[key], hops + 1
            assert mark == "?" and assigned[key] == value and hops <= 3
            hops_asked[hops] += 1
    assert set(hops_asked) == {0, 1, 2, 3} and min(hops_asked.values()) > 0.1 * sum(hops_asked.values())


def test_labels_are_a_new_map_in_each_document(tmp_path):
    prepare(tmp_path, "--task", "labels", "--max_units", 5, "--min_units", 2, "--n_classes", 4, "--n_labels", 6,
            "--symbols_per_class", 3, "--train_tokens", 60_000, "--val_tokens", 2_000)
    maps = Counter()
    for words in documents(tmp_path, "labels")[0]:
        examples = [(int(symbol[1:]) // 3, label) for symbol, label in zip(words[::2], words[1::2])]
        for first in range(0, len(examples), 4):  # a round holds each class once
            assert sorted(group for group, _ in examples[first:first + 4]) == [0, 1, 2, 3]
        assert len(set(examples)) == 4 and len({label for _, label in examples}) == 4
        maps[tuple(label for _, label in sorted(set(examples)))] += 1
    counts = [*maps.values(), *[0] * (360 - len(maps))]  # there are 6 x 5 x 4 x 3 maps
    assert chi_square(counts, np.ones(360)) < 480  # 99.998% of chi-square(359)


def test_definitions_stand_before_a_gap(tmp_path):
    prepare(tmp_path, "--task", "gap", "--min_units", 1, "--max_units", 40, "--n_pairs", 4, "--n_queries", 8,
            "--train_tokens", 20_000, "--val_tokens", 2_000)
    gaps, sizes = set(), set()
    for words in documents(tmp_path, "gap")[0]:
        first, gap = words.index("."), words.count(".")
        assert set(words[first:first + gap]) == {"."}
        definitions = " ".join(words[:first]).replace("=", " ").split()
        stored, queries = pairs_and_queries(definitions + words[first + gap:], 8)
        assert all(stored[key][1] == value for key, value in queries) and len(stored) == first
        gaps.add(gap)
        sizes.add(first)
    assert {1, 40} <= gaps <= set(range(1, 41)) and sizes == {2, 3, 4}
    for line in map(json.loads, (tmp_path / "gap_test.jsonl").read_text().splitlines()):
        assert sorted(gold for _, gold, _, _ in line["answers"]) == [0, 1, 2, 3] and len(line["ids"]) == 12 + 40


def test_symbols_may_be_the_tokens_of_a_corpus(key_value, tmp_path):
    """Documents of another task in the 98 tokens of the key-value one, highest first, with its end of text."""
    prepare(tmp_path, "--task", "gap", "--n_keys", 8, "--n_values", 4, "--train_tokens", 2_000, "--val_tokens", 500,
            "--corpus", key_value / "key_value_train.bin")
    about, corpus = (json.loads(path.read_text()) for path in
                     (tmp_path / "gap_train.json", key_value / "key_value_train.json"))
    size = corpus["vocabulary_size"]
    assert about["vocabulary_size"] == size and about["tokenizer"]["sha256"] == corpus["tokenizer"]["sha256"]
    tokens = np.fromfile(tmp_path / "gap_train.bin", np.uint16)
    assert tokens[-1] == 0 and set(tokens) <= {0, *range(size - 46, size)}
    refused = prepare(tmp_path / "more", "--n_keys", 200, "--corpus", key_value / "key_value_train.bin", code=2)
    assert "do not fit" in refused.stderr and refused.stderr.count("\n") == 1
    refused = prepare(tmp_path / "more", "--corpus", tmp_path / "none.bin", code=2)
    assert "cannot read" in refused.stderr and refused.stderr.count("\n") == 1


def test_a_corpus_made_anew_is_another_one(tmp_path):
    small = ["--train_tokens", 500, "--val_tokens", 500]
    flags = ["--task", "gap", "--n_keys", 4, "--n_values", 2, "--n_pairs", 2, *small, "--corpus",
             tmp_path / "corpus" / "key_value_train.bin"]
    prepare(tmp_path / "corpus", *small)
    prepare(tmp_path / "gap", *flags)
    assert "prepared before" in prepare(tmp_path / "gap", *flags).stdout
    prepare(tmp_path / "corpus", *small, "--n_keys", 90, "--overwrite")
    refused = prepare(tmp_path / "gap", *flags, code=2)
    assert "corpus sha256" in refused.stderr and refused.stderr.count("\n") == 1
    (tmp_path / "corpus" / "key_value_tokenizer.json").write_text("{}")
    refused = prepare(tmp_path / "gap", *flags, "--overwrite", code=2)
    assert "is not the tokenizer of" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["train.bin", "val.json", "tokenizer.json", "test.jsonl", "test.json"])
def test_what_is_missing_or_cut_short_is_made_again(tmp_path, name):
    small = ["--train_tokens", 500, "--val_tokens", 500]
    prepare(tmp_path, *small)
    path = tmp_path / f"key_value_{name}"
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[:-9]), path.unlink):
        damage()
        assert "prepared before" not in prepare(tmp_path, *small).stdout
        assert path.read_bytes() == whole
    assert "prepared before" in prepare(tmp_path, *small).stdout


@pytest.mark.parametrize("task", ["key_value", "variables", "labels", "gap"])
def test_the_answers_of_test_documents_are_where_they_say(tmp_path, task):
    prepare(tmp_path, "--task", task, "--max_units", 9, "--test_units", 3, 9, "--train_tokens", 2_000,
            "--val_tokens", 2_000)
    tokenizer = Tokenizer.from_file(str(tmp_path / f"{task}_tokenizer.json"))
    lines = [json.loads(line) for line in (tmp_path / f"{task}_test.jsonl").read_text().splitlines()]
    assert Counter(line["units"] for line in lines) == {3: 20, 9: 20}
    for line in lines:
        words = tokenizer.decode(line["ids"]).split()
        assert [number for _, _, number, _ in line["answers"]] == list(range(len(line["answers"])))
        for at, gold, number, hops in line["answers"]:
            if task == "gap":
                assert "=".join(words[at - 1:at + 1]) == words[gold] and at > 4 + line["units"]
            elif task == "key_value":
                assert words[at - 1:at + 1] == words[2 * gold:2 * gold + 2] and at > 2 * line["units"]
            elif task == "variables":
                assert words[at - 2:at] == ["?", words[3 * gold]]
                assert (words[3 * gold + 2][0] == "v") == (hops == 0)
            elif gold >= 0:
                assert words[2 * gold + 1] == words[at] and words[at - 1][0] == "x" and gold < number
            else:
                assert number < 8 and words[at] not in words[:at]


def test_the_same_seed_gives_the_same_files_and_other_flags_are_refused(key_value, tmp_path):
    flags = ["--train_tokens", 150_000, "--val_tokens", 20_000, "--min_units", 4, "--max_units", 12,
             "--n_queries", 5]
    assert "prepared before" in prepare(key_value, *flags).stdout
    prepare(tmp_path, *flags)
    for path in key_value.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    train, valid = (documents(tmp_path, "key_value", split)[0] for split in ("train", "val"))
    assert not {tuple(words) for words in train} & {tuple(words) for words in valid}
    refused = prepare(key_value, *flags, "--seed", 1, code=2)
    assert refused.stderr.count("\n") == 1 and "--overwrite" in refused.stderr


@pytest.mark.parametrize("flags, said", [
    (["--n_keys", 15], "cannot give 16 different keys"),
    (["--min_units", 40], "more than --max_units"),
    (["--task", "labels", "--gold", "ends"], "key_value and variables"),
    (["--task", "labels", "--n_labels", 4], "different labels"),
    (["--n_values", 70_000], "65,536"),
    (["--seed", 2**63], "2^63"),
    (["--n_queries", 0], "at least 1"),
])
def test_wrong_flags_are_one_line(tmp_path, flags, said):
    refused = prepare(tmp_path, *flags, code=2)
    assert said in refused.stderr and refused.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_as_a_user_starts_it(tmp_path):
    flags = ["--train_tokens", "3000", "--val_tokens", "2000", "--out_dir", "out"]
    process = start_script("data/retrieval/prepare.py", *flags, cwd=tmp_path)
    assert process.communicate()[1] == "" and process.returncode == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".bin", ".json", ".jsonl"}
