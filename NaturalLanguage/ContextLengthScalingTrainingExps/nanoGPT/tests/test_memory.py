"""The memory against a brute-force reading of its definition, over several segments and documents."""

import math

import pytest
import torch

import memory
import model as gpt
from long_context_flags import memory_config

HEADS, WIDTH, ROWS, LENGTH = 2, 4, 3, 8


def brute_force(attention, segments, tokens, local):
    """The mix for the last of `segments` (lists of query, key, value, documents), one query at a time, in float64."""
    *earlier, (query, _, _, documents) = segments
    out = local.double().clone()
    for row in range(ROWS):
        keys, values, ids = (torch.cat([segment[n][row] for segment in earlier], axis)
                             for n, axis in ((1, 1), (2, 1), (3, 0))) if earlier else (None, None, torch.empty(0))
        for place in range(query.shape[2]):
            same = [i for i, document in enumerate(ids.tolist())
                    if i >= len(ids) - tokens and document == documents[row, place]]
            for head in range(HEADS if same else 0):
                scores = keys[head, same].double() @ query[row, head, place].double() / math.sqrt(WIDTH)
                best = scores.argsort(descending=True)[:attention.neighbours]
                remembered = scores[best].softmax(0) @ values[head, same].double()[best]
                gate = torch.sigmoid(attention.gate[head].double())
                out[row, head, place] = gate * remembered + (1 - gate) * out[row, head, place]
    return out


def make_segments(n, documents):
    """Segments of queries, keys and values, whose tokens are of `documents` (a list of ids a row, by token)."""
    torch.manual_seed(0)
    attention = memory.MemoryAttention(HEADS, WIDTH, neighbours=5)
    with torch.no_grad():
        attention.gate.copy_(torch.tensor([-1.0, 0.7]))
        attention.log_scale.copy_(torch.tensor([1.0, 1.7]))
    segments = []
    for number in range(n):
        query, key, value = torch.randn(3, ROWS, HEADS, LENGTH, WIDTH)
        ids = documents[:, number * LENGTH:(number + 1) * LENGTH]
        segments.append((*attention.normalise(query, key), value, ids))
    return attention, segments


@pytest.mark.parametrize("tokens", [3, 20, 64])
@pytest.mark.parametrize("at_once", [1, 2**24])
def test_it_is_the_softmax_over_the_nearest_keys_of_the_same_document(tokens, at_once, monkeypatch):
    monkeypatch.setattr(memory, "SCORES_AT_ONCE", at_once)
    starts = torch.zeros(ROWS, 5 * LENGTH, dtype=torch.int64)
    starts[0, 19] = starts[1, 16] = starts[1, 17] = starts[1, 33] = 1  # row 2 is one document
    documents = starts.cumsum(1) + 10 * torch.arange(ROWS)[:, None]
    attention, segments = make_segments(5, documents)
    store = memory.MemoryStore(ROWS, HEADS, WIDTH, tokens)
    for number, (query, key, value, ids) in enumerate(segments):
        local = torch.randn(ROWS, HEADS, LENGTH, WIDTH)
        with torch.no_grad():
            mixed = attention(local, query, key, value, store.segment(slice(None), ids))
        expected = brute_force(attention, segments[:number + 1], tokens, local)
        torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-5)
        if number == 0:
            assert torch.equal(mixed, local)  # nothing is remembered yet, not even the segment itself
        of_last = (store.documents == ids[:, -1:]).sum(1)
        assert ((store.documents == memory.EMPTY).sum(1) + of_last == tokens).all()


def test_the_oldest_are_dropped_and_another_document_clears():
    store = memory.MemoryStore(1, 1, 1, 6)
    for first, document in ((0, 4), (4, 4), (8, 4), (12, 5)):
        ids = torch.full((1, 4), document)
        numbers = torch.arange(first, first + 4.0).view(1, 1, 4, 1)
        store.segment(slice(None), ids).add(numbers, -numbers)
        known = store.keys[0, 0, store.documents[0] != memory.EMPTY, 0].tolist()
        assert known == {0: [0, 1, 2, 3], 4: [2, 3, 4, 5, 6, 7], 8: [6, 7, 8, 9, 10, 11], 12: [12, 13, 14, 15]}[first]


def test_the_search_is_exact_in_mixed_precision():
    generator = torch.Generator().manual_seed(0)
    store = memory.MemoryStore(1, 2, 16, 512)
    store.documents.zero_()
    store.keys.copy_(torch.nn.functional.normalize(torch.randn(store.keys.shape, generator=generator), dim=-1))
    part = store.segment(slice(None), torch.zeros(1, 64, dtype=torch.int64))
    query = torch.randn(1, 2, 64, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = part.search(query, 8)
    assert torch.equal(found, (query @ store.keys.mT).topk(8, -1).indices)


def test_gradients_reach_queries_scale_and_gate_but_not_what_is_remembered():
    documents = torch.zeros(ROWS, 2 * LENGTH, dtype=torch.int64)
    attention, _ = make_segments(1, documents)
    query, key, value = (torch.randn(ROWS, HEADS, LENGTH, WIDTH, requires_grad=True) for _ in range(3))
    store = memory.MemoryStore(ROWS, HEADS, WIDTH, 16)
    ids = documents[:, :LENGTH]
    attention(torch.zeros_like(query), *attention.normalise(query, key), value, store.segment(slice(None), ids))
    others = torch.randn(2, ROWS, HEADS, LENGTH, WIDTH)
    later = query * 2
    out = attention(torch.zeros_like(query), attention.normalise(later, others[0])[0], *others,
                    store.segment(slice(None), ids))
    out.square().sum().backward()
    assert query.grad.abs().sum() > 0 and key.grad is None and value.grad is None
    assert attention.gate.grad.abs().min() > 0 and attention.log_scale.grad.abs().min() > 0


def memory_model():
    torch.manual_seed(1)
    return gpt.GPT(97, 3, 2, 16, memory={"layer": 2, "neighbours": 4, "tokens": 32})


def read(small, store, tokens, documents, first, last):
    """States of the segments first ... last - 1 of rows of text."""
    with torch.no_grad():
        return [small.hidden(tokens[:, part], store=store.segment(slice(None), documents[:, part]))
                for part in (slice(LENGTH * number, LENGTH * (number + 1)) for number in range(first, last))]


def test_a_resume_from_the_saved_store_is_exact(tmp_path):
    small, tokens = memory_model(), torch.randint(97, (ROWS, 5 * LENGTH))
    documents = (tokens == 3).cumsum(1)
    straight = read(small, memory.MemoryStore(ROWS, 2, 8, 32), tokens, documents, 0, 5)
    store = memory.MemoryStore(ROWS, 2, 8, 32)
    read(small, store, tokens, documents, 0, 3)
    torch.save(store.state_dict(), tmp_path / "store.pt")
    again = memory.MemoryStore(ROWS, 2, 8, 32)
    again.load_state_dict(torch.load(tmp_path / "store.pt", weights_only=True))
    assert all(torch.equal(*pair) for pair in zip(read(small, again, tokens, documents, 3, 5), straight[3:]))


def test_rows_may_be_read_in_parts_and_the_memory_is_seen():
    small, tokens = memory_model(), torch.randint(97, (ROWS, 2 * LENGTH))
    documents = torch.zeros_like(tokens)
    whole = read(small, memory.MemoryStore(ROWS, 2, 8, 32), tokens, documents, 0, 2)
    store = memory.MemoryStore(ROWS, 2, 8, 32)
    for number in range(2):
        part = slice(LENGTH * number, LENGTH * (number + 1))
        for rows in (slice(0, 2), slice(2, 3)):
            with torch.no_grad():
                states = small.hidden(tokens[rows, part], store=store.segment(rows, documents[rows, part]))
            torch.testing.assert_close(states, whole[number][rows])
    with torch.no_grad():
        alone = small.hidden(tokens[:, LENGTH:])
    assert (whole[1] - alone).abs().max() > 1e-3


def test_settings():
    assert memory_config(None, None, None, 12) is None
    assert memory_config(512, None, None, 12) == {"tokens": 512, "layer": 9, "neighbours": 32}


@pytest.mark.parametrize("call, message", [((None, 3, None, 4), "--memory_tokens"), ((64, 5, None, 4), "beyond the 4")])
def test_settings_that_do_not_fit_are_refused(call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        memory_config(*call)
    assert stop.value.code == 2 and message in capsys.readouterr().err
