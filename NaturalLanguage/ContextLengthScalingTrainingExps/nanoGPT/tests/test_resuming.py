"""train.py: early stopping, checkpoints, going on from them, and runs that are finished or at work."""

import fcntl
import shutil
import signal
import threading
import time

import pytest
import torch

import checkpoints
from finished_runs import assert_same_run, losses, read_metrics, result
from helpers import run_script, start_script, training_flags


@pytest.fixture(scope="module")
def finished(small_bins, tmp_path_factory):
    """A run that overfits and stops early, and its flags."""
    folder = tmp_path_factory.mktemp("finished")
    flags = training_flags(small_bins, folder / "runs", "--learning_rate", 1e-2, "--patience", 3,
                           "--checkpoint_seconds", 0, "--max_iters", 2000, context_length=16, train_tokens=1500)
    done = run_script("train.py", *flags)
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


@pytest.fixture(scope="module")
def long_run(finished, tmp_path_factory):
    """The same run without an early stop, long enough that seconds are left of it behind its second checkpoint."""
    run_dir, flags = finished
    folder = tmp_path_factory.mktemp("long")
    flags = [flag.replace(str(run_dir.parent), str(folder)) for flag in flags]
    flags += ["--patience", "1000", "--max_iters", "700"]
    done = run_script("train.py", *flags)
    assert done.returncode == 0, done.stderr
    return folder / run_dir.name, flags


def start_again_elsewhere(long_run, folder):
    """The flags of the long run for another folder, its directory there, and a process that has begun with them."""
    whole, flags = long_run
    flags = [flag.replace(str(whole.parent), str(folder)) for flag in flags]
    process = start_script("train.py", *flags, cwd=folder)
    while not (folder / whole.name / "ckpt_prev.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return flags, folder / whole.name, process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_bits(long_run, tmp_path, how):
    flags, run_dir, process = start_again_elsewhere(long_run, tmp_path)
    process.send_signal(how)
    if how == signal.SIGINT:
        time.sleep(0.01)
        process.send_signal(how)  # an impatient user
    _, errors = process.communicate()
    assert process.returncode == -how and not (run_dir / "final.json").exists()
    if how == signal.SIGINT:
        assert "saved after step" in errors.splitlines()[-1]
        assert "Traceback" not in errors and "\r" not in errors
    done = run_script("train.py", *flags)
    assert done.returncode == 0, done.stderr
    assert_same_run(run_dir, long_run[0])


def test_a_damaged_checkpoint_is_not_used(long_run, tmp_path):
    """One bit of the last one is turned: the one before it is used, to the same result; of both: refused."""
    flags, run_dir, process = start_again_elsewhere(long_run, tmp_path)
    process.terminate()  # it saves once more and ends, so that both files are there
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    saved = {name: bytearray((run_dir / name).read_bytes()) for name in ("ckpt_last.pt", "ckpt_prev.pt")}
    for name, contents in saved.items():
        weights = torch.load(run_dir / name, weights_only=True)["weights"]["embedding.weight"]
        contents[contents.index(weights.numpy().tobytes())] ^= 1  # not in what fills the gaps of the archive
    backup = shutil.copytree(run_dir, tmp_path / "backup")
    for name, contents in saved.items():
        (run_dir / name).write_bytes(contents)
    done = run_script("train.py", *flags)
    assert done.returncode == 2 and "no checkpoint" in done.stderr.splitlines()[-1]
    shutil.copyfile(backup / "ckpt_prev.pt", run_dir / "ckpt_prev.pt")
    done = run_script("train.py", *flags)
    assert done.returncode == 0 and "ckpt_last.pt is damaged and not used" in done.stdout
    assert_same_run(run_dir, long_run[0])


def test_a_finished_run_is_skipped_and_other_arguments_are_refused(finished):
    run_dir, flags = finished
    before = (run_dir / "final.json").stat().st_mtime_ns
    done = run_script("train.py", *flags, "--batch_size", 1)  # which is not of the result
    assert done.returncode == 0 and "finished before" in done.stdout
    for more, message in ((("--weight_decay", 0.2), "weight_decay 0.1, not 0.2"),
                          (("--data_seed", 3), "data_seed None, not 3")):
        done = run_script("train.py", *flags, *more)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert (run_dir / "final.json").stat().st_mtime_ns == before


def test_a_requeued_job_that_overwrites_goes_on(nanogpt, small_bins, tmp_path, monkeypatch):
    """Its first life replaces the run that is there, of other arguments, the next one does not begin again."""
    flags = training_flags(small_bins, "runs", "--max_iters", 10)
    nanogpt("train.py", *flags, "--weight_decay", 0.2)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run_dir = tmp_path / "runs" / "ctl32_tok6000_seed0"
    assert "finished before" not in nanogpt("train.py", *flags, "--overwrite").stdout
    before = (run_dir / "final.json").stat().st_mtime_ns
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert "finished before" in nanogpt("train.py", *flags, "--overwrite").stdout
    assert (run_dir / "final.json").stat().st_mtime_ns == before


def test_a_second_process_on_the_same_run_is_refused(finished, tmp_path):
    whole, flags = finished
    flags = [flag.replace(str(whole.parent), str(tmp_path)) for flag in flags]
    (tmp_path / whole.name).mkdir()
    with open(tmp_path / whole.name / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run_script("train.py", *flags)
    assert done.returncode == 2 and "another process" in done.stderr and done.stderr.count("\n") == 1


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(nanogpt, small_bins, tmp_path):
    flags = training_flags(small_bins, "runs", "--max_iters", 60, "--learning_rate", 1e30, "--warmup_iters", 0,
                           "--grad_clip", 0, "--checkpoint_seconds", 0)
    done = nanogpt("train.py", *flags, check=False)
    assert done.returncode == 2 and "NaN or infinite in step" in done.stderr.splitlines()[-1]
    run_dir = tmp_path / "runs" / "ctl32_tok6000_seed0"
    assert not (run_dir / "final.json").exists()
    weights = torch.load(run_dir / "ckpt_last.pt", weights_only=True)["weights"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, capsys):
    """What torch.save raises on a full disk, half-way through the file, here in the thread that writes."""
    saver = checkpoints.Checkpoints(tmp_path, 0)
    for step in (1, 2):
        saver.start({"step": step})
        saver.wait()

    def full(contents, file):
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch, "save", full)
    saver.start({"step": 3})
    with pytest.raises(SystemExit) as stop:
        saver.wait()
    assert stop.value.code == 2 and "free some space" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt_last.pt", "ckpt_prev.pt"]
    assert saver.load("cpu") == {"step": 2}


def test_checkpoints_are_written_beside_the_training_and_cost_little_of_the_time(tmp_path, monkeypatch):
    """While one is written: training goes on, changes nothing in it, no other is due; then for 50 times its cost."""
    saver, may_write, weights = checkpoints.Checkpoints(tmp_path, 0), threading.Event(), torch.zeros(3)
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *parts: (may_write.wait(), time.sleep(0.1), save(*parts)))
    assert saver.are_due()
    saver.start({"weights": weights})
    weights += 1  # the next step
    assert not saver.are_due()
    may_write.set()
    saver.wait()
    assert saver.load("cpu")["weights"].tolist() == [0.0] * 3
    assert 4 < saver.next_at - time.monotonic() and not saver.are_due()
