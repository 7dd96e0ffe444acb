"""Recall of a run on key-value documents against the reference model, and test documents that are refused."""

import csv
import hashlib
import json
import re
from collections import defaultdict

import numpy as np
import pytest
import torch

from helpers import reference_losses, run_script, start_script, training_flags
from preparing import prepare_retrieval as prepare


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps on key-value recall, beside its token files."""
    folder = tmp_path_factory.mktemp("recall")
    prepare(folder, "--max_units", 5, "--n_queries", 4, "--n_keys", 8, "--n_values", 4, "--train_tokens", 4_000,
            "--val_tokens", 2_000, "--test_units", 3, 5)
    done = run_script("train.py", *training_flags(folder / "key_value_train.bin", folder / "runs", "--max_iters", 10,
                                                  "--untied", train_tokens=4_000))
    assert done.returncode == 0, done.stderr
    run_dir, = (folder / "runs").iterdir()
    return folder, run_dir


def test_recall_is_measured_as_a_reference_in_float64_does(trained, tmp_path):
    folder, run_dir = trained
    process = start_script("evaluate_retrieval.py", run_dir, "--test", folder / "key_value_test.jsonl", "--out_csv",
                           "recall.csv", "--device", "cpu", cwd=tmp_path)
    _, error = process.communicate()
    assert process.returncode == 0, error
    weights = torch.load(run_dir / "best.pt")
    cells = defaultdict(list)
    for line in map(json.loads, (folder / "key_value_test.jsonl").read_text().splitlines()):
        losses = reference_losses(weights, 2, torch.tensor(line["ids"]))
        for at, gold, number, _ in line["answers"]:
            cells[line["units"], "gold", gold].append(losses[at - 1].item())
            cells[line["units"], "number", number].append(losses[at - 1].item())
            if number == 0:
                cells[line["units"], "gold_first", gold].append(losses[at - 1].item())
    with open(tmp_path / "recall.csv") as file:
        rows = {(int(row["units"]), row["by"], int(row["index"])): row for row in csv.DictReader(file)}
    assert set(cells) == {key for key in rows if key[1] != "hops"}
    for key, losses in cells.items():
        assert int(rows[key]["n"]) == len(losses) and 0 <= float(rows[key]["accuracy"]) <= 1
        assert float(rows[key]["cross_entropy"]) == pytest.approx(np.mean(losses), abs=2e-5)


def test_answers_that_no_context_says_count_under_number_alone(trained, tmp_path):
    """With a single labelled point each answer is a guess: no accuracy of known ones, and no error."""
    prepare(tmp_path, "--task", "labels", "--max_units", 2, "--train_tokens", 2_000, "--val_tokens", 1_000,
            "--test_units", 1)
    done = run_script("train.py", *training_flags(tmp_path / "labels_train.bin", tmp_path / "runs", "--max_iters", 2,
                                                  train_tokens=2_000))
    assert done.returncode == 0, done.stderr
    run_dir, = (tmp_path / "runs").iterdir()
    done = run_script("evaluate_retrieval.py", run_dir, "--test", tmp_path / "labels_test.jsonl", "--out_csv",
                      tmp_path / "recall.csv", "--device", "cpu")
    assert done.returncode == 0 and "no answer that the context says" in done.stdout, done.stderr
    assert {row["by"] for row in csv.DictReader(open(tmp_path / "recall.csv"))} == {"number"}


def test_a_run_on_symbols_becomes_a_model_with_their_tokenizer(trained, tmp_path):
    folder, run_dir = trained
    done = run_script("export_hf.py", run_dir, "--out_dir", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    line = json.loads((folder / "key_value_test.jsonl").read_text().splitlines()[0])
    text = tokenizer.decode(line["ids"])
    assert tokenizer(text)["input_ids"] == line["ids"] and re.fullmatch(r"k\d+ v\d+( k\d+ v\d+)*", text)
    ids = torch.tensor([line["ids"]])
    logits = AutoModelForCausalLM.from_pretrained(tmp_path / "model")(ids).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").double()
    weights = torch.load(run_dir / "best.pt")
    for name in ("embedding.weight", "output.weight"):
        weights[name] = weights[name][:14]  # the export holds the vocabulary alone
    assert torch.allclose(losses, reference_losses(weights, 2, ids[0]), atol=2e-5)


def test_test_documents_of_other_symbols_are_refused_in_one_line(trained, tmp_path):
    prepare(tmp_path, "--train_tokens", 2_000, "--val_tokens", 2_000)
    refused = run_script("evaluate_retrieval.py", trained[1], "--test", tmp_path / "key_value_test.jsonl", "--out_csv",
                         tmp_path / "recall.csv", "--device", "cpu")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "other symbols" in refused.stderr


def test_test_documents_that_are_not_whole_are_refused_in_one_line(trained, tmp_path):
    folder, run_dir = trained
    test, described = tmp_path / "key_value_test.jsonl", tmp_path / "key_value_test.json"
    about = json.loads((folder / described.name).read_text())
    whole = (folder / test.name).read_text().splitlines(keepends=True)
    empty = {**about, "sha256": hashlib.sha256().hexdigest()}
    for content, contents, said in ((whole[:-1], about, "cut short"), ([], about, "cut short"), ([], empty, "empty")):
        test.write_text("".join(content))
        described.write_text(json.dumps(contents))
        refused = run_script("evaluate_retrieval.py", run_dir, "--test", test, "--out_csv", tmp_path / "recall.csv",
                             "--device", "cpu")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and said in refused.stderr
