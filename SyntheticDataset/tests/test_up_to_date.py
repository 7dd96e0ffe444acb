"""The one rule for what is done: a file holds the request that made it, and is made again for another one."""

import json

import pytest
import torch

import measures
import sweep
from files import save_tensors
from helpers import refused
from measures import load_measures

MLP = ("train_model.py", "--context_length", 9, "--hidden_size", 8, "--batch_size", 50, "--num_epochs", 3)
RUN = "outputs/runs/mlp_ctl9_train700_wd0.0001_seed0"


@pytest.fixture
def run_dir(script, small_data, tmp_path):
    script(*MLP, "--learning_rate", 5e-2)
    result = json.loads((tmp_path / RUN / "final.json").read_text())
    assert result["best_epoch"] < result["last_epoch"]
    return tmp_path / RUN


def test_features_of_other_weights_or_samples_are_made_again(script, run_dir):
    """Of the last weights, then of the run's directory, which means its best; then of fewer samples; then kept."""
    def features(position, *flags):
        script("save_feature_tensor.py", "--model_state_dict_position", position, *flags)
        return torch.load(run_dir / "features.pt", weights_only=True)["features"]

    last, best = features(run_dir / "last.pt"), features(run_dir)
    assert not torch.equal(last, best)
    script("save_feature_tensor.py", "--model_state_dict_position", run_dir / "best.pt", "--save_position", "best.pt")
    assert torch.equal(best, torch.load(run_dir.parents[2] / "best.pt", weights_only=True)["features"])
    assert len(features(run_dir, "--valid_dataset_size", 50)) == 50
    stamp = (run_dir / "features.pt").stat().st_mtime_ns
    features(run_dir, "--valid_dataset_size", 50)
    assert (run_dir / "features.pt").stat().st_mtime_ns == stamp


def test_an_entropy_that_was_left_out_is_measured_when_asked_for(script, tmp_path):
    torch.manual_seed(0)
    (tmp_path / "run").mkdir()
    save_tensors(tmp_path / "run" / "features.pt", {"features": torch.randn(50, 3)})
    save_tensors(tmp_path / "other.pt", {"features": torch.randn(60, 4), "dtype": "bfloat16"})
    script("measure_features.py", "run/features.pt", "other.pt", "--no-entropy")
    rows = {row["name"]: row for row in load_measures(tmp_path / "outputs" / "measures")}
    assert rows["run"]["kde_entropy"] is None and rows["other"]["dtype"] == "bfloat16"
    assert "run: rank 3 of 3" in script("measure_features.py", "run/features.pt").stdout
    rows = {row["name"]: row for row in load_measures(tmp_path / "outputs" / "measures")}
    assert rows["run"]["kde_entropy"] > 0 and rows["other"]["n"] == 60  # the other file's row stays
    assert script("measure_features.py", "run/features.pt").stdout == ""  # up to date
    save_tensors(tmp_path / "run" / "features.pt", {"features": torch.randn(70, 3)})
    script("measure_features.py", "run/features.pt")
    assert {row["name"]: row["n"] for row in load_measures(tmp_path / "outputs" / "measures")}["run"] == 70


def test_a_row_is_never_kept_for_the_request_of_another_one(script, tmp_path, monkeypatch):
    """Measured without the entropy over a row with it, and stopped at each of its writings in turn."""
    save_tensors(tmp_path / "some.pt", {"features": torch.randn(50, 3)})
    writers = {name: getattr(measures, name) for name in ("write_csv", "save_tensors")}
    for last in range(1, 10):
        script("measure_features.py", "some.pt")
        row, = load_measures(tmp_path / "outputs" / "measures")
        assert row["kde_entropy"] is not None
        writings = iter(range(1, 100))
        for name, writer in writers.items():
            def stop_or_write(*arguments, writer=writer, last=last, writings=writings):
                if next(writings) == last:
                    raise SystemExit(9)
                writer(*arguments)
            monkeypatch.setattr(measures, name, stop_or_write)
        code = script("measure_features.py", "some.pt", "--no-entropy", check=False).returncode
        monkeypatch.undo()
        if code == 0:
            break
    assert last > 2


def test_rows_of_files_that_are_not_named_can_be_left_out(script, tmp_path):
    for name in ("one", "two", "three"):
        save_tensors(tmp_path / f"{name}.pt", {"features": torch.randn(50, 3)})

    def names(*command):
        script("measure_features.py", *command)
        spectra = torch.load(tmp_path / "outputs" / "measures" / "spectra.pt", weights_only=True)
        found = {row["name"] for row in load_measures(tmp_path / "outputs" / "measures")}
        assert found == spectra["eigenvalues"].keys() == spectra["request"].keys()
        return found

    assert names("one.pt", "two.pt") == {"one", "two"}
    assert names("three.pt") == {"one", "two", "three"}
    assert names("two.pt", "--no-others") == {"two"}  # which is there already
    assert names("one.pt", "--no-others") == {"one"}


def test_a_run_of_other_arguments_or_samples_is_not_this_one(script, run_dir, tmp_path):
    flags = ("sweep.py", "--context_lengths", 9, "--train_dataset_sizes", 700, "--weight_decays", 1e-4,
             "--hidden_size=8", "--batch_size", 50, "--num_epochs=3")
    assert "all 1 cells have finished" in script(*flags, "--missing", "--learning_rate=5e-2").stdout
    other = script(*flags, "--missing", check=False)  # another learning rate
    assert other.returncode == 1 and other.stdout.strip() == run_dir.name
    assert "a sweep takes --seeds" in script(*flags, "--seed=1", check=False).stderr
    assert "all 1 cells" in script(*flags, "--missing", "--learning_rate=5e-2", "--threads", 2).stdout  # of no account
    collected = script(*flags, "--collect", check=False)
    assert "learning_rate 0.05, not 0.001" in collected.stdout and run_dir.name in collected.stderr
    script("generate_data.py", "--train_size", 700, "--valid_size", 300, "--context_bits", 10, "--seed", 1,
           "--task_definition", "tasks.json")
    assert script(*flags, "--missing", "--learning_rate=5e-2", check=False).returncode == 1
    refused(script(*MLP, "--learning_rate", 5e-2, check=False), "seed 114, not 1", "--overwrite")
    for path in (tmp_path / "data").iterdir():  # without the samples, those that the run names count
        path.unlink()
    assert script(*flags, "--missing", "--learning_rate=5e-2").returncode == 0


SWEEP = ("sweep.py", "--context_lengths", 9, "--train_dataset_sizes", 700, "--hidden_size", 8, "--batch_size", 50,
         "--num_epochs", 3, "--learning_rate", 5e-2)


def test_with_overwrite_a_finished_cell_is_trained_again(script, run_dir, tmp_path, monkeypatch):
    """But it is there for --missing and --collect, which a job behind a sweep calls with the same flags."""
    flags = *SWEEP, "--weight_decays", 1e-4
    monkeypatch.chdir(tmp_path)
    for more, done in (((), True), (("--overwrite",), False), (("--overwrite", "--no-overwrite"), True)):
        monkeypatch.setattr("sys.argv", [*map(str, flags), *more])
        (cell, *_), = sweep.make_cells(*sweep.parse_args())
        assert cell.is_done() == done
    assert "all 1 cells have finished" in script(*flags, "--overwrite", "--missing").stdout
    assert "1 finished runs of 1" in script(*flags, "--overwrite", "--collect", "--no-draw").stdout


def test_several_weight_decays_are_collected_and_not_drawn_as_one(script, run_dir, tmp_path):
    script(*MLP, "--learning_rate", 5e-2, "--weight_decay", 1e-3)
    collected = script(*SWEEP, "--weight_decays", 1e-4, 1e-3, 1e-2, "--collect", check=False)
    assert collected.returncode == 1 and "2 finished runs of 3" in collected.stdout  # one is missing
    assert "no figures of several weight decays" in collected.stdout
    for name, table in (("draw_loss_vs_context.py", "sweep.csv"), ("draw_training_curves.py", "sweep_curves.csv")):
        refused(script(name, "--results", f"outputs/{table}", check=False), "several weight decays")
    assert not (tmp_path / "outputs" / "figures").exists()
