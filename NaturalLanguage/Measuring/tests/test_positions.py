"""Positions beyond the trained length: by brute force, as transformers has them, and those that are refused."""

import json
import shutil

import pytest
import torch

from helpers import CUT, error_line, run_main, score_by_hand
from scorer import load_config, load_model, longest_context


def test_rope_scaling_stretches_the_positions(models, corpus, loaded, tmp_path):
    """Position interpolation by 2 is the model at positions 0, 1/2, 1, ...; the limit of the context grows with it."""
    flags = ("--model_name", models["llama"], "--dataset_path", corpus, *CUT, "--n_samples", 6, "--device", "cpu",
             "--cache_chunk_file_name", tmp_path / "chunks.pt")
    code, _, err = run_main("evaluate_CE", *flags, "--seq_lens", 30, "--out_dir", tmp_path / "pi",
                            "--rope_scaling", json.dumps({"rope_type": "linear", "factor": 2.0}))
    assert code == 0, err
    model, chunks = loaded["llama"]
    losses = torch.load(tmp_path / "pi" / "losses.pt", weights_only=True)["losses"][30]
    for saved, (_, ids) in zip(losses, chunks):
        with torch.no_grad():
            logits = model(torch.tensor([ids[-31:-1]]), position_ids=torch.arange(30)[None] / 2).logits[0, -1]
        assert saved.item() == pytest.approx(-torch.log_softmax(logits, 0)[ids[-1]].item(), abs=1e-4)
        assert saved.item() != pytest.approx(score_by_hand(model, ids, 30)[0], abs=1e-6)
    for kind in ("yarn", "dynamic"):
        scaling = json.dumps({"rope_type": kind, "factor": 2.0})
        code, _, err = run_main("evaluate_CE", *flags[:4], "--window", 101, "--n_samples", 2, "--device", "cpu",
                                "--trim", 0, 0, "--seq_lens", 100, "--rope_scaling", scaling,
                                "--out_dir", tmp_path / kind,
                                "--cache_chunk_file_name", tmp_path / "long.pt")
        assert code == 0, err
    assert "nor JSON" in error_line(run_main("evaluate_CE", *flags, "--seq_lens", 3, "--rope_scaling", "cubic"))
    line = error_line(run_main("evaluate_CE", "--model_name", models["gpt2"], *flags[2:], "--seq_lens", 3,
                               "--rope_scaling", '{"type": "linear", "factor": 2}'))
    assert "no rotary positions" in line


def test_positions_by_name_are_those_of_transformers(models, loaded):
    """Every name merges into the loaded parameters; frequencies and outputs are transformers', or its formula's."""
    from transformers import AutoConfig
    tokens, name = torch.arange(40)[None] % 7, models["llama"]
    loaded_config = AutoConfig.from_pretrained(name)
    theta, trained, d = (loaded_config.rope_parameters["rope_theta"], loaded_config.max_position_embeddings,
                         loaded_config.head_dim)
    plain = theta ** (-torch.arange(0, d, 2, dtype=torch.float32) / d)
    for kind, expected in {"none": plain, "linear": plain / 4,
                           "ntk": (theta * 4 ** (d / (d - 2))) ** (-torch.arange(0, d, 2, dtype=torch.float32) / d),
                           "dynamic": plain, "yarn": None}.items():
        config = load_config(name, kind, 4.0)
        assert longest_context(config) == (None if kind == "dynamic" else 4 * trained)
        base = theta * 4 ** (d / (d - 2)) if kind == "ntk" else theta
        assert config.rope_parameters["rope_theta"] == pytest.approx(base)
        model = load_model(name, config, torch.float32, torch.device("cpu"))
        if expected is not None:
            torch.testing.assert_close(model.model.rotary_emb.inv_freq, expected)
        if kind in ("linear", "dynamic", "yarn"):  # as a user of transformers would ask for it
            asked = {**loaded_config.rope_parameters, "rope_type": kind, "factor": 4.0}
            if kind == "yarn":
                asked["original_max_position_embeddings"] = trained
            theirs = type(model).from_pretrained(name, rope_parameters=asked, dtype=torch.float32).eval()
            with torch.no_grad():
                torch.testing.assert_close(model(tokens).logits, theirs(tokens).logits)
    assert longest_context(load_config(name, "dynamic", 1.0)) is None  # or it would be refused where it is of use
    dynamic = load_model(name, load_config(name, "dynamic", 1.0), torch.float32, torch.device("cpu"))
    with torch.no_grad():
        dynamic(torch.arange(2 * trained)[None] % 7)
    base = theta * 2 ** (d / (d - 2))  # factor 1: what twice the length needs
    torch.testing.assert_close(dynamic.model.rotary_emb.inv_freq,
                               base ** (-torch.arange(0, d, 2, dtype=torch.float32) / d))


def test_a_name_does_not_replace_positions_that_a_model_was_trained_with(models, tmp_path, capsys):
    copy = shutil.copytree(models["llama"], tmp_path / "llama3")
    config = json.loads((copy / "config.json").read_text())
    rotary = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 16, "rope_theta": 10000.0}
    (copy / "config.json").write_text(json.dumps({**config, "rope_parameters": rotary}))
    for kind in ("linear", "dynamic", "yarn", "ntk"):
        with pytest.raises(SystemExit) as stop:
            load_config(copy, kind, 2.0)
        assert stop.value.code == 2 and f"llama3 positions already, which --rope_scaling {kind} would replace" in \
            capsys.readouterr().err
    assert load_config(copy, "none", 2.0).rope_parameters["rope_type"] == "llama3"
    assert load_config(copy, '{"rope_type": "linear", "factor": 2.0}').rope_parameters["factor"] == 2.0


@pytest.mark.parametrize("scaling, factor, message", [
    ("ntk", None, "needs a factor of at least 1"), ("yarn", 0.5, "needs a factor of at least 1"),
    ('{"rope_type": "ntk"}', None, "needs a factor of at least 1"), (None, 2.0, "needs --rope_scaling"),
    ('{"rope_type": "yarn", "factor": 2}', 2.0, "goes with"), ('["linear"]', None, "nor JSON"),
    ("banana", None, "neither one of none, linear"), ('{"rope_type": "linear", "factor": 2', None, "nor JSON"),
    ("[" * 100_000, None, "nor JSON"), ('{"rope_type": "banana", "factor": 2}', None, "known are none, linear"),
    ('{"rope_type": ["yarn"], "factor": 2}', None, "known are"), ("ntk", 1e300, "of at most 1e+06"),
    ('{"rope_type": "dynamic", "factor": Infinity}', None, "needs a factor of at least 1"),
    ('{"rope_type": "linear", "factor": true}', None, "needs a factor of at least 1"),
    ('{"rope_type": "linear", "factor": 2, "beta_fast": 3}', None, "beta_fast is not known; linear needs factor"),
    ('{"rope_type": "yarn", "factor": 2, "beta_fast": "x"}', None, 'beta_fast cannot be "x"; yarn needs factor'),
    ('{"rope_type": "llama3", "factor": 2}', None, "low_freq_factor cannot be null; llama3 needs factor, low"),
    ('{"rope_type": "llama3", "factor": 2, "low_freq_factor": 1, "high_freq_factor": 1}', None, "must be above low"),
    ('{"rope_type": "longrope", "short_factor": [1], "long_factor": [2]}', None, "short_factor has 1 numbers"),
])
def test_positions_that_are_refused(models, scaling, factor, message, capsys):
    with pytest.raises(SystemExit) as stop:
        load_config(models["llama"], scaling, factor)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("change", [
    {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16, "beta_slow": None, "truncate": False},
    {"rope_type": "llama3", "factor": 2, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": 2.0},
    {"rope_type": "default", "rope_theta": 500.0}])
def test_every_kind_of_transformers_may_be_named(models, change):
    """The model runs, and its parameters are those that were named."""
    config = load_config(models["llama"], json.dumps(change))
    model = load_model(models["llama"], config, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        assert model(torch.arange(20)[None] % 7).logits.isfinite().all()
    assert {name: config.rope_parameters.get(name) for name in change} == change


def test_a_model_whose_configuration_names_no_limit():
    from transformers import AutoConfig
    assert longest_context(AutoConfig.for_model("xlnet")) is None  # -1
    for limit in (0, -1, int(1e30)):
        config = AutoConfig.for_model("llama")
        config.max_position_embeddings = limit
        assert longest_context(config) is None
    assert longest_context(AutoConfig.for_model("llama", max_position_embeddings=512)) == 512
