"""train.py: the loss curve, how a step is computed, memory, flags, and what it refuses."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trainer
from finished_runs import losses, result
from helpers import FOLDER, TINY, run_script, training_flags
from model import compiled_loss_and_gradient
from run import load_run

# Training losses of the first ten steps of the tiny settings.
SMOKE_LOSSES = [5.7733948, 5.7668949, 5.7673839, 5.7385838, 5.7151123, 5.6971105, 5.6519782, 5.6153024, 5.5556670,
                5.5034944]


def test_the_first_losses_are_the_stored_ones(nanogpt, small_bins, tmp_path):
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 10, "--eval_interval", 1, "--patience", 100))
    assert losses(tmp_path / "runs" / "ctl32_tok6000_seed0") == pytest.approx(SMOKE_LOSSES, abs=2e-5)


@pytest.fixture(scope="module")
def whole(small_bins, tmp_path_factory):
    """The directory of a run of 12 steps, each of one pass."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_script("train.py", *training_flags(small_bins, folder, "--max_iters", 12, "--eval_interval", 1))
    assert done.returncode == 0, done.stderr
    return folder / "ctl32_tok6000_seed0"


def assert_close_runs(run_dir, other):
    """Equal but for the rounding of sums in another order."""
    for column in ("train_loss", "valid_loss"):
        assert losses(run_dir, column) == pytest.approx(losses(other, column), abs=1e-5)
    saved = [torch.load(folder / "losses.pt", weights_only=True) for folder in (run_dir, other)]
    for reading in ("by_position", "full_context"):
        torch.testing.assert_close(saved[0][reading], saved[1][reading], rtol=0, atol=1e-4)


def test_accumulation_gives_the_same_losses(whole, nanogpt, small_bins, tmp_path):
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 12, "--eval_interval", 1, "--batch_size", 1,
                                        "--gradient_accumulation_steps", 8))
    assert_close_runs(tmp_path / "runs" / whole.name, whole)


@pytest.mark.slow
def test_two_processes_give_the_same_losses(whole, small_bins, tmp_path):
    flags = training_flags(small_bins, "runs", "--max_iters", 12, "--eval_interval", 1, "--batch_size", 2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(FOLDER / "train.py"), *map(str, flags)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_close_runs(tmp_path / "runs" / whole.name, whole)
    assert result(tmp_path / "runs" / whole.name)["processes"] == 2


def test_where_memory_does_not_suffice_a_pass_is_halved(whole, nanogpt, small_bins, tmp_path, monkeypatch):
    """A device that holds the states of three windows: 8 -> 4 -> 2, the same losses, one line each time."""
    def small_device(compute):
        def limited(states, *others):
            if len(states) > 3 * 32:
                raise torch.OutOfMemoryError("CUDA out of memory (said by a test)")
            return compute(states, *others)
        return limited

    monkeypatch.setattr(trainer, "summed_cross_entropy", small_device(trainer.summed_cross_entropy))
    monkeypatch.setattr(trainer, "cross_entropies", small_device(trainer.cross_entropies))
    done = nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 12, "--eval_interval", 1))
    assert_close_runs(tmp_path / "runs" / whole.name, whole)
    assert [line.split(";")[1] for line in done.stderr.splitlines() if "out of memory" in line] == [
        " goes on with 4, as --batch_size 4 would", " goes on with 2, as --batch_size 2 would"]
    nothing = SimpleNamespace(load_state_dict=lambda state: None)
    for saved, size in ((2, 2), (8, 4)):  # a run that goes on does not try more than it had come to
        resumed = object.__new__(trainer.Trainer)
        resumed.args, resumed.store = SimpleNamespace(batch_size=4), None
        resumed.model = resumed.optimizer = resumed.scaler = nothing
        resumed.load({"weights": {}, "optimizer": {}, "scaler": {}, "batch_size": saved})
        assert resumed.args.batch_size == size
    done = nanogpt("train.py", *training_flags(small_bins, "runs", "--overwrite", "--max_iters", 12, "--context_length",
                                               128), check=False)
    assert done.returncode == 2 and "one window of 128 tokens in a pass needs more" in done.stderr.splitlines()[-1]


def test_nothing_is_compiled_again_for_a_last_pass_that_is_not_full(whole, nanogpt, small_bins, tmp_path, monkeypatch):
    """Once with gradients, once without, and the loss of a chunk; 41 targets are five passes of 8 and a rest."""
    shapes, compile_model = [], torch.compile

    def backend(graph, inputs):
        shapes.append([tuple(value.shape) for value in inputs if isinstance(value, torch.Tensor)][-1])
        return graph.forward

    compiled_loss_and_gradient.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **more: compile_model(function, backend=backend, **more))
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 12, "--eval_interval", 1, "--compile",
                                        "--full_context_targets", 41))
    run_dir = tmp_path / "runs" / whole.name
    assert losses(run_dir, "valid_loss") == pytest.approx(losses(whole, "valid_loss"), abs=1e-5)
    assert len(torch.load(run_dir / "losses.pt", weights_only=True)["full_context"]) == 41
    assert len(shapes) == 3, shapes
    compiled_loss_and_gradient.cache_clear()


def test_a_compiler_that_fails_is_one_line(nanogpt, small_bins, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no C compiler here")

    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **more: compile_model(function, backend=backend, **more))
    done = nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 2, "--compile"), check=False)
    assert done.returncode == 2 and "add --no-compile" in done.stderr.splitlines()[-1]


def test_a_dry_run_measures_and_writes_nothing(nanogpt, small_bins, tmp_path):
    flags = training_flags(small_bins, "runs", "--batch_size", 2, "--max_iters", 100, "--dry_run")
    cost = json.loads(nanogpt("train.py", *flags).stdout)
    assert (cost["windows_in_a_pass"], cost["passes_in_a_step"], cost["context_length"]) == (2, 4, 32)
    assert cost["peak_memory_gigabytes"] > 0.01 and 0 < cost["seconds_a_step"] < 60
    steps, evaluations = 100, 20 + 1 + 40 * 32 / 512  # both readings of the best weights are the last ones
    assert cost["hours"] * 3600 == pytest.approx(steps * cost["seconds_a_step"]
                                                 + evaluations * cost["seconds_an_evaluation"])
    assert list(tmp_path.iterdir()) == []


def test_the_seconds_of_a_run_hold_its_last_measurement(nanogpt, small_bins, tmp_path, monkeypatch):
    def slow(self):
        time.sleep(2)
        return full_context_losses(self)

    full_context_losses = trainer.Trainer.full_context_losses
    monkeypatch.setattr(trainer.Trainer, "full_context_losses", slow)
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 5))
    run_dir = tmp_path / "runs" / "ctl32_tok6000_seed0"
    assert 2 < json.loads((run_dir / "final.json").read_text())["seconds"] - losses(run_dir, "seconds")[-1] < 4


def test_measuring_keeps_no_losses_of_earlier_passes(nanogpt, small_bins, tmp_path, monkeypatch):
    """Small tensors that live on break up the freed memory, which then grows without bound where passes are many."""
    def watched(self, *arguments):
        alive.append(sum(part() is not None for part in parts))
        parts.append(weakref.ref(found := batch_losses(self, *arguments)))
        return found

    alive, parts, batch_losses = [], [], trainer.Trainer.batch_losses
    monkeypatch.setattr(trainer.Trainer, "batch_losses", watched)
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 2, "--eval_interval", 2, "--batch_size", 2))
    assert len(alive) > 30 and max(alive) <= 1


def test_both_readings_are_those_of_brute_force(nanogpt, small_bins, tmp_path):
    """The best weights, window by window, from the token file itself."""
    nanogpt("train.py", *training_flags(small_bins, "runs", "--max_iters", 10))
    run_dir = tmp_path / "runs" / "ctl32_tok6000_seed0"
    model, _ = load_run(run_dir)
    valid = np.fromfile(str(small_bins).replace("train", "val"), np.uint16).astype(np.int64)
    valid = torch.from_numpy(valid)

    def window_losses(last):  # of the 32 tokens up to and with the token `last`
        logits = model(valid[None, last - 32:last])[0]
        return torch.nn.functional.cross_entropy(logits, valid[last - 31:last + 1], reduction="none")

    with torch.no_grad():
        by_position = torch.stack([window_losses(last) for last in range(32, 513, 32)]).mean(0)
        half = len(valid) // 2
        targets = [half + k * (len(valid) - half) // 40 for k in range(40)]
        full = torch.stack([window_losses(target)[-1] for target in targets])
    saved = torch.load(run_dir / "losses.pt", weights_only=True)
    torch.testing.assert_close(saved["by_position"].float(), by_position, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(saved["full_context"].float(), full, rtol=1e-4, atol=1e-5)
    final = result(run_dir)
    assert final["best_valid_loss"] == pytest.approx(by_position.mean().item(), abs=1e-5)
    assert final["full_context_loss"] == pytest.approx(full.mean().item(), abs=1e-5)
    assert final["best_valid_loss"] == min(losses(run_dir, "valid_loss"))


def test_weights_on_the_way_are_those_of_a_shorter_run(whole, nanogpt, small_bins, tmp_path):
    """12 steps of 256 tokens; after 500 tokens two steps have been made."""
    kept, short = (training_flags(small_bins, name, "--max_iters", steps, "--eval_interval", 1, *more)
                   for name, steps, more in (("kept", 12, ("--keep_tokens", 500, 3072)), ("short", 2, ())))
    nanogpt("train.py", *kept)
    nanogpt("train.py", *short)
    for name, other in (("kept_500.pt", tmp_path / "short" / whole.name), ("kept_3072.pt", whole)):
        weights = [torch.load(path, weights_only=True) for path in (tmp_path / "kept" / whole.name / name,
                                                                     other / "best.pt")]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    nanogpt("export_hf.py", tmp_path / "kept" / whole.name, "--weights", "kept_500.pt", "--out_dir", "model")
    assert torch.equal(load_file(tmp_path / "model" / "model.safetensors")["gpt_neox.final_layer_norm.weight"],
                       torch.load(tmp_path / "short" / whole.name / "best.pt", weights_only=True)["final_norm.weight"])
    assert "no kept_7.pt" in nanogpt("export_hf.py", tmp_path / "kept" / whole.name, "--weights", "kept_7.pt",
                                     "--out_dir", "other", check=False).stderr


def test_flags_count_more_than_the_configuration_wherever_they_stand(nanogpt, small_bins, tmp_path):
    config = {"context_length": 64, "train_bin": str(small_bins), "max_iters": 3, "compile": False, "seed": 4,
              "train_tokens": 3000, "dropout": 0.0, "bias": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    keys = ("--block_size=32", "--compile=False", "--decay_lr=True", "--init_from=scratch", "--dropout=0")  # nanoGPT's
    nanogpt("train.py", "--seed=5", "config.json", *keys, "--out_dir", "runs", *TINY)
    saved = json.loads((tmp_path / "runs" / "ctl32_tok3000_seed5" / "args.json").read_text())["arguments"]
    assert (saved["max_iters"], saved["warmup_iters"], saved["compile"]) == (3, 10, False)
    for wrong, message in (({"max_iters": -3}, "--max_iters"), ({"dtype": "int8"}, "--dtype"),
                           ({"n_layers": 3}, "n_layers, which train.py does not know"), ([3], "no JSON object"),
                           ({"data_seed": False}, "--no-data_seed")):
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        done = nanogpt("train.py", "config.json", check=False)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_warm_up_in_passes_over_the_data(nanogpt, small_bins, tmp_path):
    nanogpt("train.py", *training_flags(small_bins, "runs", "--warmup_epochs", 0.5, "--max_iters", 20,
                                        "--eval_interval", 1, "--patience", 100, "--lr_decay_iters", 20))
    rates = losses(tmp_path / "runs" / "ctl32_tok6000_seed0", "learning_rate")
    warm_up = 12  # half of 6,000 tokens in steps of 256, rounded up
    assert rates[:warm_up] == pytest.approx([3e-3 * step / 13 for step in range(1, 13)])
    assert rates[warm_up] > rates[-1] == pytest.approx(6e-5)


@pytest.mark.parametrize("flags, message", [
    (("--context_length", 48), "not a multiple of the context length 48 times 1 processes; 240 or 288 would"),
    (("--context_length", 512), "times 1 processes; 512 would"),
    (("--batch_size", 3), "1, 2, 4, 8 would"),
    (("--gradient_accumulation_steps", 5), "1 does, or leave it out"),
    (("--context_length", 8192, "--tokens_per_step", 8192), "context length of 8192 needs more than"),
    (("--train_tokens", 10**7), "fewer than the 10000000 asked for"),
    (("--eval_tokens", 500), "multiple of the context length"),
    (("--eval_tokens", 512 * 1000), "is the most for this context length"),
    (("--vocab_size", 256), "below the corpus's vocabulary of 300"),
    (("--train_bin", "mine.bin"), "has no \"train\" in its name"),
    (("--val_bin", "TRAIN"), "are the same tokens"),
    (("--n_head", 3), "--n_embd 16 must be a multiple of 4 x --n_head 3"),
    (("--train_bin", "no_train.bin"), "cannot read"),
    (("--learning_rate", "-1"), "--learning_rate"),
    (("--dtype", "int8"), "--dtype"),
    (("--device", "cuda:77"), "--device"),
    (("--seed", 2**63), "--seed"),
    (("--dropout=0.1",), "--dropout can only be 0: there is no dropout here"),
    (("--bias",), "--bias can only be False"),
    (("--eval_iters=200",), "give --eval_tokens"),
    (("absent.json",), "cannot read the configuration"),
    (("broken.json",), "is not JSON"),
])
def test_bad_input_is_one_line_and_code_2(nanogpt, small_bins, tmp_path, flags, message):
    (tmp_path / "broken.json").write_text("n_layer = 3")
    flags = [small_bins if flag == "TRAIN" else flag for flag in flags]
    done = nanogpt("train.py", *training_flags(small_bins, "runs", *flags, "--max_iters", 1), check=False)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_weights_and_biases_that_is_not_there(nanogpt, small_bins, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = nanogpt("train.py", *training_flags(small_bins, "runs", "--wandb"), check=False)
    assert done.returncode == 2 and "pip install wandb" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_damaged_token_files_are_refused(nanogpt, small_bins, tmp_path):
    shutil.copytree(small_bins.parent, tmp_path / "data", ignore=shutil.ignore_patterns("texts"))
    train, val = (tmp_path / "data" / small_bins.name.replace("train", split) for split in ("train", "val"))

    def refused(message):
        done = nanogpt("train.py", *training_flags(train, "runs", "--max_iters", 1), check=False)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr

    whole = train.read_bytes()
    train.write_bytes(whole[:-2])
    refused("cut short")
    train.write_bytes(b"\xff\x7f" + whole[2:])
    refused("beyond its vocabulary of 300")
    train.write_bytes(whole)
    tokenizer = train.with_name(train.with_suffix(".json").name.replace("train", "tokenizer"))
    text = tokenizer.read_text()
    tokenizer.write_text(text[:1000])
    refused("or cut short")
    tokenizer.unlink()
    refused("belongs beside the tokens")
    tokenizer.write_text(text)
    about = json.loads(val.with_suffix(".json").read_text())
    other = '{"another": "tokenizer"}'
    (val.parent / "other.json").write_text(other)
    about["tokenizer"] |= {"file": "other.json", "sha256": hashlib.sha256(other.encode()).hexdigest()}
    val.with_suffix(".json").write_text(json.dumps(about))
    refused("different vocabularies")
    val.with_suffix(".json").write_text("{}")
    refused("does not describe tokens")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_losses_of_the_cpu(nanogpt, small_bins, tmp_path):
    for device in ("cpu", "cuda"):
        nanogpt("train.py", *training_flags(small_bins, device, "--max_iters", 10, "--eval_interval", 1, "--dtype",
                                            "float32", "--device", device))
    runs = [losses(tmp_path / device / "ctl32_tok6000_seed0") for device in ("cpu", "cuda")]
    assert runs[1] == pytest.approx(runs[0], abs=1e-4)
