"""evaluate_tasks.py on small random models: right answers' losses by brute force, features, resuming, bad
input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_helpers import (
    FAMILIES, brute_force, error_of, generate, read_lines, run, succeed, symbol_model, write_squad,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from downstream.prompts import Encoder
from files import load_tensors, read_table

FOLDER = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def samples(tmp_path_factory, chat_models):
    """{family: (path, samples)}: 4 contexts with 3 questions each."""
    folder = tmp_path_factory.mktemp("samples")
    squad = write_squad(folder / "squad.json")
    flags = ("--max_length", 700, "--n", 12, "--questions", 3, "--squad", squad)
    return {family: (folder / f"{family}.jsonl", generate(folder / f"{family}.jsonl", model, "ruler_qa1", *flags)[0])
            for family, model in chat_models.items()}


def answers(directory):
    return read_table(Path(directory) / "answers.csv")


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_losses_and_answers_by_brute_force(family, chat_models, samples, tmp_path):
    path, listed = samples[family]
    flags = ("--model_name", chat_models[family], "--samples", path, "--visible_fractions", 0.4, 1, "--new_tokens", 6)
    succeed("evaluate_tasks", *flags, "--out_dir", tmp_path)
    succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "single", "--no-share", "--tokens_per_batch", 1)
    directory = tmp_path / family / family
    tokenizer = AutoTokenizer.from_pretrained(chat_models[family])
    model = AutoModelForCausalLM.from_pretrained(chat_models[family]).eval()
    outputs = read_lines(directory / "outputs.jsonl")
    assert outputs == read_lines(tmp_path / "single" / family / family / "outputs.jsonl")
    rows = answers(directory)
    assert len(rows) == len(outputs) == 24
    saved = [load_tensors(file, "features") for file in directory.glob("feature_tensors_seq_*.pt")]
    features = {contents["visible_fraction"]: contents for contents in saved}
    for row, output in list(zip(rows, outputs))[::9]:
        sample, fraction = listed[int(row["index"])], float(row["visible_fraction"])
        context = sample["separator"].join(sample["units"])
        turn = tokenizer.apply_chat_template(
            [{"role": "user", "content": sample["instruction"] + context + sample["question"]}], tokenize=False,
            add_generation_prompt=True, enable_thinking=False) + "Answer:"
        encoded = tokenizer(turn, add_special_tokens=False, return_offsets_mapping=True)
        inside = [index for index, (_, end) in enumerate(encoded["offset_mapping"])
                  if turn.index(context) < end <= turn.index(context) + len(context)]
        assert int(row["context_tokens"]) == len(inside)
        cut = len(inside) - round(fraction * len(inside))
        ids = encoded["input_ids"][:inside[0]] + encoded["input_ids"][inside[0] + cut:]
        assert tokenizer.bos_token_id is None or ids.count(tokenizer.bos_token_id) == 1
        target = tokenizer(" " + sample["answers"][0], add_special_tokens=False)["input_ids"]
        assert float(row["cross_entropy"]) == pytest.approx(brute_force(model, ids, target), abs=1e-4)
        generated = model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, use_cache=False,
                                   pad_token_id=0)[0, len(ids):]
        assert output["output"] == tokenizer.decode(generated, skip_special_tokens=True)
        state = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert torch.allclose(features[fraction]["features"][int(row["index"])], state, atol=1e-4)
        assert features[fraction]["losses"][int(row["index"])].item() == float(row["cross_entropy"])
    assert np.mean([float(row["score"]) for row in rows]) == 0  # a random model does not find names of many letters


def test_an_interrupted_run_goes_on(chat_models, samples, tmp_path, monkeypatch):
    path, _ = samples["qwen3"]
    flags = ["--model_name", chat_models["qwen3"], "--samples", path, "--visible_fractions", 0.5, 1,
             "--tokens_per_batch", 1500, "--new_tokens", 4]
    succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "whole")
    whole = tmp_path / "whole" / "qwen3" / "qwen3"
    process = subprocess.Popen([sys.executable, "-m", "downstream.evaluate_tasks", *map(str, flags),
                                "--out_dir", str(tmp_path / "cut")], cwd=FOLDER,
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = tmp_path / "cut" / "qwen3" / "qwen3" / "lines_0.jsonl"
    while process.poll() is None and not (lines.exists() and lines.read_text().count("\n") >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1].splitlines()
    assert process.returncode == -signal.SIGTERM and "start the same command again" in errors[-1]
    text = lines.read_text()
    lines.write_text(text[:text.rindex("{") + 20])  # a line that a crash cut short, and with it a batch
    done = lines.read_text().count("\n")
    out = succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "cut")
    assert 2 <= done < 24 and "finished" in out
    for name in ("outputs.jsonl", "answers.csv"):
        assert (lines.parent / name).read_bytes() == (whole / name).read_bytes()
    features = list(whole.glob("feature_tensors_seq_*.pt"))
    assert len(features) == 2
    for file in features:
        assert torch.equal(load_tensors(file, "features")["features"],
                           load_tensors(lines.parent / file.name, "features")["features"])
    assert "finished before" in succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "cut")
    for lives in ("0", "1"):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_RESTART_COUNT", lives)
        out = succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "cut", "--overwrite")
        assert ("finished before" in out) == (lives == "1")
    line = error_of("evaluate_tasks", *flags[:-1], 5, "--out_dir", tmp_path / "cut")
    assert "new_tokens 4, not 5" in line and "--overwrite" in line


@pytest.mark.slow
def test_two_processes(chat_models, samples, tmp_path):
    path, _ = samples["llama"]
    flags = ["--model_name", chat_models["llama"], "--samples", path, "--visible_fractions", "0.5", "1",
             "--new_tokens", "4"]
    succeed("evaluate_tasks", *flags, "--out_dir", tmp_path / "one")
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
                    "downstream.evaluate_tasks", *map(str, flags), "--out_dir", str(tmp_path / "two")], cwd=FOLDER,
                   check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    features = list((tmp_path / "one" / "llama" / "llama").glob("feature_tensors_seq_*.pt"))
    assert len(features) == 2
    for file in features:
        first, second = (load_tensors(tmp_path / name / "llama" / "llama" / file.name, "features")["features"]
                         for name in ("one", "two"))
        assert torch.allclose(first, second, atol=1e-5)
    one, two = (answers(tmp_path / name / "llama" / "llama") for name in ("one", "two"))
    for row, other in zip(one, two, strict=True):
        assert float(row.pop("cross_entropy")) == pytest.approx(float(other.pop("cross_entropy")), abs=1e-5)
        assert row == other


def test_entropy_of_the_truncated_samples(chat_models, tmp_path):
    """measure_entropy.py reads the hidden states of a run, and the figure reads what it writes."""
    squad = write_squad(tmp_path / "squad.json")
    generate(tmp_path / "s.jsonl", chat_models["qwen3"], "ruler_qa1", "--max_length", 560, "--n", 90,
             "--questions", 3, "--squad", squad)
    succeed("evaluate_tasks", "--model_name", chat_models["qwen3"], "--samples", tmp_path / "s.jsonl", "--no-generate",
            "--visible_fractions", 0.5, 1, "--out_dir", tmp_path)
    directory = tmp_path / "qwen3" / "s_no_generate"
    succeed("..measure_entropy", directory, "--device", "cpu", "--draws", 2)
    rows = [row for row in read_table(directory / "measures.csv") if row["draw"] == ""]
    assert len(rows) == 2
    succeed("draw_position_weighted", "--runs", directory, "--out_dir", tmp_path, "--draws", 5)
    for row, fraction in zip(rows, ("0.5", "1.0")):
        mine = [entry for entry in answers(directory) if entry["visible_fraction"] == fraction]
        visible = np.mean([int(entry["visible_tokens"]) for entry in mine])
        assert int(row["context_length"]) == pytest.approx(visible, abs=1)
        assert float(row["cross_entropy"]) == pytest.approx(np.mean([float(entry["cross_entropy"]) for entry in mine]))


def test_query_first_and_plain_text(chat_models, samples, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(chat_models["gemma"])
    sample = samples["gemma"][1][0]
    plain = Encoder(tokenizer, "gemma", "off", query_first=True)
    text, start, _ = plain.text(sample)
    assert text[:start] == sample["instruction"] + sample["query"] and text.count(sample["query"].strip()) == 2
    prompt = plain.prompt(sample)
    assert prompt.visible(1.0).count(tokenizer.bos_token_id) == 1
    unit = tokenizer.decode(prompt.context[slice(*prompt.gold)])
    assert unit.strip() == sample["units"][sample["gold"][0]]
    assert prompt.gold_visible(1.0) and not prompt.gold_visible(0.0)
    assert prompt.visible(0.0) == prompt.before + prompt.after


def test_the_chat_template_is_that_of_the_samples(chat_models, tmp_path):
    flags = ["--model_name", chat_models["qwen3"], "--no-generate", "--visible_fractions", 1, "--out_dir", tmp_path]
    for chat, task in (("off", "kv_retrieval"), ("auto", "kv_retrieval"), ("on", "helmet_recall")):
        path = tmp_path / f"{task}_{chat}.jsonl"
        _, about = generate(path, chat_models["qwen3"], task, "--max_length", 1024, "--n", 2, "--chat", chat)
        succeed("evaluate_tasks", "--samples", path, *flags)
        run_dir = tmp_path / "qwen3" / f"{path.stem}_no_generate"
        assert json.loads((run_dir / "args.json").read_text())["chat"] == about["chat"] == (chat != "off")
    succeed("evaluate_tasks", "--samples", tmp_path / "kv_retrieval_off.jsonl", *flags, "--chat", "on")
    explicit = tmp_path / "qwen3" / "kv_retrieval_off_chat_on_no_generate"
    assert json.loads((explicit / "args.json").read_text())["chat"]


def test_symbols(tmp_path):
    """Of twelve values; an answer of one token is right where that token is the likeliest one."""
    model = symbol_model(tmp_path / "model", values=12)
    path = tmp_path / "s.jsonl"
    _, about = generate(path, model, "kv_retrieval", "--style", "symbols", "--units", 16, "--n", 64, "--new_tokens", 1)
    assert about["metric"] == "first_word"
    succeed("evaluate_tasks", "--model_name", model, "--samples", path, "--visible_fractions", 0.5, 1,
            "--out_dir", tmp_path)
    rows = answers(tmp_path / "model" / "s")
    assert len(rows) == 128 and np.mean([float(row["score"]) for row in rows]) < 0.3  # chance among 55 symbols is 0.02
    assert [float(row["score"]) for row in rows] == [float(row["hits"]) for row in rows]
    assert np.mean([float(row["cross_entropy"]) for row in rows]) == pytest.approx(np.log(55), abs=0.5)
    line = error_of("generate_tasks", "--task", "kv_retrieval", "--units", 4, "--n", 2, "--tokenizer", model,
                    "--out", tmp_path / "t.jsonl")
    assert "unknown to the tokenizer" in line


def test_bad_input(chat_models, samples, tmp_path):
    path, _ = samples["qwen3"]

    def error(samples=path, model="qwen3", *flags):
        return error_of("evaluate_tasks", "--model_name", chat_models[model], "--samples", samples,
                        "--out_dir", tmp_path / "runs", *flags)

    assert "made for the tokenizer of" in error(model="llama")
    assert "there are no samples" in error(tmp_path / "absent.jsonl")
    for name, contents in (("empty", ""), ("cut", path.read_text()[:-40])):
        (tmp_path / f"{name}.jsonl").write_text(contents)
        shutil.copy(path.with_suffix(".json"), tmp_path / f"{name}.json")
    assert "are empty" in error(tmp_path / "empty.jsonl")
    assert "are cut short or were changed (12 lines, 12 were written)" in error(tmp_path / "cut.jsonl")
    (tmp_path / "other.jsonl").write_text("{}\n")
    assert "cannot read the description" in error(tmp_path / "other.jsonl")
    (tmp_path / "cut.jsonl").write_bytes(b"\xff" + path.read_bytes())
    assert "are cut short or were changed" in error(tmp_path / "cut.jsonl")
    about = json.loads(path.with_suffix(".json").read_text())
    lacking = [{key: value for key, value in about.items() if key != name} for name in ("n", "tokenizer_sha256")]
    for wrong in (*lacking, {**about, "metric": "none"}):
        (tmp_path / "cut.json").write_text(json.dumps(wrong))
        assert "does not describe samples" in error(tmp_path / "cut.jsonl")
    config = json.loads((chat_models["qwen3"] / "config.json").read_text())
    short = shutil.copytree(chat_models["qwen3"], tmp_path / "short")
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 500}))
    line = error_of("evaluate_tasks", "--model_name", short, "--samples", path, "--out_dir", tmp_path / "runs")
    assert "sees at most 500 tokens" in line
    succeed("evaluate_tasks", "--model_name", short, "--samples", path, "--out_dir", tmp_path / "runs", "--limit", 3,
            "--rope_scaling", "yarn", "--rope_factor", 4, "--no-generate", "--visible_fractions", 1)
    assert "--rope_factor needs --rope_scaling" in error(path, "qwen3", "--rope_factor", 4)
    assert "some the same" in error(path, "qwen3", "--visible_fractions", 0.5, 0.5001)
    base = shutil.copytree(chat_models["qwen3"], tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    line = error_of("evaluate_tasks", "--model_name", base, "--samples", path, "--out_dir", tmp_path / "runs",
                    "--chat", "on")
    assert "no chat template" in line
    code, _, err = run("evaluate_tasks", "--samples", path)
    assert code == 2 and "--model_name" in err.splitlines()[-1]
