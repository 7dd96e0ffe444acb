"""train.py with other attention, a memory, other positions and LoRA: what it trains, saves and refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import attention
import lora
import trainer
from documents import Documents
from helpers import run_script, training_flags
from long_context import compiles, refuse_what_memory_cannot
from long_context_flags import ATTENTIONS, ROPE_TYPES, TRAINABLE, model_shape
from memory import MemoryStore
from run import load_run
from settings import parse
from token_files import TokenFile, TrainingWindows

STEPS = ("--max_iters", 8, "--eval_interval", 4)
NAME = "ctl32_tok6000_seed0"
MEMORY = ("--memory_tokens", 64, "--memory_layer", 1, "--memory_neighbours", 4)


def read_tokens(bins, split):
    path = str(bins).replace("train", split)
    return torch.from_numpy(np.fromfile(path, np.uint16).astype(np.int64))


def test_everything_that_the_flags_offer_is_built():
    assert set(ATTENTIONS) == set(attention.KINDS) and set(TRAINABLE) == set(lora.TRAINABLE)


def saved_losses(run_dir):
    return torch.load(run_dir / "losses.pt", weights_only=True)


def args_of(run_dir):
    return json.loads((run_dir / "args.json").read_text())


def validation_losses(model, tokens, **options):
    """Mean loss at each position of the 16 validation windows, from the logits of all of them at once."""
    windows = tokens[:512].view(16, 32)
    with torch.no_grad():
        logits = model.hidden(windows, **options) @ model.embedding.weight.T
        found = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:513], reduction="none")
    return found.view(16, 32).double().mean(0)


@pytest.fixture(scope="module")
def whole(small_bins, tmp_path_factory):
    """A finished run of the plain model, to go on from."""
    folder = tmp_path_factory.mktemp("plain")
    done = run_script("train.py", *training_flags(small_bins, folder, *STEPS))
    assert done.returncode == 0, done.stderr
    return folder / NAME


@pytest.mark.parametrize("flags, settings", [
    (("--attention", "full"), None),
    (("--attention", "shifted_sparse", "--attention_group", 16), {"kind": "shifted_sparse", "group": 16}),
    (("--attention", "dilated", "--dilated_pairs", "8:1", "32:2"), {"kind": "dilated", "pairs": [[8, 1], [32, 2]]}),
    (("--attention", "sliding_window", "--window", 8), {"kind": "sliding_window", "window": 8}),
])
def test_each_attention_is_trained_and_validated(nanogpt, small_bins, whole, tmp_path, flags, settings):
    flags = training_flags(small_bins, "runs", *STEPS, *flags)
    nanogpt("train.py", *flags)
    run_dir = tmp_path / "runs" / NAME
    assert args_of(run_dir)["model"].get("attention") == settings
    model, _ = load_run(run_dir)  # in evaluation: shifted sparse attention is full
    torch.testing.assert_close(saved_losses(run_dir)["by_position"],
                               validation_losses(model, read_tokens(small_bins, "val")), rtol=0, atol=1e-5)
    same = torch.equal(saved_losses(run_dir)["by_position"], saved_losses(whole)["by_position"])
    assert same == (settings is None)
    assert "finished before" in nanogpt("train.py", *flags).stdout


@pytest.mark.parametrize("pairs", [["8:1", "16:2"], [[8, 1], [16, 2]]])  # as flags, as args.json has them
def test_a_configuration_may_hold_lists_and_what_is_not_to_be(nanogpt, small_bins, tmp_path, pairs):
    (tmp_path / "config.json").write_text(json.dumps({"attention": "dilated", "dilated_pairs": pairs,
                                                      "document_mask": False, "untied": False}))
    nanogpt("train.py", "config.json", *training_flags(small_bins, "runs", *STEPS))
    assert args_of(tmp_path / "runs" / NAME)["model"]["attention"]["pairs"] == [[8, 1], [16, 2]]
    refused = nanogpt("train.py", *training_flags(small_bins, "runs", "--attention", "dilated", "--dilated_pairs", "8"),
                      check=False)
    assert refused.returncode == 2 and "8 is not W:R, such as 2048:4" in refused.stderr


def test_going_on_from_an_untied_run_the_model_is_not_tied(tmp_path, capsys):
    (tmp_path / "final.json").write_text("{}")
    (tmp_path / "args.json").write_text('{"arguments": {"context_length": 8}, "model": {"untied": true}}')
    args = parse("", ["--context_length=8", "--train_bin=train.bin", "--no-untied"])
    assert "untied" not in model_shape(args)
    args.init_from = tmp_path
    with pytest.raises(SystemExit, match="2"):
        model_shape(args)
    assert f"--no-untied is not how {tmp_path} was trained" in capsys.readouterr().err
    args.untied = None
    assert model_shape(args)["untied"]


@pytest.fixture(scope="module")
def remembering(small_bins, tmp_path_factory):
    """A finished run with a memory, its checkpoints after every step kept by the flags returned too."""
    folder = tmp_path_factory.mktemp("memory")
    flags = training_flags(small_bins, folder, *STEPS, *MEMORY, "--learning_rate", 1e-2)
    done = run_script("train.py", *flags)
    assert done.returncode == 0, done.stderr
    return folder / NAME, flags


def test_a_run_with_a_memory_validates_rows_in_order(remembering, small_bins):
    run_dir, _ = remembering
    model, _ = load_run(run_dir)
    tokens = read_tokens(small_bins, "val")
    documents = Documents(tokens.numpy(), tokens[-1].item())
    store, found = MemoryStore(8, 2, 8, 64), []
    for step in range(2):  # 16 windows, 8 rows of 2
        starts = np.arange(8) * 64 + 32 * step
        inputs, targets = (torch.stack([tokens[s + shift:s + shift + 32] for s in starts]) for shift in (0, 1))
        with torch.no_grad():
            states = model.hidden(inputs, store=store.segment(slice(None), documents.ids(starts, 32)))
            logits = (states @ model.embedding.weight.T).flatten(0, 1)
        found.append(torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="none").view(8, 32))
    expected = torch.cat(found).double().mean(0)
    torch.testing.assert_close(saved_losses(run_dir)["by_position"], expected, rtol=0, atol=1e-5)
    alone = validation_losses(model, tokens)
    assert (expected - alone).abs().max() > 1e-4  # the memory has been used


def test_training_with_a_memory_adds_every_segment_once_and_in_order(nanogpt, small_bins, tmp_path, monkeypatch):
    added = []
    original = MemoryStore.add
    monkeypatch.setattr(MemoryStore, "add", lambda self, keys, values: (added.append(self.current), original(
        self, keys, values))[1])
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 3, "--eval_interval", 3, *MEMORY,
                                        "--batch_size", 4))
    rows = torch.cat([torch.cat(added[2 * step:2 * step + 2]) for step in range(3)], 1)  # 8 rows, 3 segments of 32
    assert rows.shape == (8, 96)
    steps = rows.diff(dim=1)
    assert ((steps == 0) | (steps == 1) | (steps < -1)).all() and (steps < 0).sum() <= 1  # the ring begins again once


def test_a_stopped_run_with_a_memory_goes_on_to_the_same_bits(remembering, nanogpt, tmp_path, monkeypatch):
    whole, flags = remembering
    flags = [str(flag).replace(str(whole.parent), "runs") for flag in flags]
    step = trainer.Trainer.step

    def stop_after_five(self, number):
        if number == 6:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(trainer.Trainer, "step", stop_after_five)
    nanogpt("train.py", *flags, "--checkpoint_seconds", 0, check=False)
    monkeypatch.undo()
    run_dir = tmp_path / "runs" / NAME
    assert not (run_dir / "final.json").exists() and (run_dir / "ckpt_last.pt").exists()
    nanogpt("train.py", *flags)
    for file in ("best.pt", "losses.pt"):
        ours, theirs = (torch.load(run / file, weights_only=True) for run in (run_dir, whole))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_goes_on_from_another_at_a_longer_context(nanogpt, small_bins, whole, tmp_path):
    flags = training_flags(small_bins, "runs", *STEPS, "--init_from", whole, "--rope_type", "yarn", "--rope_factor", 2,
                           "--learning_rate", 0, "--min_lr", 0, context_length=64)
    nanogpt("train.py", *flags)
    run_dir = tmp_path / "runs" / "ctl64_tok6000_seed0"
    model, _ = load_run(run_dir)
    assert model.rope == {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
    before, after = (torch.load(run / "best.pt", weights_only=True) for run in (whole, run_dir))
    assert all(torch.equal(before[name], after[name]) for name in before)  # at a learning rate of 0
    final = json.loads((run_dir / "final.json").read_text())
    assert final["initial_valid_loss"] == final["best_valid_loss"]
    again = training_flags(small_bins, "again", *STEPS, "--init_from", run_dir, "--attention", "shifted_sparse",
                           context_length=128)
    nanogpt("train.py", *again)
    assert args_of(tmp_path / "again" / "ctl128_tok6000_seed0")["model"]["rope"] == model.rope  # inherited


@pytest.mark.parametrize("rope", [(), *(("--rope_type", kind, "--rope_factor", 2) for kind in ROPE_TYPES)])
def test_lora_is_merged_saved_and_exported(nanogpt, small_bins, whole, tmp_path, rope):
    trainable = ("--trainable", "norms", "embeddings") if rope else ()
    flags = training_flags(small_bins, "runs", *STEPS, "--init_from", whole, "--lora_rank", 4, *trainable, *rope,
                           "--learning_rate", 1e-2, context_length=64)
    nanogpt("train.py", *flags)
    run_dir = tmp_path / "runs" / "ctl64_tok6000_seed0"
    before, after = (torch.load(run / "best.pt", weights_only=True) for run in (whole, run_dir))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if "mlp" in name and "norm" not in name}
    assert changed == (set(before) - frozen if rope else {name for name in before if name.endswith(
        ("query_key_value.weight", "attention_out.weight"))})
    model, _ = load_run(run_dir)
    expected = saved_losses(run_dir)["by_position"]
    tokens = read_tokens(small_bins, "val")
    with torch.no_grad():
        logits = model(tokens[:512].view(8, 64))
        found = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:513], reduction="none").view(8, 64)
    torch.testing.assert_close(found.double().mean(0), expected, rtol=0, atol=1e-5)  # of the model before merging
    nanogpt("export_hf.py", run_dir, "--out_dir", "model")
    from transformers import AutoModelForCausalLM
    neox = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        theirs = neox(tokens[:512].view(8, 64)).logits
    torch.testing.assert_close(theirs, logits[..., :theirs.shape[-1]], rtol=0, atol=1e-4)
    assert "finished before" in nanogpt("train.py", *flags).stdout


def cut_documents(source, folder):
    """A copy of a token file whose documents have 9 tokens."""
    tokens = np.fromfile(source, np.uint16)
    tokens[9::10] = tokens[-1]
    path = folder / Path(source).name
    tokens.tofile(path)
    about = json.loads(Path(source).with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**about, "sha256": "short"}))
    return path


def test_a_document_mask_on_a_mix(nanogpt, small_bins, tmp_path):
    for split in ("train", "val"):
        source = str(small_bins).replace("train", split)
        nanogpt("data/mix.py", "--long", source, "--short", cut_documents(source, tmp_path), "--long_share", 0.5,
                "--window", 64, "--out_dir", "mixes")
    mix = tmp_path / "mixes" / "MIX_train_L0.5_W64.bin"
    flags = training_flags(mix, "runs", *STEPS, "--document_mask", train_tokens=64 * 90)
    nanogpt("train.py", *flags)
    run_dir = tmp_path / "runs" / "ctl32_tok5760_seed0"
    model, _ = load_run(run_dir)
    tokens = read_tokens(mix, "val")
    ids = Documents(tokens.numpy(), tokens[-1].item()).ids(np.arange(0, 512, 32), 32)
    assert (ids != ids[:, :1]).any()
    masked = validation_losses(model, tokens, documents=ids)
    torch.testing.assert_close(saved_losses(run_dir)["by_position"], masked, rtol=0, atol=1e-5)
    assert (masked - validation_losses(model, tokens)).abs().max() > 1e-4
    windows = TrainingWindows(np.arange(64 * 90), 32, 0, 64)
    starts = windows.starts(range(2 * windows.per_epoch, 3 * windows.per_epoch))
    assert (starts % 32 == 0).all() and len(set(starts % (64 * 90))) == 180
    part = TokenFile(mix, 64 * 50, seed=3).tokens
    assert len(part) == 64 * 50 and (part[63::64] == tokens[-1].item()).all()
    for more, message in ((("--context_length", 48, "--tokens_per_step", 192, "--eval_tokens", 480), "must divide it"),
                          (("--train_tokens", 5000), "multiple of it")):
        done = nanogpt("train.py", *training_flags(mix, "others", *STEPS, *more), check=False)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flags, message", [
    (("--attention", "shifted_sparse", "--attention_group", 24), "divide the context length 32"),
    (("--attention", "dilated"), "dilation 1"),
    (("--attention", "dilated", "--dilated_pairs", "16:2"), "dilation 1"),
    (("--attention", "dilated", "--dilated_pairs", "16"), "--dilated_pairs"),
    (("--attention", "sliding_window"), "--window"),
    (("--window", 8), "is for --attention sliding_window"),
    (("--attention", "sparse"), "--attention"),
    (("--memory_layer", 1), "--memory_tokens"),
    (("--memory_tokens", 64, "--memory_layer", 3), "beyond the 2 blocks"),
    ((*MEMORY, "--dry_run"), "does not take --dry_run"),
    ((*MEMORY, "--compile"), "does not take --compile"),
    (("--init_from", "nothing"), "no finished run"),
    (("--lora_rank", 4), "--init_from"),
    (("--trainable", "norms"), "--lora_rank"),
    (("--rope_factor", 2), "--rope_type"),
    (("--rope_type", "linear"), "--rope_factor"),
    (("--rope_type", "linear", "--rope_factor", 0.5), "at least 1"),
    (("--rope_type", "yarn", "--rope_factor", 2), "--init_from"),
])
def test_bad_input_is_one_line(nanogpt, small_bins, flags, message):
    done = nanogpt("train.py", *training_flags(small_bins, "runs", *STEPS, *flags), check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_another_shape_or_tokenizer_than_the_run_gone_on_from_is_refused(nanogpt, small_bins, whole, tmp_path):
    flags = training_flags(small_bins, "runs", *STEPS, "--init_from", whole, "--n_layer", 3)
    done = nanogpt("train.py", *flags, check=False)
    assert done.returncode == 2 and "--n_layer 3 is not that of" in done.stderr
    description = args_of(whole)
    description["data"]["train"]["tokenizer_sha256"] = "0"
    other = tmp_path / "other"
    other.mkdir()
    for name in ("final.json", "best.pt"):
        (other / name).write_bytes((whole / name).read_bytes())
    (other / "args.json").write_text(json.dumps(description))
    done = nanogpt("train.py", *training_flags(small_bins, "runs", *STEPS, "--init_from", other), check=False)
    assert done.returncode == 2 and "different tokenizers" in done.stderr


def test_a_run_goes_on_from_the_run_of_its_seed_in_a_directory(nanogpt, small_bins, tmp_path):
    """Where there are two of a seed, or none, it is not guessed."""
    for seed in (0, 1):
        nanogpt("train.py", *training_flags(small_bins, "base", *STEPS, "--seed", seed))
    for seed in (0, 1):
        nanogpt("train.py", *training_flags(small_bins, "tuned", *STEPS, "--seed", seed, "--init_from", "base",
                                            context_length=64))
        assert args_of(tmp_path / f"tuned/ctl64_tok6000_seed{seed}")["arguments"]["init_from"] == \
            f"base/ctl32_tok6000_seed{seed}"
    nanogpt("collect_results.py", "--runs", "tuned")  # each seed from weights of its own, they are one sweep
    nanogpt("train.py", *training_flags(small_bins, "base", *STEPS, context_length=64))
    for seed, number in ((0, 2), (5, 0)):
        done = nanogpt("train.py", *training_flags(small_bins, "more", *STEPS, "--init_from", "base", "--seed", seed),
                       check=False)
        assert done.returncode == 2 and f"base has {number} finished runs of seed {seed}" in done.stderr


def test_a_run_with_a_memory_goes_on_with_it(nanogpt, small_bins, remembering, tmp_path):
    nanogpt("train.py", *training_flags(small_bins, "runs", *STEPS, "--init_from", remembering[0]))
    model = args_of(tmp_path / "runs" / NAME)["model"]
    assert model["memory"] == {"tokens": 64, "layer": 1, "neighbours": 4} and not compiles(model)


def test_memory_is_for_one_process(capsys):
    with pytest.raises(SystemExit):
        refuse_what_memory_cannot(SimpleNamespace(dry_run=False, compile=False), {"memory": {}},
                                  SimpleNamespace(world=2))
    assert "one process" in capsys.readouterr().err


def test_what_gpt_neox_has_not_is_not_exported(nanogpt, remembering):
    done = nanogpt("export_hf.py", remembering[0], "--out_dir", "model", check=False)
    assert done.returncode == 2 and "cannot be exported" in done.stderr


def test_a_sweep_knows_that_a_cell_with_these_flags_has_finished(nanogpt, small_bins, tmp_path):
    grid = ("--context_lengths", 32, "--train_tokens", 6000, "--seeds", 0, "--train_bin", small_bins, "--out_dir",
            "runs")
    flags = training_flags(small_bins, "runs", *STEPS, "--attention", "dilated", "--dilated_pairs", "8:1", "16:2")
    nanogpt("train.py", *flags)
    own = flags[flags.index("--n_layer"):]
    done = nanogpt("sweep.py", *grid, "--missing", *own)
    assert NAME not in done.stdout
    done = nanogpt("sweep.py", *grid, "--missing", *own[:-1], "32:2", check=False)
    assert done.returncode == 2 and "attention pairs" in done.stderr and done.stderr.count("\n") == 1
