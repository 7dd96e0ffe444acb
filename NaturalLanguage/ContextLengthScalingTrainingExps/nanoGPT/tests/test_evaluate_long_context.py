"""Losses and recall beyond the trained length, against the reference model and a memory that sees everything."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

import evaluate_long_context as script
import retrieval_documents
from helpers import bash, reference_losses, run_script, training_flags
from memory import MemoryStore
from model import rotary_tables
from preparing import prepare_retrieval as prepare
from run import load_run

LENGTH = 16  # of training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of a few steps on pairs before a gap, without a memory and with one, beside the token files."""
    folder = tmp_path_factory.mktemp("gap")
    prepare(folder, "--task", "gap", "--min_units", 2, "--max_units", 40, "--n_keys", 8, "--n_values", 4,
            "--train_tokens", 4_000, "--val_tokens", 2_000, "--test_units", 2, 30)
    runs = []
    for name, flags in (("plain", ()), ("memory", ("--memory_tokens", 32, "--memory_layer", 2))):
        done = run_script("train.py", *training_flags(folder / "gap_train.bin", folder / name, "--max_iters", 5,
                                                      *flags, context_length=LENGTH, train_tokens=4_000))
        assert done.returncode == 0, done.stderr
        runs += (folder / name).iterdir()
    return folder, *runs


def evaluate(folder, out, *arguments):
    done = run_script("evaluate_long_context.py", *arguments, "--test", folder / "gap_test.jsonl", "--device", "cpu",
                      "--out_csv", out)
    assert done.returncode == 0, done.stderr
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=["tied", "untied"])
def whole(request, trained, tmp_path):
    """The folder of the token files, and a run without a memory."""
    folder, run_dir, _ = trained
    if request.param == "untied":
        done = run_script("train.py", *training_flags(folder / "gap_train.bin", tmp_path / "plain", "--max_iters", 5,
                                                      "--untied", context_length=LENGTH, train_tokens=4_000))
        assert done.returncode == 0, done.stderr
        run_dir, = (tmp_path / "plain").iterdir()
    return folder, run_dir


def test_losses_are_of_the_same_targets_at_every_length_and_recall_of_whole_documents(whole, tmp_path, monkeypatch):
    """Of a pass of 40 tokens a window of 48 alone is more than it may have."""
    folder, run_dir = whole
    monkeypatch.setattr(retrieval_documents, "TOKENS_AT_ONCE", 40)
    rows = evaluate(folder, tmp_path / "out.csv", run_dir, "--texts", f"own={folder / 'gap_val.bin'}", "--lengths",
                    16, 48, "--windows", 5)
    weights, tokens = torch.load(run_dir / "best.pt"), np.fromfile(folder / "gap_val.bin", np.uint16).astype(int)
    for row in rows[:2]:
        length = int(row["length"])
        losses = [reference_losses(weights, 2, torch.from_numpy(tokens[end - length:end + 1]))[-8:].mean().item()
                  for end in range(48, 241, 48)]
        assert float(row["value"]) == pytest.approx(np.mean(losses), abs=1e-4) and row["n"] == "40"
        assert float(row["standard_error"]) == pytest.approx(np.std(losses, ddof=1) / 5**0.5, rel=1e-2)
    assert [(row["measure"], row["variant"], row["length"]) for row in rows] == [
        ("loss", "plain", "16"), ("loss", "plain", "48"), ("accuracy", "plain", "14"), ("accuracy", "plain", "42")]
    model, _ = load_run(run_dir)
    documents = [json.loads(line) for line in open(folder / "gap_test.jsonl")]
    for row in rows[2:]:
        right = [[model(torch.tensor([document["ids"][:at]]))[0, -1].argmax().item() == document["ids"][at]
                  for at, *_ in document["answers"]]
                 for document in documents if document["units"] == int(row["units"])]
        assert float(row["value"]) == pytest.approx(np.mean(right)) and int(row["n"]) == np.size(right)


def test_a_stopped_evaluation_goes_on_with_the_next_run(trained, tmp_path, monkeypatch):
    folder, *runs = trained
    whole, measure, done = evaluate(folder, tmp_path / "whole.csv", *runs), script.rows_of, []

    def noted(measured, run_dir, *rest):
        done.append(run_dir)
        if len(done) == 2:
            raise KeyboardInterrupt
        return measure(measured, run_dir, *rest)

    monkeypatch.setattr(script, "rows_of", noted)
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, runs), "--test", str(folder / "gap_test.jsonl"), "--device",
                                      "cpu", "--out_csv", str(tmp_path / "out.csv")])
    with pytest.raises(KeyboardInterrupt):
        script.main()
    assert not (tmp_path / "out.csv").exists()
    script.main()
    assert done == [str(runs[0]), str(runs[1]), str(runs[1])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "whole.csv"]
    with open(tmp_path / "out.csv", newline="") as file:
        assert list(csv.DictReader(file)) == whole


def test_positions_are_those_of_each_name(trained, tmp_path):
    folder, run_dir, _ = trained
    rows = evaluate(folder, tmp_path / "out.csv", run_dir, "--texts", f"own={folder / 'gap_val.bin'}", "--lengths",
                    16, 32, "--windows", 3, "--rope_types", "none", "linear", "ntk", "dynamic", "yarn")
    losses = {(row["rope_type"], row["length"]): float(row["value"]) for row in rows if row["measure"] == "loss"}
    assert losses["dynamic", "16"] == losses["none", "16"] and losses["dynamic", "32"] == losses["ntk", "32"]
    assert len({losses[kind, "32"] for kind in ("none", "linear", "ntk", "yarn")}) == 4
    assert script.rope_at("none", 2.0, 16, 32) is None
    cosines, _ = rotary_tables(33, 8, "cpu", script.rope_at("dynamic", 9.0, 16, 64))
    wanted, _ = rotary_tables(33, 8, "cpu", {"rope_type": "ntk", "factor": 4.0})
    assert torch.equal(cosines, wanted)


def test_documents_of_a_run_with_a_memory_are_read_in_windows(trained, tmp_path):
    folder, plain, remembering = trained
    rows = evaluate(folder, tmp_path / "out.csv", remembering, "--memory_tokens", 0, 16, 64)
    assert [(row["units"], row["memory_tokens"]) for row in rows] == [
        (units, tokens) for units in ("2", "30") for tokens in ("0", "16", "64")]
    _, arguments = load_run(remembering)
    assert arguments["memory_tokens"] == 32
    windowed = evaluate(folder, tmp_path / "windowed.csv", plain, "--windowed")
    assert [row["memory_tokens"] for row in windowed] == ["0", "0"]
    refused = run_script("evaluate_retrieval.py", remembering, "--test", folder / "gap_test.jsonl", "--out_csv",
                         tmp_path / "no.csv")
    assert refused.returncode == 2 and "evaluate_long_context.py" in refused.stderr


def test_losses_of_a_run_with_a_memory_are_those_of_windows_one_after_another(trained, tmp_path):
    """In memory are the tokens of the last targets' document, as far as it reaches; of none: the last window alone."""
    folder, _, remembering = trained
    rows = evaluate(folder, tmp_path / "out.csv", remembering, "--texts", f"own={folder / 'gap_val.bin'}", "--lengths",
                    8, 48, "--windows", 5, "--memory_tokens", 0, 16, 64)
    model, _ = load_run(remembering)
    tokens = torch.from_numpy(np.fromfile(folder / "gap_val.bin", np.uint16).astype(int))
    numbers = torch.cat([torch.zeros(1, dtype=torch.int64), (tokens == tokens[-1]).cumsum(0)[:-1]])
    found = {row["memory_tokens"]: row for row in rows if row["measure"] == "loss"}
    assert list(found) == ["0", "16", "64"] and {row["length"] for row in found.values()} == {"48"}
    for memory, row in found.items():
        losses = []
        for end in range(48, 241, 48):
            store = MemoryStore(1, 2, model.embedding.embedding_dim // 2, int(memory)) if int(memory) else None
            for first in range(end - 48, end, LENGTH):
                part = slice(first, first + LENGTH)
                context = {"store": store.segment(slice(None), numbers[None, part])} if store else {}
                states = model.hidden(tokens[None, part], **context)
            logits = states[0, -4:] @ model.output_weight.T
            losses.append(torch.nn.functional.cross_entropy(logits, tokens[end - 3:end + 1]).item())
        assert float(row["value"]) == pytest.approx(np.mean(losses), abs=1e-5) and row["n"] == "20"
    assert found["0"]["value"] != found["64"]["value"]


def test_other_tokens_and_short_texts_are_one_line(trained, tmp_path):
    folder, run_dir, _ = trained
    done = run_script("evaluate_long_context.py", run_dir, "--texts", f"own={folder / 'gap_val.bin'}", "--lengths",
                      4096, "--out_csv", tmp_path / "out.csv")
    assert done.returncode == 2 and "too few for --lengths" in done.stderr and done.stderr.count("\n") == 1
    done = run_script("evaluate_long_context.py", run_dir, tmp_path / "nothing", "--test", folder / "gap_test.jsonl",
                      "--out_csv", tmp_path / "out.csv", "--device", "cpu")
    assert done.returncode == 2
    kept, = json.loads((tmp_path / "out.csv.partial.json").read_text())["runs"]  # the first run, measured before
    assert {row["measure"] for row in kept["rows"]} == {"accuracy"} and not (tmp_path / "out.csv").exists()
    prepare(tmp_path, "--n_keys", 20, "--train_tokens", 500, "--val_tokens", 500)
    done = run_script("evaluate_long_context.py", run_dir, "--test", tmp_path / "key_value_test.jsonl", "--out_csv",
                      tmp_path / "out.csv")
    assert done.returncode == 2 and "other symbols" in done.stderr and done.stderr.count("\n") == 1


def test_figures_are_drawn_from_the_tables(tmp_path):
    header = "variant,seed,trained_length,rope_type,length,memory_tokens,units,measure,of,value"
    (tmp_path / "t.csv").write_text("\n".join([header, *(
        f"long_{share},{seed},{trained},none,{length},{memory},{length},{measure},{of},0.5"
        for share, trained in ((0, 16), (1, 32)) for seed in (0, 1) for length in (16, 32) for memory in (0, 8)
        for measure, of in (("loss", "long"), ("loss", "short"), ("accuracy", "gap")))]))
    done = run_script("draw_long_context.py", "--memory", "t.csv", "--positions", "t.csv", "--mixes", "t.csv",
                      "--memory_text", "t.csv", "--out_dir", "figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"long_context_{name}.{kind}" for name in ("memory", "memory_text", "positions", "mixes")
        for kind in ("pdf", "png")}
    done = run_script("draw_long_context.py", cwd=tmp_path)
    assert done.returncode == 2 and "nothing to draw" in done.stderr


@pytest.mark.parametrize("preset, variables, message", [
    ("large", {}, "unknown preset large"), ("smoke", {"STEPS": "memory speed"}, "there is no step speed")])
def test_an_unknown_preset_or_step_is_one_line(tmp_path, preset, variables, message):
    done = bash("reproduce_long_context.sh", preset, OUT=str(tmp_path / "out"), **variables)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_the_mixes_of_a_preset_are_whole_windows_of_many_contexts(preset):
    done = bash("-c", f"PRESET={preset}; source long_context_presets.sh; "
                      "echo $((TOKENS % PACKED)) $((VALID % PACKED)) $((PACKED / LONGEST)) $((PACKED % LONGEST))")
    assert done.stdout.split() == ["0", "0", "16", "0"], done.stderr
    done = bash("-c", f"PRESET={preset}; source long_context_presets.sh; echo $TOKENS $VALID $PACKED ${{pairs[*]}}")
    tokens, valid, packed, *pairs = done.stdout.split()
    for wanted, flag, default in ((tokens, "--train_tokens", 5_000_000), (valid, "--val_tokens", 200_000)):
        recall = int(pairs[pairs.index(flag) + 1]) if flag in pairs else default
        assert recall // int(packed) >= round(0.3 * int(wanted) / int(packed))  # of the base runs' mixes


@pytest.mark.slow
def test_the_smoke_preset_from_nothing_to_its_figures(tmp_path):
    done = bash("reproduce_long_context.sh", "smoke", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")} == {
        "attention_loss", "attention_pareto", "attention_time", "long_context_memory",
        "long_context_memory_text", "long_context_mixes", "long_context_positions"}
    with open(tmp_path / "out" / "tuning.csv", newline="") as file:
        assert {row["variant"].removeprefix("tune_") for row in csv.DictReader(file)} == {
            "full", "shifted_sparse", "lora", "lora_norms", "lora_embeddings", "lora_both",
            "full_longer", "shifted_sparse_longer"}
