"""From finished runs to tables, figures, a Hugging Face model and samples."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import jobs
from helpers import TIMINGS, TINY, run_script, start_script, training_flags
from model import cross_entropies
from paired import optimum
from run import METRICS, load_run, run_tag
from sweep_table import read_cells


@pytest.fixture(scope="module")
def runs(small_bins, tmp_path_factory):
    """A folder with four finished runs: two context lengths, one size, two seeds; each is still falling at its end."""
    folder = tmp_path_factory.mktemp("runs")
    for length in (16, 32):
        for seed in (0, 1):
            done = run_script("train.py", *training_flags(small_bins, folder, "--seed", seed, "--max_iters", 10,
                                                          context_length=length, train_tokens=3000))
            assert done.returncode == 0, done.stderr
    return folder


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_what_the_runs_say(runs, nanogpt, tmp_path):
    nanogpt("collect_results.py", "--runs", runs, "--out_csv", "all.csv")
    rows = read(tmp_path / "all.csv")
    assert [row["context_length"] + "/" + row["seed"] for row in rows] == ["16/0", "16/1", "32/0", "32/1"]
    tensors = torch.load(tmp_path / "all.pt", weights_only=True)
    assert tensors["curve_columns"] == list(METRICS)
    for row in rows:
        tag = run_tag(row["context_length"], 3000, row["seed"])
        final = json.loads((runs / tag / "final.json").read_text())
        expected = {name: "" if value is None else str(value) for name, value in final.items()}
        assert row == expected | {"at_last_step": "1", "environment": "0"}
        assert float(row["tokens_per_second"]) > 0 and row["mfu"] == "" and float(row["peak_memory_gigabytes"]) > 0
        assert tensors["position_losses"][tag].mean().item() == pytest.approx(final["best_valid_loss"], abs=1e-5)
        assert tensors["curves"][tag].tolist() == [[float(evaluation[name]) for name in METRICS]
                                                   for evaluation in read(runs / tag / "metrics.csv")]
    about = json.loads((tmp_path / "all_about.json").read_text())
    assert about["arguments"]["n_layer"] == 2 and "seed" not in about["arguments"]


def test_missing_and_foreign_runs(runs, nanogpt, small_bins, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "some runs")
    (copy / "ctl16_tok3000_seed1" / "final.json").unlink()
    done = nanogpt("collect_results.py", "--runs", copy, "--out_csv", "some.csv", "--seeds", 0, 1, 2, check=False)
    assert done.returncode == 1 and "3 finished runs of 6" in done.stdout
    assert done.stderr.split() == ["missing:", "ctl16_tok3000_seed1", "ctl16_tok3000_seed2", "ctl32_tok3000_seed2"]
    for arguments, message in ((("--runs", "nowhere"), "there are no runs"),
                               (("--runs", copy, "--seeds", 7), "none of the 2 runs")):
        done = nanogpt("collect_results.py", *arguments, check=False)
        assert done.returncode == 2 and message in done.stderr
    shutil.rmtree(copy / "ctl16_tok3000_seed0")  # the only one that has finished there
    nanogpt("train.py", *training_flags(small_bins, copy, "--max_iters", 5, context_length=16, train_tokens=3000))
    done = nanogpt("collect_results.py", "--runs", copy, "--out_csv", "tuned.csv", "--seeds", 0)
    assert "2 finished runs of 2" in done.stdout  # each length has its schedule
    shutil.rmtree(copy / "ctl32_tok3000_seed0")
    nanogpt("train.py", *training_flags(small_bins, copy, "--max_iters", 5, context_length=32, train_tokens=3000))
    done = nanogpt("collect_results.py", "--runs", copy, "--out_csv", "mixed.csv", check=False)
    assert done.returncode == 2 and "different experiments: max_iters" in done.stderr
    assert not (tmp_path / "mixed.csv").exists()


def test_a_sweep_gathers_the_runs_of_its_own_flags_alone(runs, nanogpt, small_bins, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(jobs, "run_script", lambda *command: drawn.append(Path(command[0]).name))
    out_dir = shutil.copytree(runs, tmp_path / "runs")
    flags = ("--collect", "--context_lengths", 16, 32, "--seeds", 0, 1, "--train_tokens", 3000, "--train_bin",
             small_bins, "--out_dir", out_dir, *TINY, "--max_iters", 10)
    done = nanogpt("sweep.py", *flags, "--overwrite")
    assert done.stderr == "" and len(read(tmp_path / "sweep.csv")) == 4
    shutil.rmtree(out_dir / "ctl16_tok3000_seed1")
    nanogpt("train.py", *training_flags(small_bins, out_dir, "--max_iters", 10, "--seed", 1, "--n_layer", 3,
                                        context_length=16, train_tokens=3000))
    done = nanogpt("sweep.py", *flags, check=False)
    assert done.returncode == 1 and "ctl16_tok3000_seed1 holds a run with n_layer 3, not 2" in done.stderr
    assert "missing: ctl16_tok3000_seed1" in done.stderr and len(read(tmp_path / "sweep.csv")) == 3
    done = nanogpt("sweep.py", *flags, "--n_layer", 12, check=False)
    assert done.returncode == 2 and "none of the 4 runs" in done.stderr
    assert len(read(tmp_path / "sweep.csv")) == 3 and drawn == ["draw_loss_vs_context.py"] * 2


def test_what_may_differ_within_a_sweep(nanogpt, small_bins, tmp_path):
    """The seed of the tokens, the steps of a warm-up in passes, and a schedule tuned to each size."""
    for seed, tokens in ((0, 3000), (1, 3000), (0, 6000), (1, 6000)):
        nanogpt("train.py", *training_flags(small_bins, "runs", "--seed", seed, "--data_seed", seed, "--max_iters",
                                            tokens // 1500, "--warmup_epochs", 1, train_tokens=tokens))
    nanogpt("collect_results.py", "--runs", "runs", "--out_csv", "all.csv")
    rows = read(tmp_path / "all.csv")
    assert [row["data_seed"] for row in rows] == ["0", "1"] * 2
    assert len({row["best_valid_loss"] for row in rows}) == 4


def test_the_figures_are_drawn_from_the_table_alone(runs, nanogpt, tmp_path, monkeypatch):
    from plotting import plt
    figures = []
    monkeypatch.setattr(plt, "subplots", lambda *a, subplots=plt.subplots, **b: figures.append(subplots(*a, **b))
                        or figures[-1])
    nanogpt("collect_results.py", "--runs", runs, "--out_csv", "all.csv")
    text = (tmp_path / "all.csv").read_text().splitlines()
    (tmp_path / "all.csv").write_text("\n".join([*text[:2], text[2].removesuffix("1,0") + "0,0", *text[3:]]) + "\n")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", "--out_dir", "figures")
    positions = torch.load(tmp_path / "all.pt", weights_only=True)["position_losses"]
    tags = [run_tag(*line.split(",")[:3]) for line in text[1:]]  # of both, what all has but for the changed cell
    for name, part in (("one", slice(2)), ("two", slice(2, None))):
        (tmp_path / f"{name}.csv").write_text("\n".join([text[0], *text[1:][part]]) + "\n")
        torch.save({"position_losses": {tag: positions[tag] for tag in tags[part]}}, tmp_path / f"{name}.pt")
    both = nanogpt("draw_loss_vs_context.py", "--results", "one.csv", "two.csv", "--out_dir", "both")
    said, expected = ([line.rpartition(" over ")[0] for line in drawn.stdout.splitlines() if line.count("[") == 1]
                      for drawn in (both, done))
    assert said == expected and len(said) == 4  # two lengths by both readings
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == \
        [f"{stem}.{suffix}" for stem in ("loss_by_position", "loss_vs_context") for suffix in ("pdf", "png")]
    cells = read_cells(tmp_path / "all.csv")
    losses = {length: [seed["best_valid_loss"] for seed in seeds.values()] for length, seeds in cells[3000].items()}
    assert f"3000 tokens, context 16, mean over the window: {np.mean(losses[16]):.4f} [" in done.stdout
    dots = [line for line in figures[0][1][0, 0].get_lines() if line.get_marker() == "."]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == \
        [(length, loss) for length in losses for loss in losses[length]]
    assert [line.get_fillstyle() for line in dots] == ["none", "full", "none", "none"]
    nanogpt("draw_loss_vs_context.py", "--results", "all.csv", "--by_seed", "--out_dir", "by_seed")
    dots, table = figures[4][1][0, 0].get_lines(), np.array(list(losses.values()))
    shown = np.reshape([line.get_ydata()[0] for line in dots if line.get_marker() == "."], table.shape)
    assert np.allclose(shown, table - table.mean(0) + table.mean()) and not np.allclose(shown, table)
    (tmp_path / "all.pt").write_bytes(b"no tensors")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", check=False)
    assert done.returncode == 2 and "damaged" in done.stderr
    (tmp_path / "all.csv").write_text("context_length\n16\n")
    done = nanogpt("draw_loss_vs_context.py", "--results", "all.csv", check=False)
    assert done.returncode == 2 and "lacks the column train_tokens" in done.stderr


def test_losses_are_paired_by_seed_over_several_tables(runs, nanogpt, tmp_path):
    nanogpt("collect_results.py", "--runs", runs, "--out_csv", "all.csv")
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    for name, part in (("one.csv", rows[::2]), ("two.csv", rows[1::2])):
        (tmp_path / name).write_text("\n".join([header, *part]) + "\n")
    cells = read_cells(tmp_path / "one.csv", tmp_path / "two.csv")
    assert cells == read_cells(tmp_path / "all.csv")
    shorter, longer = sorted(cells[3000])[:2]
    done = nanogpt("draw_paired_losses.py", "--results", "one.csv", "two.csv", "--shorter", shorter, "--longer", longer,
                   "--out_dir", "figures")
    values = [cells[3000][longer][seed]["best_valid_loss"] - cells[3000][shorter][seed]["best_valid_loss"]
              for seed in cells[3000][shorter]]
    assert f"3000 tokens: {longer} minus {shorter} {np.mean(values):+.4f} [" in done.stdout
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"paired_losses.pdf", "paired_losses.png"}
    done = nanogpt("draw_paired_losses.py", "--results", "one.csv", "--shorter", 7, "--longer", 9, check=False)
    assert done.returncode == 2 and "no seed has runs at both 7 and 9" in done.stderr


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_a_table_is_read_as_people_have_it(runs, nanogpt, tmp_path, separator):
    nanogpt("collect_results.py", "--runs", runs, "--out_csv", "all.csv")
    cells = read_cells(tmp_path / "all.csv")
    text = (tmp_path / "all.csv").read_text().replace(",", separator)
    (tmp_path / "saved.csv").write_text(text, encoding="utf-8-sig")
    assert read_cells(tmp_path / "saved.csv") == cells
    (tmp_path / "saved.csv").write_text(text + text.splitlines()[1] + "\n")
    done = nanogpt("draw_loss_vs_context.py", "--results", "saved.csv", check=False)
    assert done.returncode == 2 and "saved.csv has two rows of 16 tokens of context" in done.stderr


def test_the_optimum_and_the_lengths_that_are_not_significantly_worse():
    def found(**losses):
        """Of context lengths l16, l64, ... with a loss for each seed; None where a seed has no run."""
        best, others, means = optimum({
            int(name[1:]): {seed: {"loss": loss} for seed, loss in enumerate(values) if loss}
            for name, values in losses.items()}, "loss")
        assert means[best] == min(means.values())
        return best, others

    assert found(l16=[2.0, 2.1], l64=[1.0, 1.1], l256=[1.5, 1.6]) == (64, [])
    assert found(l16=[2.0, 2.1], l64=[1.0, 1.4], l256=[1.1, 1.2]) == (256, [64])
    assert found(l16=[2.0], l64=[1.0]) == (64, None)
    # the part of the corpus moves all lengths by more than they differ: 64 is best with each seed
    assert found(l16=[2.1, 4.1, 6.1], l64=[2.0, 4.0, 6.0], l256=[2.2, 4.2, 6.2]) == (64, [])
    # above the best by 0.2 on average, with a standard error of 0.058 (Student: times 4.30) or 0.041 (times 3.18)
    assert found(l64=[1.0, 2.0, 3.0], l256=[1.1, 2.2, 3.3]) == (64, [256])
    assert found(l64=[1.0, 2.0, 3.0, 4.0], l256=[1.1, 2.2, 3.3, 4.2]) == (64, [])
    # 256 is significantly worse, the longer 1,024 is not
    assert found(l64=[1.0, 2.0], l256=[1.2, 2.21], l1024=[1.1, 2.5]) == (64, [1024])
    # 256 has but the seed whose part is easy; with it, 64 is better, and by 0.2 as if 256 had both
    assert found(l64=[2.0, 4.0], l256=[2.2, None]) == (64, None)
    _, _, means = optimum({64: {0: {"loss": 2.0}, 1: {"loss": 4.0}}, 256: {0: {"loss": 2.2}}}, "loss")
    assert means == pytest.approx({64: 3.0, 256: 3.2})
    # 256 and 1,024 lack seeds; each is compared over those that it shares with 64
    assert found(l64=[1.0, 2.0, 4.0], l256=[1.1, None, 4.11], l1024=[1.2, 2.3, None]) == (64, [1024])
    assert found(l64=[4.0, None], l256=[None, 2.0]) == (256, None)


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    """A run and the model directory made of it."""
    folder = tmp_path_factory.mktemp("exported")
    done = run_script("export_hf.py", runs / "ctl32_tok3000_seed1", "--out_dir", folder / "model")
    assert done.returncode == 0, done.stderr
    return runs / "ctl32_tok3000_seed1", folder / "model"


def test_the_exported_model_has_the_logits_and_the_tokenizer_of_the_run(exported):
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer
    run_dir, model_dir = exported
    ours, _ = load_run(run_dir)
    theirs = AutoModelForCausalLM.from_pretrained(model_dir)
    assert type(theirs).__name__ == "GPTNeoXForCausalLM" and theirs.config.max_position_embeddings == 32
    tokens = torch.randint(300, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = theirs(tokens).logits
        assert logits.shape[-1] == 300 < ours.embedding.num_embeddings  # the vocabulary alone
        torch.testing.assert_close(logits, ours(tokens)[..., :300], rtol=0, atol=1e-4)
        assert logits.std() > 0.1
        loss = theirs(tokens, labels=tokens).loss.item()  # Hugging Face's own shift and mean, without our filling rows
        states = ours.hidden(tokens[:, :-1]).flatten(0, 1)
    expected = cross_entropies(states, ours.embedding.weight[:300], tokens[:, 1:].flatten()).mean().item()
    assert loss == pytest.approx(expected, abs=1e-5)
    text = "some text, naïve or not"
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert tokenizer(text).input_ids == Tokenizer.from_file(str(run_dir / "tokenizer.json")).encode(text).ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>" and len(tokenizer) == 300


def test_padded_prompts_give_what_single_ones_give(exported):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model, tokenizer = (kind.from_pretrained(exported[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
    prompts = ["audi", "a longer prompt than that", "and"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    assert batch.input_ids.shape[0] == 3 and not batch.attention_mask.all()
    greedy = {"max_new_tokens": 8, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    together = model.generate(**batch, **greedy)
    for index, prompt in enumerate(prompts):
        alone = model.generate(**tokenizer(prompt, return_tensors="pt"), **greedy)
        for ours, theirs in zip(together.scores, alone.scores):
            torch.testing.assert_close(ours[index], theirs[0], rtol=0, atol=1e-4)
        assert tokenizer.decode(together.sequences[index], skip_special_tokens=True) == \
            tokenizer.decode(alone.sequences[0], skip_special_tokens=True)
    torch.manual_seed(0)
    drawn = model.generate(**batch, max_new_tokens=8, do_sample=True, num_return_sequences=60, top_k=0)
    assert drawn.max() < len(tokenizer) == 300  # early in training, a filling row is drawn once in ten times


def test_an_export_is_current_only_for_the_run_that_it_was_made_of(exported, nanogpt, tmp_path):
    run_dir, _ = exported
    other = run_dir.with_name("ctl16_tok3000_seed1")
    for source, message in ((run_dir, "context length 32"), (run_dir, "exported before"), (other, "context length 16"),
                            (run_dir, "context length 32")):
        assert message in nanogpt("export_hf.py", source, "--out_dir", "model").stdout
    (tmp_path / "a file").write_text("mine")
    done = nanogpt("export_hf.py", run_dir, "--out_dir", "a file", check=False)
    assert done.returncode == 2 and "a file is a file; choose another --out_dir" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a model")
    done = nanogpt("export_hf.py", run_dir, "--out_dir", "mine", check=False)
    assert done.returncode == 2 and "add --overwrite" in done.stderr
    assert (tmp_path / "mine" / "notes.txt").exists()


@pytest.mark.parametrize("script, more", [("export_hf.py", ("--out_dir", "model")), ("sample.py", ())])
def test_a_cut_tokenizer_is_one_line(runs, nanogpt, tmp_path, script, more):
    copy = shutil.copytree(runs / "ctl16_tok3000_seed0", tmp_path / "run")
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text[:500])
    done = nanogpt(script, "run", *more, check=False)
    assert done.returncode == 2 and "tokenizer.json" in done.stderr and done.stderr.count("\n") == 1
    (copy / "best.pt").unlink()
    done = nanogpt(script, "run", *more, check=False)
    assert done.returncode == 2 and "best.pt" in done.stderr and done.stderr.count("\n") == 1


def test_samples(runs, nanogpt):
    flags = (runs / "ctl32_tok3000_seed0", "--prompt", "audi", "--max_new_tokens", 50, "--device", "cpu")
    one, same, other, greedy = (nanogpt("sample.py", *flags, *more).stdout
                                for more in ((), (), ("--seed", 1), ("--temperature", 0, "--num_samples", 2)))
    assert one == same != other and one.startswith("audi") and len(one) > 40
    assert greedy.count("---") == 1 and len(set(greedy.rstrip("\n").split("\n---\n"))) == 1


def test_final_json_says_what_the_run_cost(runs):
    final = json.loads((runs / "ctl16_tok3000_seed0" / "final.json").read_text())
    assert all(name in final for name in TIMINGS) and final["last_step"] == final["best_step"] == 10


@pytest.mark.slow
def test_the_benchmark_measures_both_ways(tmp_path):
    """As users run it."""
    process = start_script("benchmark.py", "--context_lengths", 32, "--tokens", 512, "--vocab_size", 30_000,
                           "--n_layer", 1, "--n_head", 2, "--n_embd", 16, "--rounds", 1, "--out", "out/benchmark.json",
                           cwd=tmp_path)
    _, error = process.communicate()
    assert process.returncode == 0, error
    entry, = json.loads((tmp_path / "out" / "benchmark.json").read_text())["contexts"]
    assert entry["ours"]["tokens_per_second"][0] > 0 and entry["mfu"] is None
    assert entry["times_faster"] == entry["ours"]["tokens_per_second"][0] / entry["plain"]["tokens_per_second"][0]
