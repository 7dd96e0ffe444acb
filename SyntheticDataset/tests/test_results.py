"""The committed results: the tables of their README are current, and they say what is said of them."""

import re

import pytest
import torch

from collecting import load_table1, optimum_and_margin, over_seeds, read_numbers
from helpers import FOLDER, call, copy_of_the_folder, run
from measures import load_measures, right_thresholds

RESULTS = FOLDER / "results"
TRAINING = "--num_epochs 1 --batch_size 500 --valid_dataset_size 400"
SMALLER = {  # flags that make a command small; the last one given counts
    "generate_data.py": "--train_size 2000 --valid_size 500",
    "train_model.py": f"--train_dataset_size 2000 {TRAINING}",
    "train_model.sh": f"{TRAINING} --context_lengths 22 36 --train_dataset_sizes 2000 --seeds 0",
    "save_feature_tensor.py": "--valid_dataset_size 400 --n_samples 100",
    "train_transformer.py": "--width 16 --n_layer 1 --n_head 2 --batch_size 2 --cycle_steps 4 --max_cycles 1 "
                            "--settling_steps 2 --eval_contexts 2 --final_contexts 2 --device cpu --dtype float32 "
                            "--no-compile",
    "benchmark.py": "--train_size 2000 --generation_size 2000 --kde_shapes 400x8 --repeats 1 --script_train_size 500 "
                    "--transformer_batch_size 1",
}


def test_the_tables_are_current(tmp_path):
    """Of all READMEs of results; one whose numbers are gone is made anew."""
    done = call("make_tables.py", "--check", cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    text = (RESULTS / "retrieval" / "README.md").read_text()
    (tmp_path / "README.md").write_text(re.sub(r"(?m)^\| ?[\d].*$", "", text))
    call("make_tables.py", "--readme", "README.md", cwd=tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_the_optima_of_the_small_preset_are_interior_and_beyond_the_seeds_spread():
    columns = ("context_length", "train_dataset_size", "seed", "best_valid_loss")
    curves = over_seeds(read_numbers(RESULTS / "small" / "sweep.csv", columns), "best_valid_loss")
    found = {size: (lengths, *optimum_and_margin(lengths, losses), len(losses[0]))
             for size, (lengths, losses) in curves.items()}
    assert {size: lengths[best] for size, (lengths, best, *_) in found.items()} == {40000: 27, 60000: 36, 85000: 50}
    assert all(margin > 0 and seeds == 5 for *_, margin, seeds in found.values())


def test_the_intrinsic_dimension_is_the_number_of_visible_subtasks():
    rows = load_measures(RESULTS / "small" / "measures")
    assert len({row["visible_context_length"] for row in rows}) == 6 and 0.1 in right_thresholds(rows)
    assert all(row["rank"] == row["width"] == 80 for row in rows)


@pytest.mark.parametrize("name, excess", [("transformer_small", 0.0048), ("transformer_paper", 0.00007),
                                          ("transformer_settled", 0.0001), ("transformer_unsettled", 0.00003)])
def test_the_transformers_meet_the_bayes_risk(name, excess):
    for entry in load_table1(RESULTS / name / "table1.csv").values():
        assert max(entry["cross_entropy"].values()) - entry["bayes_risk"] < excess
    for row in load_measures(RESULTS / name / "measures"):
        beyond = row["eigenvalues"][row["rank"]:]
        tolerance = row["width"] * torch.finfo(torch.float64).eps * row["eigenvalues"][0]
        assert (beyond <= 1e-9).all() and (row["eigenvalues"][:row["rank"]] > tolerance).all()


@pytest.mark.slow
@pytest.mark.parametrize("readme", ["README.md", "results/README.md"])
def test_every_command_runs(readme, tmp_path):
    """Block by block, with a small grid in place of the larger ones; presets with tests of their own are left out."""
    folder, tools = copy_of_the_folder(tmp_path), tmp_path / "bin"
    tools.mkdir()
    (tools / "python").write_text('#!/bin/sh\nexec "$PYTHON" "$@"\n')
    (tools / "python").chmod(0o755)
    for block in re.findall(r"```bash\ncd SyntheticDataset\n(.*?)```", (FOLDER / readme).read_text(), flags=re.S):
        lines = [re.sub(r"(reproduce_retrieval\.sh) small$", r"\1 smoke", line) for line in block.splitlines()
                 if not re.match(r"bash reproduce(_transformer)?\.sh", line)]
        smaller = [f"{line} {SMALLER.get(re.search(r'[a-z_]+[.](py|sh)|$', line).group(), '')}" for line in lines]
        code, output = run(["bash", "-ec", "\n".join(smaller)], folder, PATH=f"{tools}:/usr/bin:/bin")
        assert code == 0, output
