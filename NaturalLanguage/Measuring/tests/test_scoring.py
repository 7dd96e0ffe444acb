"""Losses and hidden states of five kinds of models against brute force."""

import csv
import subprocess
import sys

import pytest
import torch

from helpers import (
    ARCHITECTURES, CUT, FOLDER, error_line, make_model, make_texts, make_tokenizer, run_main, score_by_hand,
)
from run import Run
from scorer import Scorer


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_features_are_those_of_a_full_forward_pass(architecture, models, corpus, loaded, tmp_path):
    out = tmp_path / "out"
    flags = ("--model_name", models[architecture], "--dataset_path", corpus, "--n_samples", 12, *CUT, "--out_dir", out,
             "--cache_chunk_file_name", tmp_path / "chunks.pt", "--device", "cpu")
    code, _, err = run_main("save_mid_features", "--seq_lens", 1, 5, 39, "--tokens_per_batch", 50, *flags)
    assert code == 0, err
    model, chunks = loaded[architecture]
    for length in (1, 5, 39):
        saved = load(out / f"feature_tensors_seq_{length}.pt")
        assert saved["context_length"] == length and saved["features"].shape == (12, 32)
        for index, (document, ids) in enumerate(chunks[:12]):
            loss, states = score_by_hand(model, ids, length)
            assert saved["losses"][index].item() == pytest.approx(loss, abs=1e-4)
            assert torch.allclose(saved["features"][index], states[-1], atol=1e-4)
            assert saved["documents"][index] == document
        assert torch.equal(load(out / "losses.pt")["losses"][length], saved["losses"])
    # another layer, in other batches
    code, _, err = run_main("save_mid_features", "--seq_lens", 5, "--layer", 1, *flags, "--overwrite")
    assert code == 0, err
    other = load(out / "feature_tensors_seq_5.pt")
    for index, (_, ids) in enumerate(chunks[:12]):
        loss, states = score_by_hand(model, ids, 5)
        assert torch.allclose(other["features"][index], states[1], atol=1e-4)
        assert other["losses"][index].item() == pytest.approx(loss, abs=1e-4)


def test_the_table_of_cross_entropies(models, corpus, loaded, tmp_path):
    """Means, standard errors and differences by hand; what is printed, how many chunks, what a second start does."""
    flags = ("--model_name", models["llama"], "--dataset_path", corpus, *CUT, "--device", "cpu")
    code, printed, err = run_main("evaluate_CE", *flags, "--seq_lens", 20, 2, "--batch_size", 4, "--max_iter", 5)
    assert code == 0 and "perplexity" not in (printed + err).lower(), err
    out = tmp_path / "outputs" / "llama"
    model, chunks = loaded["llama"]
    by_hand = {length: torch.tensor([score_by_hand(model, ids, length)[0] for _, ids in chunks[:20]])
               for length in (2, 20)}
    with open(out / "cross_entropy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["context_length"] for row in rows] == ["2", "20"]
    for row in rows:
        losses = by_hand[int(row["context_length"])]
        assert row["n_chunks"] == "20" == str(len(load(out / "losses.pt")["losses"][int(row["context_length"])]))
        assert float(row["cross_entropy"]) == pytest.approx(losses.mean().item(), abs=1e-4)
        assert f"context {row['context_length']}: cross entropy {float(row['cross_entropy']):.4f} nats" in printed
    gap = by_hand[20] - by_hand[2]
    assert float(rows[1]["difference"]) == pytest.approx(gap.mean().item(), abs=1e-4) and rows[0]["difference"] == ""
    owners = [document for document, _ in chunks[:20]]
    squares = sum(sum(gap[index] - gap.mean() for index in range(20) if owners[index] == owner) ** 2
                  for owner in set(owners))
    assert float(rows[1]["difference_standard_error"]) == pytest.approx(squares.sqrt().item() / 20, rel=1e-3)
    before = (out / "losses.pt").stat().st_mtime_ns
    code, printed, err = run_main("evaluate_CE", *flags, "--seq_lens", 2, "--n_samples", 20, "--out_dir", out)
    assert code == 0 and "finished before" in printed and (out / "losses.pt").stat().st_mtime_ns == before


def test_what_was_made_from_a_measurement_goes_with_it(tmp_path):
    names = ("losses.pt", "feature_tensors_seq_4.pt", "cross_entropy.csv", "spectra.pt", "measures.csv", "final.json")
    for name in names:
        (tmp_path / name).touch()
    Run(tmp_path, {}).open({}, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_requeued_job_replaces_a_measurement_once(tmp_path, monkeypatch):
    for job, lives in (("6", "0"), ("7", "0"), ("7", "1"), ("7", "2")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", lives)
        run = Run(tmp_path, {"dtype": "float32", "model_name": "m"})
        run.open({}, overwrite=True)
        assert [*run.losses] == [*range(1, 1 + int(lives))]
        run.save(1 + int(lives), torch.ones(3, dtype=torch.float64), torch.arange(3))


@pytest.mark.slow
def test_two_processes_measure_what_one_does(models, corpus, tmp_path):
    flags = ("--model_name", models["llama"], "--dataset_path", corpus, *CUT, "--device", "cpu", "--seq_lens", 20, 2,
             "--n_samples", 19)
    assert run_main("save_mid_features", *flags, "--out_dir", "one")[0] == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", FOLDER /
               "save_mid_features.py", *flags, "--out_dir", "two"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = load(tmp_path / "one" / "losses.pt"), load(tmp_path / "two" / "losses.pt")
    assert torch.equal(two["documents"], one["documents"])
    for length in (2, 20):
        assert torch.allclose(two["losses"][length], one["losses"][length], atol=1e-5)
        features = [load(tmp_path / name / f"feature_tensors_seq_{length}.pt")["features"] for name in ("one", "two")]
        assert torch.allclose(*features, atol=1e-4)


def test_an_interruption_loses_one_context_length_and_the_rest_is_the_same(models, corpus, tmp_path, monkeypatch):
    flags = ("--model_name", models["gpt2"], "--dataset_path", corpus, "--n_samples", 10, *CUT, "--device", "cpu",
             "--cache_chunk_file_name", tmp_path / "chunks.pt", "--seq_lens", 3, 9, 30)
    assert run_main("save_mid_features", *flags, "--out_dir", tmp_path / "whole")[0] == 0
    score = Scorer.score

    def stop_at_nine(self, tokens, *rest):
        if tokens.shape[1] == 10:
            raise KeyboardInterrupt
        return score(self, tokens, *rest)

    monkeypatch.setattr(Scorer, "score", stop_at_nine)
    with pytest.raises(KeyboardInterrupt):
        run_main("save_mid_features", *flags, "--out_dir", tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").glob("*_seq_*")] == ["feature_tensors_seq_3.pt"]
    assert list(load(tmp_path / "cut" / "losses.pt")["losses"]) == [3]
    monkeypatch.setattr(Scorer, "score", score)
    (tmp_path / "cut" / "feature_tensors_seq_9.pt.tmp").write_bytes(b"half")  # as kill -9 leaves it
    assert run_main("save_mid_features", *flags, "--out_dir", tmp_path / "cut")[0] == 0
    for path in (tmp_path / "whole").glob("*.pt"):
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()
    tables = [(tmp_path / name / "cross_entropy.csv").read_text() for name in ("whole", "cut")]
    assert tables[0] == tables[1]


def test_features_and_losses_are_of_the_same_samples(models, corpus, loaded, tmp_path):
    """The saved states, sent through the output layer, give the saved losses of the chunks' own targets."""
    code, _, err = run_main("save_mid_features", "--model_name", models["gpt_neox"], "--dataset_path", corpus, *CUT,
                            "--n_samples", 30, "--seq_lens", 6, "--out_dir", tmp_path, "--device", "cpu",
                            "--cache_chunk_file_name", tmp_path / "chunks.pt")
    assert code == 0, err
    model, chunks = loaded["gpt_neox"]
    saved = load(tmp_path / "feature_tensors_seq_6.pt")
    with torch.no_grad():
        logits = model.get_output_embeddings()(saved["features"]).double()
    targets = torch.tensor([ids[-1] for _, ids in chunks[:30]])
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(saved["losses"], expected, atol=1e-4)


def test_chunks_of_another_tokenizer_corpus_or_window_are_never_reused(models, corpus, tmp_path):
    make_tokenizer(list(open(__file__)), 280).save_pretrained(tmp_path / "other_model")
    make_model("llama", 300).save_pretrained(tmp_path / "other_model")
    code, _, err = run_main("prepare_data", "--source", "text", "--text_files", make_texts(tmp_path / "more", seed=8),
                            "--percent", 100, "--min_tokens", 100, "--model_name", models["llama"],
                            "--save_path", tmp_path / "other_corpus")
    assert code == 0, err
    settings = {"as before": (models["llama"], corpus, CUT), "tokenizer": (tmp_path / "other_model", corpus, CUT),
                "corpus": (models["llama"], tmp_path / "other_corpus", CUT),
                "window": (models["llama"], corpus, ("--window", 41, *CUT[2:])),
                "trim": (models["llama"], corpus, (*CUT[:-1], 6))}
    for index, (model, data, cut) in enumerate(settings.values()):
        flags = ("--model_name", model, "--dataset_path", data, *cut, "--n_samples", 3, "--seq_lens", 4,
                 "--device", "cpu")
        assert run_main("evaluate_CE", *flags, "--out_dir", f"out{index}")[0] == 0
        assert len(list((tmp_path / "outputs" / "chunks").glob("*.pt"))) == index + 1
        named = run_main("evaluate_CE", *flags, "--out_dir", f"named{index}", "--cache_chunk_file_name", "named.pt")
        if index == 0:
            assert named[0] == 0
        else:
            assert "another tokenizer, data set or window" in error_line(named)
            assert "holds a measurement with" in error_line(run_main("evaluate_CE", *flags, "--out_dir", "out0"))
    texts_hashes = {load(path)["request"]["text_sha256"] for path in (tmp_path / "outputs" / "chunks").glob("*.pt")}
    assert len(texts_hashes) == 2


class Counter(torch.nn.Module):
    """Stands for a model: remembers its inputs, runs out of memory beyond `most` chunks, and predicts uniformly."""

    def __init__(self, most):
        super().__init__()
        self.most, self.inputs, self.output_layer = most, [], torch.nn.Linear(3, 11, bias=False)
        torch.nn.init.zeros_(self.output_layer.weight)
        self.device = torch.device("cpu")

    def get_output_embeddings(self):
        return self.output_layer

    def forward(self, tokens, **_):
        if len(tokens) > self.most:
            raise torch.OutOfMemoryError("no memory")
        self.inputs.append(tokens)
        states = tokens[..., None].float().expand(-1, -1, 3)
        return type("Outputs", (), {"logits": self.output_layer(states)})()


def test_out_of_memory_halves_the_batch_and_exactly_l_tokens_are_visible(capsys):
    tokens = torch.arange(35).remainder(11).view(7, 5)
    model = Counter(most=2)
    losses, states = Scorer(model, tokens_per_batch=400).score(tokens)
    assert torch.equal(torch.cat(model.inputs), tokens[:, :4]) and max(map(len, model.inputs)) <= 2
    assert torch.equal(states[:, 0], tokens[:, 3].float())
    assert torch.allclose(losses, torch.full((7,), torch.log(torch.tensor(11.0)).item(), dtype=torch.float64))
    assert "going on with" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        Scorer(Counter(most=0)).score(tokens)
    assert stop.value.code == 2 and "out of memory with a single chunk" in capsys.readouterr().err


class Stacked(Counter):
    """Its hidden states behind the first layer are (2, chunks, tokens, width), as those of Gemma3n."""

    def forward(self, tokens, **_):
        outputs = super().forward(tokens)
        outputs.hidden_states = [torch.zeros(*tokens.shape, 3), torch.zeros(2, *tokens.shape, 3)]
        return outputs


def test_a_state_that_is_not_one_for_each_token_is_refused(capsys):
    tokens = torch.arange(8).view(2, 4)
    assert Scorer(Stacked(most=9), layer=0).score(tokens)[1].shape == (2, 3)
    with pytest.raises(SystemExit) as stop:
        Scorer(Stacked(most=9), layer=1).score(tokens)
    assert stop.value.code == 2 and "--layer 1: Stacked has there a state of shape" in capsys.readouterr().err
