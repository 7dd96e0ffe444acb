"""Bad input: one line on stderr, exit code 2, nothing half-written."""

import json

import pytest
import torch

from helpers import refused
from run import run_tag

TRAIN = ("train_model.py", "--context_length", 9, "--num_epochs", 1)


@pytest.mark.parametrize("definition, word", [
    ("[[4, 3], [5]]", "entry 2"), ("[[4, 3], [5, 5]]", "entry 2"), ("[[0, 3]]", "entry 1"), ("[[4, 3.5]]", "entry 1"),
    ("[[true, 3]]", "entry 1"), ("[4, 3]", "entry 1"), ("[]", "empty"), ('{"a": 1}', "no list"), ('["43"]', "entry 1"),
    ("[[4, 3]", "not JSON"),
])
def test_malformed_task_definition(script, tmp_path, definition, word):
    (tmp_path / "tasks.json").write_text(definition)
    refused(script("generate_data.py", "--train_size", 10, "--valid_size", 10, "--task_definition", "tasks.json",
                   check=False), "tasks.json", word)
    assert not (tmp_path / "data" / "train.pt").exists()


def test_generation_refuses(script, tmp_path):
    (tmp_path / "file").write_text("")
    sizes = ("--train_size", 10, "--valid_size", 10)
    refused(script("generate_data.py", *sizes, "--task_definition", "nowhere.json", check=False), "No such file")
    refused(script("generate_data.py", *sizes, "--out_dir", "file/data", check=False), "file/data")
    refused(script("generate_data.py", *sizes, "--context_bits", 4, check=False), "16 distinct strings")
    refused(script("generate_data.py", *sizes, "--seed", 2**64, check=False), "2^63")
    refused(script("generate_data.py", "--train_size", 0, check=False), "--train_size")
    refused(script("generate_data.py", "--train", 5, check=False), "--train")  # no abbreviations


def test_missing_and_damaged_data(script, small_data):
    refused(script(*TRAIN, "--training_data_position", "nowhere.pt", check=False), "nowhere.pt")
    whole = (small_data / "train.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a tensor file"):
        (small_data / "train.pt").write_bytes(content)
        refused(script(*TRAIN, check=False), "train.pt", "damaged")
    torch.save({"packed_bits": torch.zeros(3, 2)}, small_data / "train.pt")
    refused(script(*TRAIN, check=False), "train.pt", "has no answer")


def test_training_refuses(script, small_data, tmp_path):
    refused(script("train_model.py", "--context_length", 11, check=False), "10 bits", "11")
    refused(script(*TRAIN, "--train_dataset_size", 701, check=False), "700 samples", "701")
    refused(script(*TRAIN, "--valid_dataset_size", 301, check=False), "300 samples", "301")
    refused(script(*TRAIN, "--batch_size", 0, check=False), "--batch_size")
    refused(script(*TRAIN, "--learning_rate", "-1", check=False), "--learning_rate")
    refused(script(*TRAIN, "--output_size", 2, check=False), "--output_size")
    (tmp_path / "file").write_text("")
    refused(script(*TRAIN, "--save_position", "file/runs", check=False), "file/runs")
    assert not (tmp_path / "outputs").exists()


def test_files_of_different_data_are_not_mixed(script, small_data, tmp_path):
    script("generate_data.py", "--train_size", 700, "--valid_size", 300, "--context_bits", 10, "--seed", 5,
           "--task_definition", "tasks.json", "--out_dir", "other")
    refused(script(*TRAIN, "--validation_data_position", "other/valid.pt", check=False), "other/valid.pt", "seeds")
    script(*TRAIN, "--hidden_size", 8)
    run = tmp_path / "outputs" / "runs" / "mlp_ctl9_train700_wd0.0001_seed0"
    refused(script("save_feature_tensor.py", "--model_state_dict_position", run, "--validation_data_position",
                   "other/valid.pt", check=False), "seed 114, not 5", "other/valid.pt")
    assert not (run / "features.pt").exists()


def test_nan_loss_stops_and_keeps_the_checkpoint(script, small_data, tmp_path):
    flags = ("train_model.py", "--context_length", 9, "--batch_size", 50, "--hidden_size", 16,
             "--checkpoint_seconds", 0)
    done = script(*flags, "--learning_rate", 1e30, "--num_epochs", 50, check=False)
    refused(done, "NaN", "learning_rate")
    directory = tmp_path / "outputs" / "runs" / "mlp_ctl9_train700_wd0.0001_seed0"
    assert not (directory / "final.json").exists()
    script(*flags, "--num_epochs", 1, "--overwrite")
    assert (directory / "final.json").exists()


def test_a_damaged_checkpoint_is_refused(script, small_data, tmp_path):
    directory = tmp_path / "outputs" / "runs" / "mlp_ctl9_train700_wd0.0001_seed0"
    directory.mkdir(parents=True)
    (directory / "ckpt_last.pt").write_bytes(b"PK half a file")
    refused(script(*TRAIN, check=False), "ckpt_last.pt", "damaged")
    torch.save({"weights": {}, "optimizer": {}, "seconds": 1.0, "step": 3}, directory / "ckpt_last.pt")
    refused(script(*TRAIN, check=False), "ckpt_last.pt", "this version")


def test_weights_that_do_not_fit(script, small_data, tmp_path):
    script(*TRAIN, "--hidden_size", 16)
    run = tmp_path / "outputs" / "runs" / "mlp_ctl9_train700_wd0.0001_seed0"
    refused(script("save_feature_tensor.py", "--model_state_dict_position", run, "--hidden_size", 20, check=False),
            "does not fit")
    refused(script("save_feature_tensor.py", "--model_state_dict_position", run, "--visible_context_length", 10,
                   check=False), "context length of 9")
    (tmp_path / "alone.pt").write_bytes((run / "best.pt").read_bytes())
    refused(script("save_feature_tensor.py", "--model_state_dict_position", "alone.pt", check=False),
            "--context_length", "--model")
    refused(script("save_feature_tensor.py", "--model_state_dict_position", "nowhere", check=False), "no args.json",
            "nowhere")
    assert not (run / "features.pt").exists()
    torch.save({"0": 1}, run / "best.pt")
    refused(script("save_feature_tensor.py", "--model_state_dict_position", run, check=False), "does not fit")
    (run / "args.json").write_text('{"arguments": {}}')
    refused(script("save_feature_tensor.py", "--model_state_dict_position", run, check=False), "args.json", "version")
    refused(script("collect_results.py", check=False), "args.json", "version")


def test_features_that_cannot_be_measured(script, tmp_path):
    for name, contents, word in (
        ("few", {"features": torch.rand(5, 10)}, "save more samples"),
        ("nan", {"features": torch.full((50, 3), float("nan"))}, "finite"),
        ("equal", {"features": torch.ones(50, 3)}, "equal"),
        ("none", {"tensor": torch.rand(50, 3)}, '"features"'),
    ):
        torch.save(contents, tmp_path / f"{name}.pt")
        refused(script("measure_features.py", f"{name}.pt", check=False), f"{name}.pt", word)
    whole = (tmp_path / "few.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    refused(script("measure_features.py", "half.pt", check=False), "half.pt", "damaged")
    torch.save({"features": torch.rand(50, 3), "dtype": "int8"}, tmp_path / "kind.pt")
    refused(script("measure_features.py", "kind.pt", check=False), "kind.pt", "int8")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    refused(script("measure_features.py", "a/few.pt", "b/few.pt", check=False), "would both be the row few")
    assert not list((tmp_path / "outputs" / "measures").glob("measures*"))


def test_figures_and_tables_without_results(script, tmp_path):
    refused(script("collect_results.py", check=False), "no such runs")
    refused(script("draw_loss_vs_context.py", check=False), "sweep.csv")
    refused(script("draw_training_curves.py", check=False), "sweep_curves.csv")
    refused(script("draw_intrinsic_dimension.py", check=False), "measures.csv")
    (tmp_path / "sweep.csv").write_text("context_length,seed\n9,\n")
    refused(script("draw_loss_vs_context.py", "--results", "sweep.csv", check=False), "sweep.csv", "column")
    torch.save({"features": torch.rand(50, 3)}, tmp_path / "some.pt")
    script("measure_features.py", "some.pt")
    refused(script("draw_intrinsic_dimension.py", check=False), "save_feature_tensor.py")


def test_a_missing_cell_is_named_and_the_others_are_drawn(script, small_data, tmp_path):
    for length in (5, 9):
        script("train_model.py", "--context_length", length, "--num_epochs", 1, "--hidden_size", 8)
    (tmp_path / "outputs" / "runs" / "mlp_ctl5_train700_wd0.0001_seed0" / "final.json").unlink()
    done = script("collect_results.py", check=False)
    assert done.returncode == 1 and done.stderr == "missing: mlp_ctl5_train700_wd0.0001_seed0\n"
    assert len((tmp_path / "outputs" / "sweep.csv").read_text().splitlines()) == 2
    for name in ("draw_loss_vs_context.py", "draw_training_curves.py"):
        script(name)
    for figure in ("loss_vs_context", "approximation_loss", "training_curves"):
        for suffix in ("pdf", "png"):
            assert (tmp_path / "outputs" / "figures" / f"{figure}.{suffix}").stat().st_size > 5000
    done = script("collect_results.py", "--seeds", 0, 1, check=False)
    assert done.returncode == 1 and done.stderr.count("seed1") == 2


SIZED = {"train_dataset_size": 700, "seed": 0}
CELL = {"model": "mlp", "context_length": 5, "weight_decay": 0.1, "num_epochs": 1, **SIZED}
DEEP = {"context_bits": 8, "width": 16, "n_layer": 1, "seed": 0}


@pytest.mark.parametrize("command, trainer, arguments, other, word", [
    (("collect_results.py",), "train_model", CELL, {"context_length": 9, "num_epochs": 2}, "num_epochs 2, not 1"),
    (("collect_results.py",), "train_model", CELL, {"seed": 1}, "task_definition"),
    (("collect_results.py", "--table1"), "train_transformer", DEEP, {"width": 8}, "width"),
    (("collect_results.py", "--table1"), "train_transformer", DEEP, {"seed": 1}, "task_definition"),
    (("collect_retrieval.py",), "train_retrieval", {**SIZED, "num_steps": 5}, {"seed": 1, "num_steps": 6}, "num_steps"),
])
def test_runs_that_do_not_belong_together_are_not_mixed(script, tmp_path, command, trainer, arguments, other, word):
    """Other arguments than the swept ones, or another task."""
    for number, request in enumerate((arguments, {**arguments, **other})):
        directory = tmp_path / "runs" / run_tag(trainer, request)
        directory.mkdir(parents=True)
        data = {"task_definition": [[4, 3 - number]]} if word == "task_definition" else {}
        (directory / "args.json").write_text(json.dumps(
            {"request": {"trainer": trainer, "arguments": request, "data": data}, "environment": {}}))
        (directory / "final.json").write_text("{}")
    refused(script(*command, "--runs", "runs", check=False), word, "another directory")
    assert not (tmp_path / "outputs").exists()


def test_table1_takes_no_flags_of_other_runs(script):
    for flag in (("--context_lengths", 5), ("--train_dataset_sizes", 5), ("--weight_decays", 0), ("--use_bi_mlp",)):
        refused(script("collect_results.py", "--table1", *flag, check=False), "--table1", "leave it out")
