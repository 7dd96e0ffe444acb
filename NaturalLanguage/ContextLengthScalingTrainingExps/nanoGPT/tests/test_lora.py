"""LoRA: the same logits at first, after merging, and after saving and loading; only what is wanted is trained."""

from types import SimpleNamespace

import pytest
import torch

import lora
import model as gpt
from helpers import small_model
from long_context_flags import check_lora


def trained(rank=4, trainable=()):
    """A model with LoRA after some steps, and the weights that it had before."""
    small = small_model()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    lora.add_lora(small, rank, trainable)
    wanted = [parameter for parameter in small.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=0.01)
    for step in range(5):
        tokens = torch.randint(97, (2, 17), generator=torch.Generator().manual_seed(step))
        states = small.hidden(tokens[:, :-1]).flatten(0, 1)
        gpt.summed_cross_entropy(states, small.embedding.weight, tokens[:, 1:].flatten()).backward()
        assert all(parameter.grad is None for parameter in small.parameters() if not parameter.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    return small, before


TOKENS = torch.arange(30).reshape(2, 15) * 37 % 97


def test_at_first_the_model_is_the_same():
    small = small_model()
    logits = small(TOKENS)
    torch.testing.assert_close(lora.add_lora(small, 8)(TOKENS), logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("trainable", [(), ("norms",), ("embeddings",), ("norms", "embeddings")])
def test_merged_and_saved_models_have_the_same_logits(trainable, tmp_path):
    small, _ = trained(trainable=trainable)
    logits = small(TOKENS)
    assert (logits - small_model()(TOKENS)).abs().max() > 0.01
    torch.save(small.state_dict(), tmp_path / "lora.pt")
    torch.save(lora.merge(small.state_dict()), tmp_path / "merged.pt")
    again = lora.add_lora(small_model(), 4, trainable)
    again.load_state_dict(torch.load(tmp_path / "lora.pt", weights_only=True))
    assert torch.equal(again(TOKENS), logits)
    plain = small_model()
    plain.load_state_dict(torch.load(tmp_path / "merged.pt", weights_only=True))
    torch.testing.assert_close(plain(TOKENS), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("trainable", [(), ("norms",), ("embeddings",), ("norms", "embeddings")])
def test_only_what_is_wanted_is_trained(trainable):
    small, before = trained(trainable=trainable)
    after = small.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    kinds = {"norms": {name for name in before if "norm" in name}, "embeddings": {"embedding.weight"}}
    assert changed == set().union(*(kinds[kind] for kind in trainable))
    counted = sum(p.numel() for p in small.parameters() if p.requires_grad)
    assert counted == 3 * 4 * 8 * 48 + sum(before[name].numel() for name in changed)  # 12 matrices, 2 x rank, width


def test_the_merged_weight_is_that_of_the_definition():
    small, before = trained(rank=2)
    layer = small.blocks[1].query_key_value
    merged = lora.merge(small.state_dict())["blocks.1.query_key_value.weight"]
    for part, name in enumerate(("query", "key", "value")):
        rows = slice(48 * part, 48 * part + 48)
        product = 16 / 2 * layer.up[part] @ layer.down[part]
        torch.testing.assert_close(merged[rows] - before["blocks.1.query_key_value.weight"][rows], product, msg=name)


def test_merging_a_plain_model_changes_nothing():
    weights = small_model().state_dict()
    merged = lora.merge(weights)
    assert weights.keys() == merged.keys() and all(torch.equal(weights[name], merged[name]) for name in weights)


@pytest.mark.parametrize("call, message", [
    ((None, ["norms"], "run", 32), "--lora_rank"), ((8, None, None, 32), "--init_from"),
    ((64, None, "run", 32), "width"),
])
def test_settings_that_do_not_fit_are_refused(call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        check_lora(SimpleNamespace(**dict(zip(("lora_rank", "trainable", "init_from", "n_embd"), call))))
    assert stop.value.code == 2 and message in capsys.readouterr().err
