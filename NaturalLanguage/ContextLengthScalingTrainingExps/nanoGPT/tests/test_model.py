"""The model against a reference in float64, and its cross entropy against torch's own."""

import pytest
import torch
from torch.nn import functional as F

import model as gpt
from helpers import reference_losses, small_model


def test_a_position_sees_only_what_is_before_it():
    small = small_model()
    tokens = torch.randint(97, (2, 20))
    states = small.hidden(tokens)
    for position in (1, 7, 19):
        changed = tokens.clone()
        changed[:, position:] = (changed[:, position:] + 1 + torch.randint(96, changed[:, position:].shape)) % 97
        others = small.hidden(changed)
        torch.testing.assert_close(others[:, :position], states[:, :position])
        assert (others[:, position:] - states[:, position:]).abs().amax(-1).min() > 1e-3


def test_the_losses_of_a_window_are_those_of_the_reference():
    small = small_model(moved=True)  # norms included
    tokens = torch.randint(97, (33,))
    states = small.hidden(tokens[None, :-1])[0]
    expected = reference_losses(small.state_dict(), 4, tokens)
    losses = gpt.cross_entropies(states, small.embedding.weight, tokens[1:])
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    total = gpt.summed_cross_entropy(states, small.embedding.weight, tokens[1:])
    assert total.item() == pytest.approx(expected.sum().item(), rel=1e-6)
    torch.testing.assert_close(F.cross_entropy(small(tokens[None, :-1])[0], tokens[1:], reduction="none"), losses)


@pytest.mark.parametrize("positions", [1, 7, 50, 64])
def test_the_chunked_cross_entropy_has_the_value_and_gradients_of_the_whole(monkeypatch, positions):
    monkeypatch.setattr(gpt, "LOSS_POSITIONS", positions)
    torch.manual_seed(0)
    states, weight = torch.randn(50, 24, requires_grad=True), torch.randn(300, 24, requires_grad=True)
    targets = torch.randint(300, (50,))
    total = gpt.summed_cross_entropy(states, weight, targets)
    (total / 7).backward()
    ours = states.grad.clone(), weight.grad.clone()
    states.grad = weight.grad = None
    expected = F.cross_entropy(states @ weight.T, targets, reduction="sum")
    (expected / 7).backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours[0], states.grad)
    torch.testing.assert_close(ours[1], weight.grad)


def test_logits_of_all_positions_never_exist_at_once(monkeypatch):
    monkeypatch.setattr(gpt, "LOSS_POSITIONS", 16)
    sizes = []
    matmul = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *parts, out=None: (sizes.append(out.shape), matmul(*parts, out=out))[1])
    states, weight = torch.randn(100, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    gpt.summed_cross_entropy(states, weight, torch.randint(50, (100,))).backward()
    assert sizes == [(16, 50)] * 6 + [(4, 50)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_expression_that_is_compiled_is_the_chunks_loss_and_gradient(dtype):
    torch.manual_seed(1)
    logits, targets = (3 * torch.randn(40, 500)).to(dtype), torch.randint(500, (40, 1))
    total, gradient = gpt.loss_and_gradient_at_once(logits, targets)
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, targets[:, 0], reduction="sum")
    expected.backward()
    assert gradient.dtype == dtype and total.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, exact.grad.to(dtype))
    other_total, other = gpt.loss_and_gradient(logits, targets)  # overwrites the logits if they are float32
    assert other_total.item() == pytest.approx(total.item(), rel=1e-6)
    torch.testing.assert_close(other.to(dtype), gradient)


@pytest.mark.slow
def test_the_compiled_loss_is_the_uncompiled_one():
    torch.manual_seed(0)
    states, weight = torch.randn(5000, 24, requires_grad=True), torch.randn(300, 24, requires_grad=True)
    targets, found = torch.randint(300, (5000,)), []
    for compiled in (False, True):
        states.grad = weight.grad = None
        total = gpt.summed_cross_entropy(states, weight, targets, compiled)
        total.backward()
        found.append((total.item(), states.grad, weight.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    for ours, theirs in zip(found[0][1:], found[1][1:]):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16_is_close_to_float32():
    small = small_model()
    tokens = torch.randint(97, (4, 65))
    losses = {}
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            states = small.hidden(tokens[:, :-1]).flatten(0, 1)
            loss = gpt.summed_cross_entropy(states, small.embedding.weight, tokens[:, 1:].flatten()) / 256
        small.zero_grad()
        loss.backward()
        losses[enabled] = loss.item(), small.embedding.weight.grad.clone()
    assert losses[True][0] == pytest.approx(losses[False][0], rel=1e-3)
    assert F.cosine_similarity(losses[True][1].flatten(), losses[False][1].flatten(), dim=0) > 0.999


def test_the_papers_model_has_its_size():
    with torch.device("meta"):
        paper = gpt.GPT(vocab_size=50_304)
    matrices = 50_304 * 768 + 6 * 12 * 768**2
    assert sum(p.numel() for p in paper.parameters()) == matrices + (2 * 6 + 1) * 768
    assert paper.flops_per_token(1024) == 6 * matrices + 6 * 6 * 768 * 1024
    assert paper.rotary_dims == 32


def test_the_first_weights_have_the_standard_deviation_asked_for():
    weights = gpt.GPT(97, 2, 4, 64, init_std=0.07).state_dict()
    assert weights["blocks.0.mlp_in.weight"].std() == pytest.approx(0.07, rel=0.05)
    assert weights["blocks.1.mlp_out.weight"].std() == pytest.approx(0.035, rel=0.05)


def test_an_output_layer_of_its_own():
    untied, tied = gpt.GPT(97, 2, 4, 64, untied=True), gpt.GPT(97, 2, 4, 64)
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"output.weight"}
    assert untied.embedding.weight.std().item() == pytest.approx(1, abs=0.05)
    assert untied.flops_per_token(16) == tied.flops_per_token(16)
    tokens = torch.randint(97, (2, 9))
    assert torch.equal(untied(tokens), untied.hidden(tokens) @ untied.output.weight.T)
