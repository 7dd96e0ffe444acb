"""Generated samples against brute force, and what must not depend on sizes and chunks."""

import json
import math

import numpy as np
import pytest
import torch

from helpers import SMALL_TASKS
from samples import (distinct_bit_strings, first_occurrences, generator_for, load_samples, make_splits, open_samples,
                     unpack_bits)
from tasks import PAPER_TASKS, as_lists, bayes_risk, check_task_definition, load_task_definition, solvable_tasks

PAPER = load_task_definition(PAPER_TASKS)
SMALL = check_task_definition(SMALL_TASKS)


def make(train_size, valid_size=50, context_bits=100, tasks=PAPER, seed=114, **options):
    return list(make_splits(train_size, valid_size, context_bits, tasks, seed, **options))


def as_rows(contents):
    """The bits, unpacked by numpy: an independent reading of the format."""
    return np.unpackbits(contents["packed_bits"].numpy(), axis=1, count=contents["context_bits"])


def test_labels_are_the_xor_of_the_active_pair():
    for contents in make(3000):
        for i, row in enumerate(as_rows(contents)):
            a, b, _ = PAPER[contents["task"][i]]
            assert contents["task"][i] == i % 50
            if max(a, b) <= 100:
                assert contents["answer"][i] == row[a - 1] ^ row[b - 1]


def test_random_answers_are_fair_and_bits_too():
    contents = make(100_000)[0]
    random_tasks = ~torch.tensor(solvable_tasks(PAPER, 100))
    chosen = random_tasks[contents["task"].long()]
    assert chosen.sum() == 7 * 2000
    for values in (contents["answer"][chosen].numpy(), as_rows(contents)):
        assert abs(values.mean() - 0.5) < 5 * 0.5 / math.sqrt(values.size)


@pytest.mark.parametrize("context_bits", [10, 64, 65, 100, 130])
def test_all_bit_strings_are_distinct(context_bits):
    train, valid = make(700, 300, context_bits, SMALL)
    rows = np.concatenate([as_rows(train), as_rows(valid)])
    assert rows.shape == (1000, context_bits)
    assert len({row.tobytes() for row in rows}) == 1000


def test_every_string_can_be_asked_for():
    train, valid = make(200, 56, 8, SMALL)
    assert sorted(np.concatenate([train["packed_bits"], valid["packed_bits"]]).ravel()) == list(range(256))


@pytest.mark.parametrize("context_bits", [10, 100])
def test_smaller_training_sets_are_the_beginning_of_larger_ones(context_bits):
    small = make(300, 50, context_bits)[0]
    for other in (make(900, 50, context_bits)[0], make(900, 100, context_bits)[0], make(901, 7, context_bits)[0]):
        for name in ("packed_bits", "task", "answer"):
            assert torch.equal(small[name], other[name][:300])


@pytest.mark.parametrize("context_bits", [10, 100])
def test_chunk_size_changes_nothing(context_bits):
    for one, other in zip(make(700, 200, context_bits), make(700, 200, context_bits, chunk_size=13)):
        assert all(torch.equal(one[name], other[name]) for name in ("packed_bits", "task", "answer"))


def test_seeds_and_splits_differ():
    train, valid = make(500, 500)
    other = make(500, 500, seed=115)[0]
    assert not torch.equal(train["packed_bits"], valid["packed_bits"])
    assert not torch.equal(train["packed_bits"], other["packed_bits"])
    assert not torch.equal(train["answer"], valid["answer"])


def test_first_occurrences_against_a_set():
    words = np.random.default_rng(0).integers(0, 5, size=(400, 2)).astype("<u8")
    seen, expected = set(), []
    for row in map(tuple, words):
        expected.append(row not in seen)
        seen.add(row)
    assert first_occurrences(words).tolist() == expected


def test_strings_of_others_are_left_out():
    others = distinct_bit_strings(100, 8, generator_for(0, 0, "bits"), np.empty((0, 1), dtype="<u8"))
    found = distinct_bit_strings(156, 8, generator_for(0, 1, "bits"), others)
    assert not set(others.ravel()) & set(found.ravel())


def test_the_script_writes_files_that_load_with_weights_only(script, tmp_path):
    """The paper's tasks are found from any folder; the same request is kept, another one is made."""
    sizes = ("generate_data.py", "--train_size", 500, "--valid_size", 100)
    script(*sizes)
    contents = torch.load(tmp_path / "data" / "train.pt", weights_only=True)
    assert set(contents) == {"packed_bits", "task", "answer", "context_bits", "task_definition", "seed", "request"}
    assert contents["packed_bits"].shape == (500, 13) and contents["packed_bits"].dtype == torch.uint8
    assert (contents["context_bits"], contents["seed"]) == (100, 114)
    assert contents["task_definition"] == json.loads(PAPER_TASKS.read_text()) == as_lists(PAPER)
    assert all(torch.equal(contents[name], make(500, 100)[0][name]) for name in ("packed_bits", "task", "answer"))
    before = (tmp_path / "data" / "train.pt").stat().st_mtime_ns
    assert "there already" in script(*sizes).stdout
    assert (tmp_path / "data" / "train.pt").stat().st_mtime_ns == before
    script(*sizes, "--seed", 2**63 - 1)
    assert open_samples(tmp_path / "data" / "train.pt")["seed"] == 2**63 - 1


def test_loading_gives_the_first_samples_and_bits(small_data):
    contents = torch.load(small_data / "train.pt", weights_only=True)
    samples = load_samples(small_data / "train.pt", 50, 9, torch.device("cpu"))
    assert torch.equal(samples.bits, torch.from_numpy(as_rows(contents)[:50, :9]))
    assert torch.equal(unpack_bits(contents["packed_bits"], 10, chunk_size=7), torch.from_numpy(as_rows(contents)))
    bits, control, answers = samples.batch(torch.tensor([3, 8]))
    assert bits.dtype == control.dtype == answers.dtype == torch.float32
    assert control.argmax(dim=1).tolist() == [3, 2] and control.sum() == 2
    assert answers.tolist() == contents["answer"][[3, 8]].tolist()


@pytest.mark.parametrize("context_length", range(1, 11))
def test_bayes_risk_against_enumeration(context_length):
    """Enumerate all samples of 10 bits; the Bayes model answers with the frequencies among what looks the same."""
    total = 0.0
    strings = np.unpackbits(np.arange(1024, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, -10:]
    for a, b, _ in SMALL:
        counts = {}
        for row in strings:
            # a subtask with a bit beyond the sample answers 0 and 1 equally often, whatever the bits are
            answers = [row[a - 1] ^ row[b - 1]] * 2 if max(a, b) <= 10 else [0, 1]
            for answer in answers:
                counts.setdefault(tuple(row[:context_length]), [0, 0])[answer] += 1
        for zeros, ones in counts.values():
            n = zeros + ones
            total -= sum(count * math.log(count / n) for count in (zeros, ones) if count)
    expected = total / (2 * 1024 * len(SMALL))
    assert bayes_risk(SMALL, context_length) == pytest.approx(expected, abs=1e-12)


def test_the_paper_tasks():
    assert len(PAPER) == 50
    assert [sum(solvable_tasks(PAPER, length)) for length in (22, 27, 36, 50, 94, 100)] == [6, 16, 26, 34, 43, 43]
    assert json.dumps(as_lists(PAPER[:3] + PAPER[-1:])) == "[[21, 20], [21, 1], [21, 2], [522, 353]]"
