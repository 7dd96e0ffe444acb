"""Answering on small random models: losses and greedy answers by brute force, whatever is batched or shared."""

import numpy as np
import pytest
import torch
from downstream_helpers import FAMILIES, brute_force
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from downstream.answering import Answering


def greedy(model, ids, new_tokens):
    """The greedy answer, one full forward pass a token, without any cache; ends before an end token."""
    ids, first = list(ids), len(ids)
    while len(ids) - first < new_tokens:
        token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token == model.generation_config.eos_token_id:
            break
        ids.append(token)
    return ids[first:]


@pytest.mark.parametrize("end", ["none", "early"])
@pytest.mark.parametrize("family", [*FAMILIES, "windows", "window"])
@torch.inference_mode()
def test_sharing_changes_nothing(family, end, chat_models):
    """Prompts with one beginning, also where layers see a window shorter than it and where some answers end early."""
    tokenizer = AutoTokenizer.from_pretrained(chat_models[family if family in FAMILIES else "gemma"])
    if family not in FAMILIES:
        torch.manual_seed(0)
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        more = {"layer_types": kinds} if family == "windows" else {}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
            "gemma3_text" if family == "windows" else "mistral", vocab_size=1500, hidden_size=32, intermediate_size=64,
            num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=20,
            initializer_range=0.3, **more)).eval()
    else:
        model = AutoModelForCausalLM.from_pretrained(chat_models[family]).eval()
        for weights in model.parameters():
            weights *= 4  # so that answers depend on what stands far away
    generator = np.random.default_rng(0)
    common = generator.integers(10, 1400, 60).tolist()
    prompts = [common + generator.integers(10, 1400, size).tolist() for size in (3, 9, 5, 1, 14)]
    targets = [generator.integers(10, 1400, size).tolist() for size in (4, 1, 2, 6, 1)]
    model.generation_config.eos_token_id = 1499 if end == "none" else greedy(model, prompts[0], 8)[3]
    shapes = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    expected = [greedy(model, prompt, 8) for prompt in prompts]
    assert len({tuple(answer) for answer in expected}) > 2 and (len(expected[0]) < 8) == (end == "early")

    def collect(**options):
        answering, found = Answering(model, tokenizer, **options), {}
        assert answering.shares == options.get("share", True)
        shapes.clear()
        for members, results in answering.answer(prompts, targets, [0] * 5, 8):
            found.update(zip(members, results))
        model.get_output_embeddings()._forward_pre_hooks.clear()
        return found, [shape for shape in shapes if shape != (1, 60)], shapes.count((1, 60))

    single, *_ = collect(share=False, tokens_per_batch=1)
    rest = [3 + 4, 9 + 1, 5 + 2, 1 + 6, 14 + 1]
    for options, prefills, scored in (
            ({}, 1, [(1, sum(rest))]),
            ({"tokens_per_batch": 60 + 3 + 9 + 5 + 6 * 8}, 1, [(1, sum(rest[:3])), (1, sum(rest[3:]))]),
            ({"tokens_per_batch": 1}, 1, [(1, size) for size in rest]), ({"share": False}, 0, [(5, 75), (5, 74)])):
        found, passes, begun = collect(**options)
        assert begun == prefills and [shape for shape in passes if shape[1] > 5] == scored
        for index, (prompt, target) in enumerate(zip(prompts, targets)):
            losses, hits, state, answer = found[index]
            assert losses.sum().item() == pytest.approx(brute_force(model, prompt, target), rel=1e-5, abs=1e-4)
            assert answer == expected[index] and hits == single[index][1]
            assert torch.allclose(state, single[index][2], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_no_penalties_of_the_models_own(chat_models):
    """Greedy decoding is that of the benchmarks, whatever a model's generation_config.json says."""
    model = AutoModelForCausalLM.from_pretrained(chat_models["qwen3"]).eval()
    prompt = list(range(10, 60))
    expected = greedy(model, prompt, 12)
    model.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=expected[:1])
    answering = Answering(model, AutoTokenizer.from_pretrained(chat_models["qwen3"]))
    (_, ((*_, answer),)), = answering.answer([prompt], [[5]], [0], 12)
    assert answer == expected and len(set(expected)) < 12


@torch.inference_mode()
def test_positions_that_depend_on_the_length(chat_models):
    """Each prompt has the frequencies of its own length, whatever stands beside it or came before."""
    config = AutoConfig.from_pretrained(chat_models["qwen3"], max_position_embeddings=32)
    config.rope_parameters = {**config.rope_parameters, "rope_type": "dynamic", "factor": 4.0}

    def fresh():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for weights in model.parameters():
            weights *= 4
        return model

    generator = np.random.default_rng(0)
    common = generator.integers(10, 1400, 60).tolist()
    prompts = [common + generator.integers(10, 1400, size).tolist() for size in (80, 5, 30)]
    answering = Answering(fresh(), AutoTokenizer.from_pretrained(chat_models["qwen3"]))
    for members, results in answering.answer(prompts, [[7, 8]] * 3, [0] * 3):
        for index, (losses, *_) in zip(members, results):
            assert losses.sum().item() == pytest.approx(brute_force(fresh(), prompts[index], [7, 8]), rel=1e-4)


@pytest.mark.parametrize("kind, more", [
    ("camembert", {"is_decoder": True}), ("falcon", {"alibi": True}), ("bloom", {}),
    ("gpt_neo", {"attention_types": [[["global", "local"], 1]], "window_size": 20})])
@torch.inference_mode()
def test_models_that_cannot_share(kind, more, chat_models, capsys):
    """Positions that count from another number, biases by the distance, and layers that mask by themselves."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=1500, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, initializer_range=0.3, eos_token_id=1499, **more)).eval()
    generator = np.random.default_rng(0)
    common = generator.integers(10, 1400, 60).tolist()
    prompts, targets = [common + [7], common + [8, 9, 10, 11]], [[5, 6], [7]]
    answering = Answering(model, AutoTokenizer.from_pretrained(chat_models["qwen3"]), tokens_per_batch=1)
    for (index,), ((losses, *_, answer),) in answering.answer(prompts, targets, [0, 0], 4):
        assert losses.sum().item() == pytest.approx(brute_force(model, prompts[index], targets[index]), rel=1e-4)
        generated = model.generate(torch.tensor([prompts[index]]), max_new_tokens=4, do_sample=False, pad_token_id=0)
        assert answer == generated[0, len(prompts[index]):].tolist()
    assert not answering.shares and type(model).__name__ in capsys.readouterr().out


@torch.inference_mode()
def test_out_of_memory_halves_what_shares(chat_models, capsys):
    """Five prompts go on from 20 tokens, at 12 tokens each; no more than 40 go through the model at once."""
    model = AutoModelForCausalLM.from_pretrained(chat_models["qwen3"]).eval()
    prompts = [list(range(10, 30)) + list(range(100 + 10 * index, 110 + 10 * index)) for index in range(5)]
    answering = Answering(model, AutoTokenizer.from_pretrained(chat_models["qwen3"]))

    def limited(_, inputs):
        if inputs[0].numel() > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    model.get_input_embeddings().register_forward_pre_hook(limited)
    answers = {}
    for most in (10**6, 40):
        found = {}
        for members, results in answering.answer(prompts, [[7, 8]] * 5, [0] * 5, 3):
            found.update(zip(members, results))
            assert len(members) == 5 if most > 40 else len(members) <= 2
        assert sorted(found) == list(range(5)) and answering.shares
        answers[most] = [(found[index][0].tolist(), found[index][3]) for index in range(5)]
    for (losses, answer), (others, other) in zip(*answers.values()):
        assert losses == pytest.approx(others, rel=1e-5) and answer == other
    assert "out of memory with 5 prompts at once, going on with 2" in capsys.readouterr().out
    most = 10
    with pytest.raises(SystemExit):
        list(answering.answer(prompts, [[7, 8]] * 5, [0] * 5, 3))
    assert "out of memory with a prompt of 30 tokens" in capsys.readouterr().err
