"""Training: losses against independent sums, learning, early stopping, and resuming to the same bits."""

import csv
import fcntl
import json
import math
import signal
import time

import pytest
import torch

from helpers import SMALL_TASKS, refused, start_script
from mlp import MLP, BiMLP, build_model
from samples import load_samples
from tasks import bayes_risk, check_task_definition
from training import epoch_order, evaluate, loss_sums_by_task
from transformer import MASKED, SampleTransformer, Transformer

QUICK = ("--context_length", 9, "--hidden_size", 16, "--batch_size", 50, "--learning_rate", 5e-3)


def run_dir(tmp_path, seed=0, size=700, length=9, model="mlp"):
    return tmp_path / "outputs" / "runs" / f"{model}_ctl{length}_train{size}_wd0.0001_seed{seed}"


def final(directory):
    return json.loads((directory / "final.json").read_text())


def test_layers_are_those_of_the_paper():
    mlp, bi = MLP(36, 50), BiMLP(36, 50)
    def shapes(model):
        return [tuple(p.shape) for p in model.parameters() if p.ndim == 2]

    assert shapes(mlp) == [(400, 86), (200, 400), (400, 200), (1, 400)]
    assert shapes(bi) == [(400, 36), (80, 400), (200, 130), (1, 200)]
    bits, control = torch.rand(5, 36), torch.rand(5, 50)
    w = [p.double() for p in mlp.parameters()]
    x = torch.cat([bits, control], dim=1).double()
    hidden = torch.where((h := x @ w[0].T + w[1]) > 0, h, 0.0015 * h) @ w[2].T + w[3]
    logits = torch.where((h := hidden @ w[4].T + w[5]) > 0, h, 0.0015 * h) @ w[6].T + w[7]
    assert torch.allclose(mlp(bits, control).double(), logits.squeeze(1), atol=1e-5)
    w = [p.double() for p in bi.parameters()]
    feature = torch.where((h := bits.double() @ w[0].T + w[1]) > 0, h, 0.001 * h) @ w[2].T + w[3]
    assert torch.allclose(bi.context_features(bits).double(), feature, atol=1e-5)
    x = torch.cat([feature, control.double()], dim=1)
    logits = torch.where((h := x @ w[4].T + w[5]) > 0, h, 0.001 * h) @ w[6].T + w[7]
    assert torch.allclose(bi(bits, control).double(), logits.squeeze(1), atol=1e-5)


def test_losses_against_a_loop(small_data):
    samples = load_samples(small_data / "valid.pt", None, 9, torch.device("cpu"))
    torch.manual_seed(0)
    model = MLP(9, 6, hidden_size=16)
    sums, counts = [0.0] * 6, [0] * 6
    for i in range(300):
        bits, control, answer = samples.batch(torch.tensor([i]))
        p = torch.sigmoid(model(bits, control).double()).item()
        sums[samples.task[i]] -= math.log(p if answer.item() == 1 else 1 - p)
        counts[samples.task[i]] += 1
    measured = loss_sums_by_task(model, samples)
    assert measured[0].tolist() == pytest.approx(sums, rel=1e-5)
    assert measured[1].tolist() == counts
    metrics = evaluate(model, samples, context_length=7)
    assert metrics["valid_loss"] == pytest.approx(sum(sums) / 300, rel=1e-5)
    assert metrics["solvable_loss"] == pytest.approx(sum(sums[:4]) / 300, rel=1e-5)
    assert metrics["unsolvable_loss"] == pytest.approx(sum(sums[4:]) / 300, rel=1e-5)
    assert metrics["task_losses"] == pytest.approx([s / c for s, c in zip(sums, counts)], rel=1e-5)


def test_batches_depend_on_seed_and_epoch_alone():
    cpu = torch.device("cpu")
    first = epoch_order(100, 3, 7, cpu)
    torch.manual_seed(99)
    assert torch.equal(first, epoch_order(100, 3, 7, cpu))
    assert sorted(first.tolist()) == list(range(100))
    assert epoch_order(100, 3, 7, torch.device("meta")).shape == (100,)  # on no device but the CPU is anything drawn
    assert not torch.equal(first, epoch_order(100, 3, 8, cpu)) and not torch.equal(first, epoch_order(100, 4, 7, cpu))


def test_the_transformer_reads_a_sample_as_its_tokens():
    torch.manual_seed(0)
    model = SampleTransformer(5, 3, width=12, n_layer=2, n_head=2)
    bits = torch.tensor([[0, 1, 1, 0, 1], [1, 0.5, 0, 0.5, 0.5]])  # 0.5: hidden
    control = torch.tensor([[0, 0, 1], [0, 1, 0]]).float()
    read = torch.tensor([[0, 1, 1, 0, 1, 5], [1, MASKED, 0, MASKED, MASKED, 4]])
    assert torch.equal(model(bits, control), Transformer.forward(model, read).squeeze(1))
    assert torch.equal(model.context_features(bits, control), model.features(read).squeeze(1))


@pytest.mark.parametrize("model, flags", [
    ("mlp", ()), ("bi_mlp", ("--use_bi_mlp", "--task_hidden_size", 64)),
    ("transformer", ("--model", "transformer", "--width", 32, "--n_layer", 1, "--n_head", 2))])
def test_memorises_a_tiny_set(script, small_data, tmp_path, model, flags):
    """Forty samples are learned by heart: the training loss goes to 0 and the validation loss rises."""
    script("train_model.py", "--context_length", 9, "--train_dataset_size", 40, "--hidden_size", 64, "--batch_size", 9,
           "--learning_rate", 5e-3, "--num_epochs", 80, "--early_stopping", 80, *flags)
    directory = run_dir(tmp_path, size=40, model=model)
    result = final(directory)
    assert result["last_train_loss"] < 1e-3
    assert result["last_valid_loss"] > result["best_valid_loss"]
    assert result["last_step"] == 80 * 5  # the last batch of an epoch holds 4 samples


def test_learns_the_solvable_subtasks(script, tmp_path):
    (tmp_path / "tasks.json").write_text("[[4, 3], [5, 1], [6, 2], [9, 8]]")
    script("generate_data.py", "--train_size", 20000, "--valid_size", 2000, "--context_bits", 20,
           "--task_definition", "tasks.json")
    script("train_model.py", "--context_length", 6, "--hidden_size", 64, "--batch_size", 200, "--learning_rate", 3e-3,
           "--num_epochs", 12)
    result = final(run_dir(tmp_path, size=20000, length=6))
    assert result["bayes_risk"] == pytest.approx(math.log(2) / 4)
    approximation_loss = result["best_valid_loss"] - result["bayes_risk"]
    assert -0.01 < approximation_loss < 0.03
    assert approximation_loss == pytest.approx(
        result["best_approximation_loss_solvable"] + result["best_approximation_loss_unsolvable"])
    assert max(result["task_losses"][:3]) < 0.05 and result["task_losses"][3] == pytest.approx(math.log(2), abs=0.05)


def test_a_run_directory_is_complete(script, small_data, tmp_path):
    script("train_model.py", *QUICK, "--num_epochs", 4)
    directory = run_dir(tmp_path)
    assert {path.name for path in directory.iterdir()} == {
        "args.json", "metrics.csv", "best.pt", "last.pt", "final.json", "lock"}
    result, described = final(directory), json.loads((directory / "args.json").read_text())
    rows = list(csv.DictReader(open(directory / "metrics.csv")))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4] and int(rows[-1]["step"]) == 4 * 14
    assert min(float(row["valid_loss"]) for row in rows) == result["best_valid_loss"]
    assert float(rows[-1]["train_loss"]) == result["last_train_loss"]
    assert result["bayes_risk"] == bayes_risk(check_task_definition(SMALL_TASKS), 9)
    assert described["environment"]["torch"] == torch.__version__

    samples = load_samples(small_data / "valid.pt", None, 9, torch.device("cpu"))
    for name in ("best", "last"):
        model = build_model(described["request"]["arguments"], 9, 6)
        model.load_state_dict(torch.load(directory / f"{name}.pt", weights_only=True))
        assert evaluate(model, samples, 9)["valid_loss"] == pytest.approx(result[f"{name}_valid_loss"], abs=1e-9)


def test_finished_runs_are_skipped_and_other_arguments_refused(script, small_data, tmp_path):
    script("train_model.py", *QUICK, "--num_epochs", 2)
    stamp = (run_dir(tmp_path) / "final.json").stat().st_mtime_ns
    assert "finished before" in script("train_model.py", *QUICK, "--num_epochs", 2).stdout
    assert (run_dir(tmp_path) / "final.json").stat().st_mtime_ns == stamp
    refused(script("train_model.py", *QUICK, "--num_epochs", 3, check=False), "num_epochs 2, not 3")
    script("train_model.py", *QUICK, "--num_epochs", 3, "--overwrite")
    assert final(run_dir(tmp_path))["last_epoch"] == 3


def test_a_requeued_job_goes_on_with_what_it_began(script, small_data, tmp_path, monkeypatch):
    """With the same --overwrite; another job's run it replaces."""
    flags = ("train_model.py", *QUICK, "--num_epochs", 1, "--overwrite")
    for job, restarts, skipped in (("7", "0", False), ("7", "1", True), ("8", "1", False), ("8", "2", True)):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        assert ("finished before" in script(*flags).stdout) == skipped


def test_patience_needs_epochs_and_steps(script, small_data, tmp_path):
    """Random labels in effect: the validation loss soon only rises. 14 steps an epoch."""
    for seed, steps in ((0, 0), (1, 400)):
        script("train_model.py", *QUICK[2:], "--context_length", 3, "--num_epochs", 100, "--early_stopping", 5,
               "--early_stopping_steps", steps, "--seed", seed)
        result = final(run_dir(tmp_path, seed, length=3))
        assert result["stopped"] == "early"
        assert result["last_epoch"] - result["best_epoch"] == max(5, math.ceil(steps / 14))


def test_a_second_process_on_the_same_run_is_refused(script, small_data, tmp_path):
    directory = run_dir(tmp_path)
    directory.mkdir(parents=True)
    with open(directory / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(script("train_model.py", *QUICK, check=False), "another process")
    script("train_model.py", *QUICK, "--num_epochs", 1)  # nobody holds it any more


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_the_step_and_ends_the_run(number, script, small_data, tmp_path):
    """In the middle of an epoch, without a checkpoint by the clock; the next life goes on to the undisturbed bits."""
    flags = (*QUICK, "--train_dataset_size", 100, "--batch_size", 2, "--num_epochs", 16, "--early_stopping", 30)
    script("train_model.py", *flags, "--save_position", "undisturbed")
    directory = tmp_path / "stopped" / run_dir(tmp_path, size=100).name
    process = start_script("train_model.py", *flags, "--save_position", "stopped", "--overwrite", cwd=tmp_path)
    while not (directory / "metrics.csv").exists() or (directory / "metrics.csv").read_text().count("\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == -number and not (directory / "final.json").exists()
    assert output.count("\n") == 1 and "\r" not in output
    assert f"{directory.name} is saved" in output and "without --overwrite" in output
    saved = torch.load(directory / "ckpt_last.pt", weights_only=True)
    assert len(saved["history"]) >= 2
    script("train_model.py", *flags, "--save_position", "stopped")
    first, second = (torch.load(tmp_path / where / directory.name / "last.pt", weights_only=True)
                     for where in ("undisturbed", "stopped"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_and_cpu_agree(script, small_data, tmp_path):
    """After an epoch of the same batches."""
    results = []
    for device in ("cpu", "cuda"):
        script("train_model.py", *QUICK, "--num_epochs", 1, "--device", device, "--overwrite")
        results.append(final(run_dir(tmp_path)))
    for name in ("last_train_loss", "last_valid_loss"):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-3)
