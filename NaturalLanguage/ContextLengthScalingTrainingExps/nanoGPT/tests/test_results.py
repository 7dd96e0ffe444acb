"""From finished runs to tables, figures, a Hugging Face model and samples."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from helpers import FOLDER, TINY
from script_process import quick_python
from sweep_table import optimum, read_cells


@pytest.fixture(scope="module")
def sweep(small_bins, tmp_path_factory):
    """A folder with four finished runs, made by train_sweep.sh: two context lengths, one size, two seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    grid = {"CONTEXT_LENGTHS": "16 32", "TRAIN_TOKENS": "3000", "SEEDS": "0 1", "TRAIN_BIN": str(small_bins),
            "OUT_DIR": str(folder / "runs"), "PYTHON": quick_python()}
    command = ["bash", str(FOLDER / "train_sweep.sh"), *map(str, TINY), "--max_iters", "10"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **grid}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 runs, ") and "[4/4] ctl32_tok3000_seed1: validation loss" in done.stdout
    return folder, grid, command


def test_the_table_holds_what_the_runs_say(sweep, nanogpt, tmp_path):
    runs = sweep[0] / "runs"
    nanogpt("collect_results.py", "--runs", runs, "--out_csv", "all.csv")
    with open(tmp_path / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["context_length"] + "/" + row["seed"] for row in rows] == ["16/0", "16/1", "32/0", "32/1"]
    for row in rows:
        final = json.loads((runs / f"ctl{row['context_length']}_tok3000_seed{row['seed']}" / "final.json").read_text())
        assert {name: "" if value is None else str(value) for name, value in final.items()} == row
        assert float(row["tokens_per_second"]) > 0 and row["mfu"] == "" and float(row["peak_memory_gigabytes"]) > 0
    with open(tmp_path / "all_curves.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5", "10"] * 4
    positions = torch.load(tmp_path / "all_positions.pt", weights_only=True)
    assert len(positions) == 4 and positions["ctl32_tok3000_seed1"].mean().item() == \
        pytest.approx(float(rows[3]["best_valid_loss"]), abs=1e-5)
    about = json.loads((tmp_path / "all_about.json").read_text())
    assert about["arguments"]["n_layer"] == 2 and "seed" not in about["arguments"]


def test_missing_runs_are_named(sweep, nanogpt, tmp_path):
    runs = shutil.copytree(sweep[0] / "runs", tmp_path / "runs")
    (runs / "ctl16_tok3000_seed1" / "final.json").unlink()
    done = nanogpt("collect_results.py", "--runs", "runs", "--out_csv", "some.csv", "--seeds", 0, 1, 2, check=False)
    assert done.returncode == 1 and "3 finished runs of 6" in done.stdout
    assert done.stderr.split() == ["missing:", "ctl16_tok3000_seed1", "ctl16_tok3000_seed2", "ctl32_tok3000_seed2"]
    done = nanogpt("collect_results.py", "--runs", "nowhere", check=False)
    assert done.returncode == 2 and "there are no runs" in done.stderr


def test_the_figures_are_drawn_from_the_table_alone(sweep, nanogpt, tmp_path):
    nanogpt("collect_results.py", "--runs", sweep[0] / "runs", "--out_csv", "all.csv")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", "--out_dir", "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == \
        [f"{stem}.{suffix}" for stem in ("loss_by_position", "loss_vs_context") for suffix in ("pdf", "png")]
    cells = read_cells(tmp_path / "all.csv")
    mean = np.mean([seed["best_valid_loss"] for seed in cells[3000][16].values()])
    assert f"3000 tokens, context 16, mean over the window: {mean:.4f} [" in done.stdout
    (tmp_path / "all_positions.pt").write_bytes(b"no tensors")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", check=False)
    assert done.returncode == 2 and "damaged" in done.stderr
    (tmp_path / "all.csv").write_text("context_length\n16\n")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", check=False)
    assert done.returncode == 2 and "lacks a number or a column" in done.stderr


def test_the_optimum_and_its_interval():
    clear = [np.array([2.0, 2.1]), np.array([1.0, 1.1]), np.array([1.5, 1.6])]
    best, interval = optimum([16, 64, 256], clear)
    assert best == 64 and list(interval) == [64, 64]
    overlapping = [np.array([2.0, 2.1]), np.array([1.0, 1.4]), np.array([1.1, 1.2])]
    best, interval = optimum([16, 64, 256], overlapping)
    assert best == 256 and list(interval) == [64, 256]
    assert optimum([16, 64], [np.array([2.0]), np.array([1.0])]) == (64, None)


def test_the_exported_model_has_the_logits_and_the_tokenizer_of_the_run(sweep, nanogpt, tmp_path):
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from export_hf import load_run
    run_dir = sweep[0] / "runs" / "ctl32_tok3000_seed1"
    nanogpt("export_hf.py", run_dir, "--out_dir", "model")
    ours, arguments = load_run(run_dir)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(theirs).__name__ == "GPTNeoXForCausalLM" and theirs.config.max_position_embeddings == 32
    tokens = torch.randint(300, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = theirs(tokens).logits
        torch.testing.assert_close(logits, ours(tokens), rtol=0, atol=1e-4)
        assert logits.std() > 0.1
        loss = theirs(tokens, labels=tokens).loss.item()  # Hugging Face's own shift and mean
        states = ours.hidden(tokens[:, :-1]).flatten(0, 1)
    from model import cross_entropies
    assert loss == pytest.approx(cross_entropies(states, ours.embedding.weight, tokens[:, 1:].flatten()).mean().item(),
                                 abs=1e-5)
    text = "some text, naïve or not"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(text).input_ids == Tokenizer.from_file(str(run_dir / "tokenizer.json")).encode(text).ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text and tokenizer.eos_token == "<|endoftext|>"
    assert "exported before" in nanogpt("export_hf.py", run_dir, "--out_dir", "model").stdout
    done = nanogpt("export_hf.py", run_dir.with_name("ctl32_tok3000_seed0"), "--out_dir", "model", check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(
        "model holds something else; add --overwrite to replace it, or choose another --out_dir")
    done = nanogpt("export_hf.py", sweep[0], "--out_dir", "other", check=False)
    assert done.returncode == 2 and not (tmp_path / "other").exists()


def test_samples_continue_the_prompt_and_repeat_with_the_seed(sweep, nanogpt):
    flags = (sweep[0] / "runs" / "ctl32_tok3000_seed0", "--prompt", "audi", "--max_new_tokens", 50, "--device", "cpu")
    one, same, other, greedy = (nanogpt("sample.py", *flags, *more).stdout
                                for more in ((), (), ("--seed", 1), ("--temperature", 0, "--num_samples", 2)))
    assert one == same != other and one.startswith("audi") and len(one) > 40
    assert greedy.count("---") == 1 and len(set(greedy.rstrip("\n").split("\n---\n"))) == 1


def test_a_finished_sweep_is_skipped_and_a_failing_run_is_reported(sweep, tmp_path):
    folder, grid, command = sweep
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/final.json")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **grid}, timeout=300)
    assert done.returncode == 0 and done.stdout.count("finished before") == 4
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/final.json")}
    grid = {**grid, "CONTEXT_LENGTHS": "16 24", "SEEDS": "0", "OUT_DIR": str(tmp_path / "runs")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **grid}, timeout=300)
    assert done.returncode == 1 and "1 of 2 runs failed" in done.stderr
    assert "FAILED (--context_length 24" in done.stderr and "not a multiple" in done.stderr
    assert (tmp_path / "runs" / "ctl16_tok3000_seed0" / "final.json").exists()


def test_a_task_of_an_array_trains_one_cell(sweep, tmp_path):
    """As Slurm starts it: from a copy of the file elsewhere, with its variables set."""
    _, grid, command = sweep
    copy = shutil.copy(FOLDER / "train_sweep.sh", tmp_path / "slurm_script")
    environment = {**os.environ, **grid, "OUT_DIR": str(tmp_path / "runs"), "SLURM_SUBMIT_DIR": str(FOLDER),
                   "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(["bash", copy, *command[2:]], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [path.parent.name for path in tmp_path.glob("runs/*/final.json")] == ["ctl16_tok3000_seed1"]
    done = subprocess.run(["bash", copy], capture_output=True, text=True, timeout=300,
                          env={**environment, "SLURM_ARRAY_TASK_ID": "4"})
    assert done.returncode == 2 and "use --array=0-3" in done.stderr


def test_a_terminated_sweep_ends_its_runs_and_goes_on(sweep, tmp_path):
    import signal
    import time
    _, grid, command = sweep
    grid = {**grid, "OUT_DIR": str(tmp_path / "runs"), "SEEDS": "0"}
    more = ["--max_iters", "200", "--checkpoint_seconds", "0"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, **grid, "PYTHON": sys.executable})
    while not list(tmp_path.glob("runs/*/ckpt_last.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    time.sleep(0.5)
    places = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/ckpt_last.pt")}
    time.sleep(1)
    assert places == {path: path.stat().st_mtime_ns for path in places}  # nobody trains any more
    done = subprocess.run([*command, *more], capture_output=True, text=True, env={**os.environ, **grid}, timeout=300)
    assert done.returncode == 0 and len(list(tmp_path.glob("runs/*/final.json"))) == 2


def test_the_script_of_one_run(small_bins, tmp_path):
    """train_script.sh writes the paper's configuration of the named part and trains with it; flags count more."""
    checkout = shutil.copytree(FOLDER, tmp_path / "copy", ignore=shutil.ignore_patterns("outputs", "*.bin", "config"))
    for path in small_bins.parent.glob("LONGCONTEXTSUBSET_*"):
        name = path.name if "tokenizer" in path.name else path.name.replace("P100.0", "P2.0")
        shutil.copy(path, checkout / "data" / "openwebtext" / name)
    command = ["bash", "train_script.sh", "32", "2p0", "--max_iters", "2", *map(str, TINY)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    config = json.loads((checkout / "config" / "LONGCONTEXT_train_gpt2_32ctl_2p0pct_small.json").read_text())
    assert config["warmup_iters"] == 2000 and config["tokens_per_step"] == 491_520 and config["n_layer"] == 6
    assert list(checkout.glob("outputs/runs/ctl32_tok*_seed0/final.json"))
    for bad, message in ((["32"], "give a context length"), (["32", "two"], "is not like 2p0")):
        done = subprocess.run([*command[:2], *bad], cwd=checkout, capture_output=True, text=True, env=environment)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_the_benchmark_measures_both_ways(nanogpt, tmp_path):
    nanogpt("benchmark.py", "--context_lengths", 32, "--tokens", 512, "--vocab_size", 30_000, "--n_layer", 1,
            "--n_head", 2, "--n_embd", 16, "--rounds", 1, "--out", "out/benchmark.json")
    entry, = json.loads((tmp_path / "out" / "benchmark.json").read_text())["contexts"]
    assert entry["ours"]["tokens_per_second"][0] > 0 and entry["mfu"] is None
    assert entry["times_faster"] == entry["ours"]["tokens_per_second"][0] / entry["plain"]["tokens_per_second"][0]
