"""Rotary positions for longer texts against transformers' GPT-NeoX, and the paper's model unchanged without them."""

import math

import pytest
import torch
from torch.nn import functional as F

import model as gpt
import rope
from export_hf import to_neox
from helpers import small_model
from long_context_flags import ROPE_TYPES, rope_config

# Logits of the model before it took settings: seed 3, every parameter moved, the last position of the second window.
STORED_LOGITS = [-1.21806109, -0.12865679, -0.548174441, -0.215218097, 0.711383462, 0.196959689, -0.557704628,
                 1.7606343]
CONFIGS = [{"rope_type": "linear", "factor": 4.0}, {"rope_type": "ntk", "factor": 4.0},
           {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
           {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 2048}]


def plain_states(small, tokens):
    """The states as model.py computed them before attention, positions and memory became settings."""
    dims = small.rotary_dims
    frequencies = 10_000.0 ** (-torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    angles = torch.outer(torch.arange(tokens.shape[1], dtype=torch.float32), frequencies).repeat(1, 2)
    x = small.embedding(tokens)
    for block in small.blocks:
        B, T, C = x.shape
        heads = block.query_key_value(block.attention_norm(x)).view(B, T, 3, small.n_head, C // small.n_head)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = gpt.rotate(query, angles.cos(), angles.sin()), gpt.rotate(key, angles.cos(), angles.sin())
        attended = F.scaled_dot_product_attention(query, key, value.contiguous(), is_causal=True)
        x = x + block.attention_out(attended.transpose(1, 2).reshape(B, T, C))
        x = x + block.mlp_out(F.gelu(block.mlp_in(block.mlp_norm(x))))
    return small.final_norm(x)


def test_without_settings_the_model_is_unchanged_to_the_bit():
    small, tokens = small_model(moved=True), torch.arange(40).reshape(2, 20) * 37 % 97
    torch.testing.assert_close(small(tokens)[1, -1, :8], torch.tensor(STORED_LOGITS), rtol=1e-5, atol=1e-5)
    states = [function(tokens) for function in (small.hidden, lambda tokens: plain_states(small, tokens))]
    assert torch.equal(*states)
    gradients = [torch.autograd.grad(state.square().sum(), list(small.parameters())) for state in states]
    assert all(torch.equal(*pair) for pair in zip(*gradients))


@pytest.mark.parametrize("config", [None, *CONFIGS])
def test_logits_are_those_of_transformers_with_the_same_rope_parameters(config):
    small, tokens = small_model(moved=True, rope=config), torch.arange(128).reshape(2, 64) * 37 % 97
    with torch.no_grad():
        ours, theirs = small(tokens), to_neox(small, 64, 97, 0)(tokens).logits
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        if config is not None:
            assert (ours - small_model(moved=True)(tokens)).abs().max() > 0.01


def test_the_identities_of_the_definitions():
    frequencies = 10_000.0 ** (-torch.arange(16) / 16)
    linear, _ = rope.scale_frequencies(frequencies, "linear", 4.0)
    ntk, _ = rope.scale_frequencies(frequencies, "ntk", 4.0)
    yarn, scale = rope.scale_frequencies(frequencies, "yarn", 4.0, 1024)
    assert ntk[0] == frequencies[0] and ntk[-1].item() == pytest.approx(linear[-1].item(), rel=1e-6)
    assert scale == pytest.approx(1.1386, abs=5e-5) == 0.1 * math.log(4) + 1
    turns = 1024 * frequencies / (2 * math.pi)
    assert torch.equal(yarn[turns > 40], frequencies[turns > 40])
    torch.testing.assert_close(yarn[turns < 0.5], linear[turns < 0.5])
    assert ((yarn <= frequencies) & (yarn >= linear * (1 - 1e-6))).all()
    for rope_type in ROPE_TYPES:  # a factor of 1 changes nothing
        same, scale = rope.scale_frequencies(frequencies, rope_type, 1.0, 1024)
        torch.testing.assert_close(same, frequencies)
        assert scale == 1.0


def test_settings_that_fit():
    assert rope_config(None, None, 64, 8) is None
    assert rope_config("linear", 4, 64, 8) == {"rope_type": "linear", "factor": 4.0}
    assert rope_config("yarn", 4, 64, 8) == {"rope_type": "yarn", "factor": 4.0,
                                                   "original_max_position_embeddings": 64}


@pytest.mark.parametrize("call, message", [
    (("linear", None, 64, 8), "--rope_factor"), (("yarn", 0.5, 64, 8), "at least 1"), (("ntk", 2, 64, 2), "ntk needs"),
    ((None, 2, 64, 8), "--rope_type"),
])
def test_settings_that_do_not_fit_are_refused(call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        rope_config(*call)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1
