"""Windows: every token once an epoch, batches of (seed, step) alone, the same targets at every context length."""

import numpy as np
import pytest

from prepared import distinct_tokens, take
from token_files import TokenFile, TrainingWindows, cut, full_context_starts, validation_starts


def test_an_epoch_shows_every_token_once_as_a_target():
    tokens = np.arange(1000)
    for length in (1, 8, 125, 999):
        windows = TrainingWindows(tokens, length, seed=5)
        assert windows.per_epoch == 1000 // length
        firsts = []
        for epoch in range(2):
            inputs, targets = windows.batch(range(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch))
            assert ((targets - inputs) % 1000 == 1).all() and (targets[:, :-1] == inputs[:, 1:]).all()
            counts = np.bincount(targets.flatten(), minlength=1000)
            assert counts.max() == 1 and counts.sum() == 1000 // length * length
            firsts.append(targets[:, 0].tolist())
        assert firsts[0] != firsts[1]


def test_windows_depend_on_their_index_and_the_seed_alone():
    tokens = np.arange(500)
    straight = TrainingWindows(tokens, 16, seed=1).starts(range(100))
    jumping = TrainingWindows(tokens, 16, seed=1)
    assert all(jumping.starts(range(index, index + 1))[0] == straight[index] for index in (99, 3, 40, 41, 0))
    assert (TrainingWindows(tokens, 16, seed=2).starts(range(100)) != straight).any()


def test_validation_scores_the_same_tokens_at_every_context_length():
    tokens = np.arange(1001)
    for length in (1, 4, 20, 100):
        targets = cut(tokens, validation_starts(tokens, 900, length), length)[1]
        assert targets.flatten().tolist() == list(range(1, 901))


def test_the_full_context_targets_are_the_same_at_every_context_length():
    tokens = np.arange(1001)
    last = {length: cut(tokens, full_context_starts(tokens, 37, length), length) for length in (1, 16, 500)}
    for length, (inputs, targets) in last.items():
        assert targets[:, -1].tolist() == last[1][1][:, -1].tolist()
        assert inputs.shape == (37, length) and (inputs[:, 0] == targets[:, -1] - length).all()
    assert len(set(last[1][1][:, -1].tolist())) == 37


def test_targets_in_packed_tokens_lie_anywhere_in_their_windows():
    """Also where there are as many of them as windows; the same ones at every context length."""
    tokens = np.arange(64 * 200)
    targets = {length: full_context_starts(tokens, 100, length, packed=64) + length for length in (8, 64)}
    assert (targets[8] == targets[64]).all() and (np.diff(targets[8]) > 0).all() and targets[8].min() >= 64 * 100
    assert np.bincount(targets[8] % 64, minlength=64).max() < 10


def test_the_first_tokens_are_those_of_the_whole(small_bins):
    whole, part = TokenFile(small_bins), TokenFile(small_bins, 500)
    assert len(part.tokens) == 500 < len(whole.tokens) == whole.about["tokens"]
    assert (part.tokens == whole.tokens[:500]).all()


def test_a_seed_chooses_which_tokens(small_bins):
    """A part of the ring that the whole corpus is: reproducible, nested, another one for another seed."""
    whole = TokenFile(small_bins).tokens
    ring = np.concatenate((whole, whole))
    offsets = set()
    for seed in range(20):
        part, larger = (TokenFile(small_bins, n, seed).tokens for n in (500, 40_000))
        offset, = (i for i in np.flatnonzero(whole == part[0]) if (ring[i:i + 500] == part).all())
        assert (larger == ring[offset:offset + 40_000]).all()
        offsets.add(offset)
    assert len(offsets) == 20 and max(offsets) + 40_000 > len(whole)  # one of them wraps
    assert len(TokenFile(small_bins, None, 1).tokens) == len(whole)


@pytest.mark.parametrize("part", [1, 7, 40, 97])
@pytest.mark.parametrize("packed", [1, 10])
def test_the_tokens_that_parts_have_in_common(part, packed):
    """Counted one by one in a ring of 97, where the seeds' parts begin at 12, 69, 78 and 81, or 10, 60, 70 and 80."""
    tokens, seeds = np.arange(97), (2, 3, 8, 8, 11)
    together = {int(token) for seed in seeds for token in take(tokens, part, seed, packed)}
    assert distinct_tokens(97, part, seeds, packed) == len(together)


@pytest.mark.parametrize("call, message", [
    (lambda: TrainingWindows(np.arange(10), 10, 0), "context length of 10"),
    (lambda: validation_starts(np.arange(1001), 900, 7), "multiple"),
    (lambda: validation_starts(np.arange(901), 1000, 100), "--eval_tokens 900 is the most"),
    (lambda: full_context_starts(np.arange(100), 5, 51), "at least 102 tokens"),
])
def test_what_does_not_fit_is_refused(call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        call()
    assert stop.value.code == 2 and message in capsys.readouterr().err
