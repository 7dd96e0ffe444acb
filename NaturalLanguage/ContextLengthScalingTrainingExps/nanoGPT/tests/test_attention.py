"""Each attention against its masked form and against the future; what does not fit is refused."""

import pytest
import torch
from torch.nn import functional as F

import attention
import model as gpt
from long_context_flags import attention_config

CASES = {  # settings, and lengths: groups must divide them in training, the other kinds take any
    "full": ({}, (1, 32)),
    "shifted_sparse": ({"group": 8}, (8, 16, 32)),
    "dilated": ({"pairs": [[8, 1], [16, 2], [32, 4]]}, (1, 8, 32, 50, 64)),
    "sliding_window": ({"window": 8}, (1, 8, 16, 29, 32)),
}
KINDS = [(kind, length) for kind, (_, lengths) in CASES.items() for length in lengths]


def heads(length, n=3, batch=2, n_head=4, width=8):
    torch.manual_seed(length)
    return [torch.randn(batch, n_head, length, width, requires_grad=True) for _ in range(n)]


def documents_of(length):
    """Documents of random lengths for two rows."""
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(2, length, generator=generator) < 0.15).cumsum(1)


def masked(module, query, key, value, documents=None):
    """The same attention from all pairs of positions, with the additive mask log(counts)."""
    mask = module.counts(query.shape[2], query.shape[1]).to(query).log()
    if documents is not None:
        mask = mask.masked_fill(~attention.visible(documents)[:, None], -torch.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def outcome(function, parts, wanted, **options):
    """The output and the three gradients."""
    out = function(*parts, **options)
    return [out, *torch.autograd.grad(out, parts, wanted)]


@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize("kind, length", KINDS)
def test_it_equals_its_masked_form_forward_and_backward(kind, length, with_documents):
    module = attention.make_attention(kind, **CASES[kind][0])
    parts, wanted = heads(length), heads(length, n=1)[0].detach()
    documents = documents_of(length) if with_documents else None
    found = outcome(module, parts, wanted, documents=documents)
    truth = outcome(lambda *x: masked(module, *x, documents=documents), parts, wanted)
    for ours, theirs in zip(found, truth):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind, length", [("shifted_sparse", 32), ("sliding_window", 32)])
def test_the_layout_that_a_kernel_gives_does_not_matter(kind, length, monkeypatch):
    """On a GPU scaled_dot_product_attention may return heads and positions transposed in memory."""
    plain = F.scaled_dot_product_attention
    module, parts = attention.make_attention(kind, **CASES[kind][0]), heads(length)
    wanted = module(*parts)
    monkeypatch.setattr(F, "scaled_dot_product_attention",
                        lambda *x, **options: plain(*x, **options).transpose(1, 2).contiguous().transpose(1, 2))
    torch.testing.assert_close(module(*parts), wanted)


def test_the_masks_are_those_of_the_definitions():
    length, n_head = 16, 4

    def counts(kind):
        return attention.make_attention(kind, **CASES[kind][0]).counts(length, n_head)

    for head in range(n_head):
        for query in range(length):
            for key in range(length):
                past = key <= query
                assert counts("sliding_window")[head, query, key] == (past and query - key < 8)
                group = (lambda i: i // 8) if head < 2 else (lambda i: (i >= 4) + (i >= 12))
                assert counts("shifted_sparse")[head, query, key] == (past and group(query) == group(key))
                patterns = [past and query // w == key // w and all(i % w % r == head // (n_head // r)
                                                                    for i in (query, key))
                            for w, r in ((8, 1), (16, 2), (32, 4))]
                assert counts("dilated")[head, query, key] == sum(patterns)


@pytest.mark.parametrize("kind", CASES)
def test_no_later_token_changes_what_came_before(kind):
    module = attention.make_attention(kind, **CASES[kind][0])
    parts = [x.detach() for x in heads(32)]
    before = module(*parts)
    for position in range(1, 32):  # every later token is another one
        changed = [torch.cat((x[:, :, :position], torch.randn_like(x[:, :, position:])), 2) for x in parts]
        after = module(*changed)
        torch.testing.assert_close(after[:, :, :position], before[:, :, :position], rtol=0, atol=1e-6)
        assert (after[:, :, position:] - before[:, :, position:]).abs().amax((0, 1, 3)).min() > 1e-3


def test_dilated_attention_mixes_its_pairs_by_their_denominators():
    """LongNet: each pair's attention by itself, weighted by its softmax denominator."""
    pairs, (query, key, value) = CASES["dilated"][0]["pairs"], [x.detach().double() for x in heads(32)]
    scores = query @ key.mT / 8 ** 0.5
    outputs, sums = [], []
    for pair in pairs:
        seen = attention.Dilated([pair]).counts(32, 4).bool()
        weights = scores.masked_fill(~seen, -torch.inf).exp()
        sums.append(weights.sum(-1, keepdim=True))
        outputs.append(weights @ value / sums[-1].clamp_min(1e-300))
    mixed = sum(out * total for out, total in zip(outputs, sums)) / sum(sums)
    ours = attention.Dilated(pairs)(query.float(), key.float(), value.float())
    torch.testing.assert_close(ours.double(), mixed, rtol=0, atol=2e-6)


def test_without_the_fused_kernel_it_is_the_same(monkeypatch):
    module, parts, wanted = attention.Dilated(CASES["dilated"][0]["pairs"]), heads(64), heads(64, n=1)[0].detach()
    documents = documents_of(64)
    fused = [outcome(module, parts, wanted), outcome(module, parts, wanted, documents=documents)]
    monkeypatch.setattr(attention, "FUSED", set())
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 500)
    plain = [outcome(module, parts, wanted), outcome(module, parts, wanted, documents=documents)]
    for ours, theirs in zip(sum(plain, []), sum(fused, [])):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_shifted_sparse_attention_is_full_in_evaluation():
    module = attention.ShiftedSparse(8).eval()
    parts = heads(20)
    torch.testing.assert_close(module(*parts), F.scaled_dot_product_attention(*parts, is_causal=True))


@pytest.mark.parametrize("kind", CASES)
def test_documents_do_not_see_each_other(kind):
    module = attention.make_attention(kind, **CASES[kind][0])
    parts, documents = [x.detach() for x in heads(32)], documents_of(32)
    before = module(*parts, documents)
    first = documents == documents[:, :1]
    changed = [torch.where(first[:, None, :, None], torch.randn_like(x), x) for x in parts]
    different = (module(*changed, documents) - before).abs().amax((1, 3)) > 1e-6
    assert (different == first).all()


def test_no_scores_of_all_pairs(monkeypatch):
    """The mask given to the fused attention never has as many entries as there are pairs, and no input is longer."""
    longest = []
    whole = F.scaled_dot_product_attention

    def record(query, key, value, **options):
        longest.append(key.shape[2])
        return whole(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    attended = attention.attend
    monkeypatch.setattr(attention, "attend", lambda query, *rest: (longest.append(query.shape[2]),
                                                                  attended(query, *rest))[1])
    for kind, most in (("shifted_sparse", 8), ("sliding_window", 16), ("dilated", 8)):
        longest.clear()
        attention.make_attention(kind, **CASES[kind][0])(*heads(64))
        assert max(longest) == most


@pytest.mark.parametrize("kind", CASES)
def test_a_model_of_each_kind_is_causal_and_learns(kind):
    torch.manual_seed(0)
    small = gpt.GPT(97, 2, 4, 32, attention={"kind": kind, **CASES[kind][0]})
    tokens = torch.randint(97, (2, 32))
    states = small.hidden(tokens)
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 97
    torch.testing.assert_close(small.hidden(changed)[:, :20], states[:, :20])
    gpt.summed_cross_entropy(states.flatten(0, 1), small.embedding.weight, tokens.flatten()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in small.parameters())
    assert small.state_dict().keys() == gpt.GPT(97, 2, 4, 32).state_dict().keys()


@pytest.mark.parametrize("kind", CASES)
def test_the_span_is_twice_the_keys_that_a_query_sees(kind):
    module = attention.make_attention(kind, **CASES[kind][0])
    counts = attention.make_attention(kind, **CASES[kind][0]).counts(256, 4)
    assert module.span(256) == pytest.approx(2 * counts.sum(-1).mean().item(), rel=0.25)


def test_settings_that_fit():
    config = attention_config
    assert config("full", 64, 4) is None
    assert config("shifted_sparse", 64, 4) == {"kind": "shifted_sparse", "group": 16}
    assert config("dilated", 64, 4, pairs=[(16, 1), (32, 2)]) == {"kind": "dilated", "pairs": [[16, 1], [32, 2]]}
    assert config("sliding_window", 64, 4, window=10) == {"kind": "sliding_window", "window": 10}


@pytest.mark.parametrize("call, message", [
    (("shifted_sparse", 64, 4, 24), "divide the context length 64"),
    (("shifted_sparse", 64, 3, 16), "--n_head 3 must be even"),
    (("shifted_sparse", 62, 4), "must be even and divide"),
    (("dilated", 64, 4), "dilation 1"),
    (("dilated", 64, 4, None, [(16, 2), (32, 4)]), "dilation 1"),
    (("dilated", 64, 4, None, [(16, 1), (48, 2)]), "divide"),
    (("dilated", 64, 4, None, [(16, 1), (32, 3)]), "divide"),
    (("dilated", 64, 6, None, [(16, 1), (32, 4)]), "--n_head 6"),
    (("sliding_window", 64, 4), "--window"),
    (("sliding_window", 64, 4, None, None, 65), "--window"),
    (("full", 64, 4, 16), "is for --attention shifted_sparse"),
])
def test_settings_that_do_not_fit_are_refused(call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        attention_config(*call)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_a_group_that_does_not_divide_is_an_error():
    with pytest.raises(ValueError, match="do not divide"):
        attention.ShiftedSparse(8)(*heads(20))
