"""train.py as a user runs it: the loss curve, resuming, checkpoints, early stopping, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from helpers import FOLDER, TIMINGS, TINY
from script_process import run_script, start_script

# Training losses of the first ten steps of the tiny settings.
SMOKE_LOSSES = [5.77339, 5.76689, 5.76738, 5.73858, 5.71511, 5.69711, 5.65198, 5.61530, 5.55567, 5.50349]


def read_metrics(run_dir):
    with open(run_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def losses(run_dir, column="train_loss"):
    return [float(row[column]) for row in read_metrics(run_dir)]


def result(run_dir, *without):
    final = json.loads((run_dir / "final.json").read_text())
    return {name: value for name, value in final.items() if name not in (*TIMINGS, *without)}


def assert_same_run(one, other):
    """Equal to the last bit, but for the timings."""
    assert result(one) == result(other)
    assert [{name: row[name] for name in row if name not in TIMINGS} for row in read_metrics(one)] == \
        [{name: row[name] for name in row if name not in TIMINGS} for row in read_metrics(other)]
    for file in ("best.pt", "losses.pt"):
        tensors = [torch.load(run / file, weights_only=True) for run in (one, other)]
        assert tensors[0].keys() == tensors[1].keys()
        assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def arguments(bins, out_dir, *more, context_length=32, train_tokens=6000):
    return ("--context_length", context_length, "--train_bin", bins, "--train_tokens", train_tokens, "--out_dir",
            out_dir, *TINY, *more)


def test_the_first_losses_are_the_stored_ones(nanogpt, small_bins, tmp_path):
    nanogpt("train.py", *arguments(small_bins, "runs", "--max_iters", 10, "--eval_interval", 1, "--patience", 100))
    assert losses(tmp_path / "runs" / "ctl32_tok6000_seed0") == pytest.approx(SMOKE_LOSSES, abs=2e-4)


def test_accumulation_and_processes_give_the_same_losses(nanogpt, small_bins, tmp_path):
    found = {}
    for name, more in (("whole", ()), ("two", ("--batch_size", 2)),
                       ("accumulated", ("--batch_size", 1, "--gradient_accumulation_steps", 8))):
        flags = arguments(small_bins, name, "--max_iters", 12, "--eval_interval", 1, *more)
        if name == "two":
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                       str(FOLDER / "train.py"), *map(str, flags)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
        else:
            nanogpt("train.py", *flags)
        run_dir = tmp_path / name / "ctl32_tok6000_seed0"
        found[name] = losses(run_dir), losses(run_dir, "valid_loss"), torch.load(run_dir / "losses.pt"), result(run_dir)
    for name in ("accumulated", "two"):
        for column in (0, 1):
            assert found[name][column] == pytest.approx(found["whole"][column], abs=1e-5)
        for reading in ("by_position", "full_context"):
            torch.testing.assert_close(found[name][2][reading], found["whole"][2][reading], rtol=0, atol=1e-4)
    assert [found[name][3]["processes"] for name in ("whole", "two")] == [1, 2]


def test_both_readings_are_those_of_brute_force(nanogpt, small_bins, tmp_path):
    """The best weights, window by window, from the token file itself."""
    import numpy as np

    from export_hf import load_run
    nanogpt("train.py", *arguments(small_bins, "runs", "--max_iters", 10))
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


@pytest.fixture(scope="module")
def finished(small_bins, tmp_path_factory):
    """A run that overfits and stops early, and its flags."""
    folder = tmp_path_factory.mktemp("finished")
    flags = arguments(small_bins, folder / "runs", "--learning_rate", 1e-2, "--patience", 3, "--checkpoint_seconds", 0,
                      "--max_iters", 2000, context_length=16, train_tokens=1500)
    done = run_script(FOLDER / "train.py", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "ctl16_tok1500_seed0", [str(flag) for flag in flags]


def test_training_stops_when_the_loss_has_turned_up(finished):
    run_dir, _ = finished
    curve = losses(run_dir, "valid_loss")
    final = result(run_dir)
    assert final["stopped"] == "early" and final["last_step"] < 2000
    assert min(curve) == curve[-4] == final["best_valid_loss"] < curve[0] - 0.3
    assert final["best_step"] == int(read_metrics(run_dir)[-4]["step"])
    assert not (run_dir / "ckpt_last.pt").exists() and (run_dir / "tokenizer.json").exists()


@pytest.mark.parametrize("seconds, how", [(0.4, signal.SIGKILL), (1.1, signal.SIGKILL), (0.8, signal.SIGTERM)])
def test_a_killed_run_goes_on_to_the_same_bits(finished, tmp_path, seconds, how):
    whole, flags = finished
    flags = [flag.replace(str(whole.parent), str(tmp_path)) for flag in flags]
    run_dir = tmp_path / whole.name
    process = start_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    while not (run_dir / "ckpt_last.pt").exists():
        assert process.is_alive()
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, how)
    process.join()
    assert process.exitcode == -how
    assert not (run_dir / "final.json").exists()
    done = run_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(run_dir, whole)


def test_a_damaged_checkpoint_is_not_used(finished, tmp_path):
    """One bit of the last one is turned: the one before it is used, to the same result; of both: refused."""
    whole, flags = finished
    flags = [flag.replace(str(whole.parent), str(tmp_path)) for flag in flags]
    run_dir = tmp_path / whole.name
    process = start_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    while not (run_dir / "ckpt_prev.pt").exists():
        time.sleep(0.01)
    process.terminate()  # it saves once more and ends, so that both files are there
    process.join()
    saved = {name: bytearray((run_dir / name).read_bytes()) for name in ("ckpt_last.pt", "ckpt_prev.pt")}
    for name, contents in saved.items():
        weights = torch.load(run_dir / name, weights_only=True)["weights"]["embedding.weight"]
        contents[contents.index(weights.numpy().tobytes())] ^= 1  # not in what fills the gaps of the archive
    backup = shutil.copytree(run_dir, tmp_path / "backup")
    for name, contents in saved.items():
        (run_dir / name).write_bytes(contents)
    done = run_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and "no checkpoint" in done.stderr.splitlines()[-1]
    shutil.copyfile(backup / "ckpt_prev.pt", run_dir / "ckpt_prev.pt")
    done = run_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    assert done.returncode == 0 and "ckpt_last.pt is damaged and not used" in done.stderr
    assert_same_run(run_dir, whole)


def test_a_finished_run_is_skipped_and_other_arguments_are_refused(finished):
    run_dir, flags = finished
    before = (run_dir / "final.json").stat().st_mtime_ns
    done = run_script(FOLDER / "train.py", *flags, cwd=run_dir)
    assert done.returncode == 0 and "finished before" in done.stdout
    done = run_script(FOLDER / "train.py", *flags, "--weight_decay", 0.2, cwd=run_dir)
    assert done.returncode == 2 and "weight_decay 0.1, not 0.2" in done.stderr and done.stderr.count("\n") == 1
    assert (run_dir / "final.json").stat().st_mtime_ns == before


def test_a_second_process_on_the_same_run_is_refused(finished, tmp_path):
    import fcntl
    whole, flags = finished
    flags = [flag.replace(str(whole.parent), str(tmp_path)) for flag in flags]
    (tmp_path / whole.name).mkdir()
    with open(tmp_path / whole.name / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run_script(FOLDER / "train.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and "another process" in done.stderr and done.stderr.count("\n") == 1


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(nanogpt, small_bins, tmp_path):
    flags = arguments(small_bins, "runs", "--max_iters", 60, "--learning_rate", 1e30, "--warmup_iters", 0,
                      "--grad_clip", 0, "--checkpoint_seconds", 0)
    done = nanogpt("train.py", *flags, check=False)
    assert done.returncode == 2 and "NaN or infinite in step" in done.stderr
    run_dir = tmp_path / "runs" / "ctl32_tok6000_seed0"
    assert not (run_dir / "final.json").exists()
    weights = torch.load(run_dir / "ckpt_last.pt", weights_only=True)["weights"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, capsys):
    """What torch.save raises on a full disk, half-way through the file."""
    import run
    run.save_checkpoint(tmp_path, {"step": 1})
    run.save_checkpoint(tmp_path, {"step": 2})

    def full(contents, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit) as stop:
        run.save_checkpoint(tmp_path, {"step": 3})
    assert stop.value.code == 2 and "free some space" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt_last.pt", "ckpt_prev.pt"]
    assert run.load_checkpoint(tmp_path, "cpu") == {"step": 2}


def test_flags_count_more_than_the_configuration_wherever_they_stand(nanogpt, small_bins, tmp_path):
    config = {"context_length": 64, "train_bin": str(small_bins), "max_iters": 3, "compile": False, "seed": 4,
              "train_tokens": 3000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    nanogpt("train.py", "--seed=5", "config.json", "--block_size=32", "--out_dir", "runs", *TINY)
    saved = json.loads((tmp_path / "runs" / "ctl32_tok3000_seed5" / "args.json").read_text())["arguments"]
    assert (saved["max_iters"], saved["warmup_iters"]) == (3, 10)


def test_warm_up_in_passes_over_the_data(nanogpt, small_bins, tmp_path):
    nanogpt("train.py", *arguments(small_bins, "runs", "--warmup_epochs", 0.5, "--max_iters", 20, "--eval_interval", 1,
                                   "--patience", 100, "--lr_decay_iters", 20))
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
    (("--n_head", 3), "--n_embd 16 must be a multiple of 4 x --n_head 3"),
    (("--train_bin", "nowhere.bin"), "cannot read"),
    (("--learning_rate", "-1"), "--learning_rate"),
    (("--dtype", "int8"), "--dtype"),
    (("--device", "cuda:77"), "--device"),
    (("absent.json",), "cannot read the configuration"),
    (("unknown.json",), "n_layers"),
    (("broken.json",), "is not JSON"),
])
def test_bad_input_is_one_line_and_code_2(nanogpt, small_bins, tmp_path, flags, message):
    (tmp_path / "unknown.json").write_text('{"n_layers": 3}')
    (tmp_path / "broken.json").write_text("n_layer = 3")
    done = nanogpt("train.py", *arguments(small_bins, "runs", *flags, "--max_iters", 1), check=False)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_weights_and_biases_that_is_not_there(small_bins, tmp_path):
    (tmp_path / "wandb.py").write_text("raise ImportError('not here')")
    command = [sys.executable, str(FOLDER / "train.py"), *map(str, arguments(small_bins, "runs", "--wandb"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert done.returncode == 2 and "pip install wandb" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_damaged_token_files_are_refused(nanogpt, small_bins, tmp_path):
    shutil.copytree(small_bins.parent, tmp_path / "data", ignore=shutil.ignore_patterns("texts"))
    train, val = (tmp_path / "data" / small_bins.name.replace("train", split) for split in ("train", "val"))

    def refused(message):
        done = nanogpt("train.py", *arguments(train, "runs", "--max_iters", 1), check=False)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr

    whole = train.read_bytes()
    train.write_bytes(whole[:-2])
    refused("cut short")
    train.write_bytes(b"\xff\x7f" + whole[2:])
    refused("beyond its vocabulary of 300")
    train.write_bytes(whole)
    tokenizer = train.with_name(train.with_suffix(".json").name.replace("train", "tokenizer"))
    tokenizer.rename(tmp_path / "elsewhere")
    refused("belongs beside the tokens")
    (tmp_path / "elsewhere").rename(tokenizer)
    about = json.loads(val.with_suffix(".json").read_text())
    about["tokenizer"]["sha256"] = "0" * 64
    val.with_suffix(".json").write_text(json.dumps(about))
    refused("different vocabularies")
    val.with_suffix(".json").write_text("{}")
    refused("does not describe tokens")


def test_weights_and_biases_is_not_imported():
    code = "import sys; import train; assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_losses_of_the_cpu(nanogpt, small_bins, tmp_path):
    for device in ("cpu", "cuda"):
        nanogpt("train.py", *arguments(small_bins, device, "--max_iters", 10, "--eval_interval", 1, "--dtype",
                                       "float32", "--device", device))
    runs = [losses(tmp_path / device / "ctl32_tok6000_seed0") for device in ("cpu", "cuda")]
    assert runs[1] == pytest.approx(runs[0], abs=1e-4)
