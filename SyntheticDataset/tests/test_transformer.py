"""The ICLR version: tasks against the published theory, the transformer against plain attention, runs end to end."""

import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import run
import train_transformer
from helpers import refused, stop_in
from measures import load_measures
from samples import make_splits
from tasks import as_lists, bayes_risk, position_weighted_tasks, solvable_tasks, task_weights
from train_transformer import emphasised, learning_end, learning_rate
from transformer import (MASKED, TaskSampler, Transformer, cross_entropies, flops_per_sample, tokens,
                         weighted_train_step)

PAPER = position_weighted_tasks(60, 11, 2, 1.15, 114)
SMALL = position_weighted_tasks(8, 3, 1, 1.15, 0)
TINY = ("--context_bits", 8, "--max_masked", 6, "--width", 16, "--n_layer", 2, "--n_head", 2, "--batch_size", 8,
        "--eval_interval", 5, "--eval_contexts", 4, "--final_contexts", 8, "--device", "cpu",
        "--cycle_steps", 10, "--max_cycles", 2, "--settling_steps", 8)


def test_the_theory_column_of_table_1():
    """R_Bayes(17) and R_Bayes(50) to the last digit; each later bit has two subtasks with the same frequency."""
    assert (round(bayes_risk(PAPER, 17), 4), round(bayes_risk(PAPER, 50), 4)) == (0.4643, 0.0612)
    assert bayes_risk(PAPER, 10) == pytest.approx(math.log(2)) and bayes_risk(PAPER, 60) == 0
    assert len(PAPER) == len({(task.a, task.b) for task in PAPER}) == 100
    assert all(1 <= b < a for a, b, _ in PAPER) and {a for a, *_ in PAPER} == {*range(11, 61)}
    by_hand = math.log(2) * sum((i - 1) ** -1.15 for i in range(31, 61)) / sum((i - 1) ** -1.15 for i in range(11, 61))
    assert bayes_risk(PAPER, 30) == pytest.approx(by_hand)
    assert sum(task_weights(PAPER)) == pytest.approx(1)


def test_weighted_samples_for_the_mlp_have_their_frequencies_and_answers():
    train, _ = make_splits(200, 1, 8, SMALL, seed=1)
    again, _ = make_splits(100, 1, 8, SMALL, seed=1)
    assert torch.equal(train["task"][:100], again["task"])
    bits = np.unpackbits(train["packed_bits"].numpy(), axis=1, count=8)
    for row, task, answer in zip(bits, train["task"], train["answer"]):
        a, b, _ = SMALL[task]
        assert answer == row[a - 1] ^ row[b - 1]
    counts = torch.bincount(train["task"].int(), minlength=len(SMALL)) / 200
    errors = [math.sqrt(weight * (1 - weight) / 200) for weight in task_weights(SMALL)]
    assert all(abs(count - weight) < 4 * error for count, weight, error in zip(counts, task_weights(SMALL), errors))


def test_batches_are_a_function_of_seed_and_step_and_masked_as_the_paper_says():
    sampler = TaskSampler(SMALL, 8, torch.device("cpu"))
    inputs, answers = sampler.training_batch(3, 7, 4000, 6)
    sampler.draw(5)
    again = sampler.training_batch(3, 7, 4000, 6)
    assert torch.equal(inputs, again[0]) and torch.equal(answers, again[1])
    assert not torch.equal(inputs, sampler.training_batch(3, 8, 4000, 6)[0])
    masked = inputs[:, :8] == MASKED
    assert not masked[:2000].any()
    counts = torch.bincount(masked[2000:].sum(dim=1), minlength=7)
    assert len(counts) == 7 and (counts - 2000 / 7).abs().max() < 4 * math.sqrt(2000 / 7)
    assert all((row.int().diff() >= 0).all() for row in masked)  # the last bits
    assert (inputs[:, 8:] - 3 == torch.arange(len(SMALL))).all()
    for row, parities in zip(inputs[:2000], answers):
        for (a, b, _), answer in zip(SMALL, parities, strict=True):
            assert answer == row[a - 1] ^ row[b - 1]


def test_features_are_of_subtasks_drawn_by_weight():
    """Each as often as its weight says, to within one, and the same among the first samples as among the last."""
    sampler = TaskSampler(SMALL, 8, torch.device("cpu"))
    sampler.reseed(3)
    drawn = sampler.draw_tasks(4000).squeeze(1)
    weights = torch.tensor(task_weights(SMALL))
    assert (torch.bincount(drawn, minlength=len(SMALL)) - 4000 * weights).abs().max() <= 1
    first = torch.bincount(drawn[:2000], minlength=len(SMALL)) / 2000
    torch.testing.assert_close(first, weights, atol=0.03, rtol=0, check_dtype=False)


def test_the_loss_of_a_step_is_the_mean_over_independent_samples():
    """Of many contexts and drawn subtasks: the weights make asking every subtask the same in the mean."""
    torch.manual_seed(0)
    model = Transformer(8, len(SMALL), width=16, n_layer=1, n_head=2)
    sampler = TaskSampler(SMALL, 8, torch.device("cpu"))
    torch.nn.init.normal_(model.head.weight, std=2.0)  # so that the subtasks differ
    optimizer = torch.optim.SGD(model.parameters(), lr=0)
    inputs, answers = sampler.training_batch(0, 1, 20_000, 6)
    loss = weighted_train_step(model, optimizer, inputs, answers, sampler.weights.float(), nullcontext())
    asked = sampler.draw_tasks(20_000)
    with torch.no_grad():
        logits = model(torch.cat((inputs[:, :8], 3 + asked), dim=1))
    drawn = F.binary_cross_entropy_with_logits(logits, answers.gather(1, asked), reduction="none")
    assert abs(loss - drawn.mean()) < 4 * drawn.std() / math.sqrt(20_000)
    plain = F.binary_cross_entropy_with_logits(model(inputs), answers)  # without the weights it is another one
    assert abs(plain - drawn.mean()) > 4 * drawn.std() / math.sqrt(20_000)


def test_the_transformer_against_attention_written_out():
    """In float64, one head and one position at a time, rotary positions as complex numbers, one subtask at a time."""
    torch.manual_seed(0)
    model = Transformer(6, 4, width=12, n_layer=2, n_head=2, rope_base=50.0).double()
    x = torch.cat((torch.randint(3, (5, 6)), 3 + torch.randint(4, (5, 3))), dim=1)

    def norm(values, layer):
        return values / (values.square().mean(-1, keepdim=True) + torch.finfo(values.dtype).eps).sqrt() * layer.weight

    def turned(head, position):
        pairs = torch.complex(head[..., :3], head[..., 3:])
        return pairs * torch.polar(torch.ones(3).double(), position * 50.0 ** -(torch.arange(0, 6, 2).double() / 6))

    for number in range(3):
        states = model.embedding(x[:, [*range(6), 6 + number]])
        for block in model.blocks:
            inner = norm(states, block.attention_norm)
            query, (key, value) = block.query(inner), block.key_value(inner).chunk(2, dim=-1)
            out = torch.zeros_like(states)
            for head in (slice(0, 6), slice(6, 12)):
                for position in range(7):
                    scores = torch.stack([(turned(query[:, position, head], position)
                                           * turned(key[:, other, head], other).conj()).real.sum(-1) / math.sqrt(6)
                                          for other in range(position + 1)], dim=1)
                    out[:, position, head] = (scores.softmax(1)[..., None] * value[:, :position + 1, head]).sum(1)
            states = states + block.attention_out(out)
            states = states + block.mlp(norm(states, block.mlp_norm))
        expected = norm(states[:, -1], model.final_norm)
        assert torch.allclose(model.features(x)[:, number], expected, atol=1e-6)
        assert torch.allclose(model(x)[:, number], model.head(expected).squeeze(1), atol=1e-6)


class Bayes(torch.nn.Module):
    """Answers what it can see with certainty, and tosses a coin for the rest."""

    def forward(self, inputs):
        logits = torch.zeros(len(inputs), inputs.shape[1] - 8)
        for index, row in enumerate(inputs):
            for number, task in enumerate(row[8:] - 3):
                a, b = (row[bit - 1] for bit in SMALL[task][:2])
                logits[index, number] = 0 if MASKED in (a, b) else (1000 if a ^ b else -1000)
        return logits


def test_the_operations_of_a_step_are_counted():
    """Of the weights' products, by hand; the attention itself is the small rest."""
    width, n_asked = 64, len(SMALL)
    model, length = Transformer(8, n_asked, width=width, n_layer=2, n_head=2), 8 + n_asked
    first = 12 * width**2 * length  # multiplications of a layer of 12 width^2 weights at every position
    last = (2 * width**2) * length + (10 * width**2 + width) * n_asked  # but for keys and values, at the subtasks
    counted = flops_per_sample(model, TaskSampler(SMALL, 8, torch.device("cpu"))) * n_asked
    assert 0.9 * 6 * (first + last) < counted < 1.3 * 6 * (first + last)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_bayes_model_has_the_bayes_risk_at_every_length():
    sampler = TaskSampler(SMALL, 8, torch.device("cpu"))
    losses, errors, task_losses = cross_entropies(Bayes(), sampler, range(2, 9), 5, seed=0)
    assert losses.tolist() == pytest.approx([bayes_risk(SMALL, length) for length in range(2, 9)], abs=1e-6)
    assert errors.abs().max() < 1e-6
    solvable = torch.tensor([solvable_tasks(SMALL, length) for length in range(2, 9)])
    torch.testing.assert_close(task_losses, torch.where(solvable, 0, math.log(2)).double())
    bits = torch.arange(16).view(2, 8) % 2
    assert tokens(bits, torch.tensor([[0], [1]]), 3)[1].tolist() == [0, 1, 0, 2, 2, 2, 2, 2, 4]


def test_the_cycles_end_when_everything_is_learned_and_the_settling_follows():
    args = SimpleNamespace(cycle_steps=100, max_cycles=3, settling_steps=50, learned_loss=0.3, learning_rate=1.0,
                           warmup_steps=10)
    rates = {(1, None): 0.1, (10, None): 0.9, (50, None): 0.5, (100, None): 0.0, (101, None): 0.1, (150, None): 0.5,
             (101, 100): 0.1, (125, 100): 0.5, (150, 100): 0.0}
    assert all(learning_rate(step, learned, args) == pytest.approx(rate) for (step, learned), rate in rates.items())
    for losses, end in (({}, None), ({50: 0.1}, None), ({50: 0.1, 100: 0.1}, 100), ({100: 0.69}, None),
                        ({100: 0.69, 200: 0.1, 250: 0.69}, 200), ({100: 0.69, 200: 0.69, 300: 0.69}, 300)):
        history = [{"step": step, "largest_task_loss": loss} for step, loss in losses.items()]
        assert learning_end(history, args) == end


@pytest.fixture
def tiny_tasks(tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps(as_lists(SMALL)))
    return "--task_definition", "tasks.json", *TINY


def test_what_is_not_learned_counts_more_in_a_loss_of_the_same_scale():
    frequencies = torch.tensor([0.5, 0.3, 0.2])
    weights = emphasised(frequencies, torch.tensor([False, True, False]), 10)
    torch.testing.assert_close(weights, torch.tensor([0.5, 3.0, 0.2]) / 3.7)
    assert torch.equal(emphasised(frequencies, torch.tensor([False, True, False]), 1), frequencies)


def test_a_sweep_of_transformers_knows_which_have_finished(script, tiny_tasks, tmp_path):
    """Of the same tasks, whose contents count; without their file, those that the runs name."""
    script("train_transformer.py", *tiny_tasks)
    flags = ("sweep.py", "--trainer", "train_transformer", *tiny_tasks)
    assert "all 1 cells have finished" in script(*flags, "--missing").stdout
    missing = script(*flags, "--seeds", 0, 1, "--missing", check=False)
    assert (missing.returncode, missing.stdout) == (1, "transformer_bits8_width16_layers2_seed1\n")
    assert "1 finished runs of 1" in script(*flags, "--collect").stdout
    assert len((tmp_path / "outputs" / "table1.csv").read_text().splitlines()) > 2
    (tmp_path / "tasks.json").write_text(json.dumps(as_lists(SMALL[:-1])))
    assert script(*flags, "--missing", check=False).returncode == 1
    (tmp_path / "tasks.json").unlink()
    assert "all 1 cells have finished" in script(*flags, "--missing").stdout


def test_an_interrupted_run_ends_with_the_same_bits(script, tiny_tasks, tmp_path, monkeypatch):
    """Stopped in the first cycle, before some subtasks count more and after, right before the settling and in it;
    --overwrite replaces a finished run."""
    tiny_tasks = *tiny_tasks, "--learned_loss", 0.69, "--unlearned_weight", 5, "--checkpoint_seconds", 0
    script("train_transformer.py", *tiny_tasks, "--save_position", "whole")
    name = "transformer_bits8_width16_layers2_seed0"
    directory = tmp_path / "cut" / name
    whole = torch.load(tmp_path / "whole" / name / "last.pt", weights_only=True)
    save_tensors = run.save_tensors
    for step in (1, 7, 20, 23):
        def save_and_stop(path, contents, step=step):
            save_tensors(path, contents)
            if contents.get("step") == step:
                raise SystemExit(9)
        monkeypatch.setattr(run, "save_tensors", save_and_stop)
        stopped = script("train_transformer.py", *tiny_tasks, "--save_position", "cut", "--overwrite", check=False)
        monkeypatch.undo()
        assert stopped.returncode == 9
        assert not (directory / "final.json").exists() and (directory / "ckpt_last.pt").exists()
        done = script("train_transformer.py", *tiny_tasks, "--save_position", "cut")
        assert "finished before" not in done.stdout
        again = torch.load(directory / "last.pt", weights_only=True)
        assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert "finished before" in script("train_transformer.py", *tiny_tasks, "--save_position", "cut").stdout
    (tmp_path / "tasks.json").write_text(json.dumps(as_lists(position_weighted_tasks(8, 3, 1, 1.0, 0))))
    refused(script("train_transformer.py", *tiny_tasks, "--save_position", "cut", check=False), "add --overwrite")


def test_a_signal_ends_the_last_measurement_and_the_next_life_begins_there(script, tiny_tasks, tmp_path, monkeypatch):
    script("train_transformer.py", *tiny_tasks, "--save_position", "whole")
    stop_in(monkeypatch, train_transformer, "cross_entropies", lambda *arguments: len(arguments) == 6)  # which reports
    stopped = script("train_transformer.py", *tiny_tasks, "--save_position", "cut", check=False)
    name = "transformer_bits8_width16_layers2_seed0"
    assert stopped.returncode == 9 and not (tmp_path / "cut" / name / "final.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(train_transformer, "weighted_train_step", lambda *_: pytest.fail("trained on"))
    script("train_transformer.py", *tiny_tasks, "--save_position", "cut")
    results = [json.loads((tmp_path / where / name / "final.json").read_text()) for where in ("whole", "cut")]
    assert results[0]["cross_entropy"] == results[1]["cross_entropy"] and results[0]["steps"] == results[1]["steps"]


def test_from_runs_to_a_table_measures_and_figures(script, tiny_tasks, tmp_path):
    """Two seeds: the features are those of the network itself, and the printed R that of the tables."""
    for seed in (0, 1):
        script("train_transformer.py", *tiny_tasks, "--seed", seed)
    runs = sorted((tmp_path / "outputs" / "transformer_runs").iterdir())
    results = [json.loads((directory / "final.json").read_text()) for directory in runs]
    printed = script("collect_results.py", "--table1").stdout
    for index, length in enumerate(range(3, 9)):
        losses = [result["cross_entropy"][index] for result in results]
        assert f"| {length} | {sum(losses) / 2:.4f} [{min(losses):.4f}, {max(losses):.4f}] |" in printed
    missing = script("collect_results.py", "--table1", "--seeds", 1, 7, "--out_csv", "some.csv", check=False)
    assert missing.returncode == 1 and "1 finished runs of 2" in missing.stdout
    assert missing.stderr == "missing: transformer_bits8_width16_layers2_seed7\n"
    script("save_feature_tensor.py", "--model_state_dict_position", *runs, "--n_samples", 60)
    saved = torch.load(runs[0] / "features" / f"{runs[0].name}_visible5.pt", weights_only=True)
    model = Transformer(8, len(SMALL), width=16, n_layer=2, n_head=2)
    model.load_state_dict(torch.load(runs[0] / "last.pt", weights_only=True))
    sampler = TaskSampler(SMALL, 8, torch.device("cpu"))
    sampler.reseed(0, 2)
    inputs = tokens(sampler.draw(60)[0], sampler.draw_tasks(60), 5)
    assert torch.equal(saved["features"], model.features(inputs).squeeze(1)) and saved["dtype"] == "float32"
    features = sorted((tmp_path / "outputs" / "transformer_runs").glob("*/features/*.pt"))
    assert len(features) == 12
    script("measure_features.py", *features, "--out_dir", "outputs/transformer_measures")
    measures = [row for row in load_measures(tmp_path / "outputs" / "transformer_measures") if row["seed"] == 0]
    r = np.corrcoef([row["kde_entropy"] for row in measures], results[0]["cross_entropy"])[0, 1]
    assert f"seed 0: cross entropy against KDE entropy R {r:.4f}" in script("draw_entropy_vs_loss.py").stdout
    for stem in ("entropy_vs_loss", "transformer_spectra"):
        assert (tmp_path / "outputs" / "figures" / f"{stem}.pdf").exists()


def test_bad_input_is_one_line(script, tiny_tasks, tmp_path):
    for command, words in (
            (("generate_tasks.py", "--first_max_bit", 2), "choose another --first_max_bit"),
            (("train_transformer.py", *tiny_tasks, "--n_head", 3), "even width"),
            (("train_transformer.py", *tiny_tasks, "--max_masked", 9), "more than the --context_bits"),
            (("train_transformer.py", *tiny_tasks, "--final_contexts", 1), "give 2 or more"),
            (("train_transformer.py", *tiny_tasks, "--seed", 2**63), "2^63"),
            (("train_transformer.py", "--task_definition", "tasks.json", "--context_bits", 4, "--max_masked", 2),
             "bits beyond"),
            (("collect_results.py", "--table1"), "no run"), (("draw_entropy_vs_loss.py",), "cannot read")):
        refused(script(*command, check=False), words)
    (tmp_path / "tasks.json").write_text("[[3, 1, 0.5], [3, 2]]")
    refused(script("train_transformer.py", *tiny_tasks, check=False), "all subtasks or none")
