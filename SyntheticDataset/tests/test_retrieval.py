"""Position-weighted retrieval: samples, batches, grids and optima against independent counting; the scripts' course."""

import csv
import math
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from torch import nn

import collect_retrieval
import position_weighting
import retrieval
import retrieval_tables
import settings
import train_retrieval
from helpers import call, refused, start_script, stop_in

TINY = ("--n_pairs", 8, "--n_keys", 12, "--n_values", 4, "--visible_lengths", 2, 4, 8, "--width", 16, "--num_steps", 12,
        "--batch_size", 16, "--warmup_steps", 2, "--eval_interval", 4, "--eval_contexts", 5, "--test_contexts", 6,
        "--device", "cpu")


def run_main(name, *flags, code=0):
    """Call a script's main(), which must end with this code: a CompletedProcess."""
    done = call(f"{name}.py", *flags, cwd=".", check=False)
    assert done.returncode == code, done.stderr
    return done


def result(folder, size=60, seed=3):
    """What a run left that does not depend on the clock."""
    run = folder / f"retrieval_train{size}_seed{seed}"
    with open(run / "metrics.csv") as file:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return rows, torch.load(run / "grid.pt"), torch.load(run / "last.pt")


def assert_equal(ours, theirs):
    assert ours[0] == theirs[0]
    for part in (1, 2):
        assert ours[part].keys() == theirs[part].keys()
        for name, value in ours[part].items():
            assert value == theirs[part][name] if isinstance(value, list) else torch.equal(value, theirs[part][name])


# Samples, weights and batches

def test_samples_are_nested_and_uniform():
    keys, values, distances = retrieval.draw_samples(5, "train", 2500, 8, 12, 4)
    fewer = retrieval.draw_samples(5, "train", 700, 8, 12, 4)
    assert all(torch.equal(whole[:700], part) for whole, part in zip((keys, values, distances), fewer))
    assert all(len(set(row)) == 8 for row in keys.tolist())
    for drawn, n, total in ((keys, 12, 20_000), (values, 4, 20_000), (distances, 8, 2500)):
        counts = torch.bincount(drawn.flatten(), minlength=n).double()
        assert counts.sum() == total and ((counts - total / n) ** 2 / (total / n)).sum() < 40
    others = [retrieval.draw_samples(5, part, 100, 8, 12, 4)[0] for part in ("valid", "test", "features")]
    assert not any(torch.equal(keys[:100], other) for other in others)


@pytest.mark.parametrize("gamma", [0, 1, 2.5, 32])
def test_weights_follow_the_formula(gamma):
    shares = [(1 - x / 5) ** gamma for x in range(5)]
    expected = [share / sum(shares) for share in shares]
    assert retrieval.position_weights(5, gamma).tolist() == pytest.approx(expected, rel=1e-12)
    grid = torch.arange(15, dtype=torch.float64).view(3, 5)
    assert position_weighting.weighted(grid, gamma).tolist() == pytest.approx(
        [sum((5 * row + x) * expected[x] for x in range(5)) for row in range(3)], rel=1e-12)


def test_batches_show_answerable_samples_and_the_share_of_others():
    samples = retrieval.draw_samples(1, "train", 300, 8, 12, 4)
    known = {tuple(keys): (values, distance) for keys, values, distance in zip(*(part.tolist() for part in samples))}
    whole = {key[-length:]: key for key in known for length in (2, 4, 8)}
    training_set = retrieval.TrainingSet(samples, [2, 4, 8], seed=7)
    seen = set()
    for step in range(60):
        keys, values, queries, targets = training_set.batch(step, 40, 0.3)
        length = keys.shape[1]
        seen.add(length)
        assert int((targets < 0).sum()) == (12 if length < 8 else 0)
        for shown, shown_values, query, target in zip(keys.tolist(), values.tolist(), queries[:, 0].tolist(),
                                                      targets.tolist()):
            assert (query in shown) == (target >= 0)
            if target >= 0:
                assert shown_values[shown.index(query)] == target
            if length == 8:
                assert known[whole[tuple(shown)]][1] == 7 - shown.index(query)
    assert seen == {2, 4, 8}
    again = retrieval.TrainingSet(samples, [2, 4, 8], seed=7).batch(59, 40, 0.3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, (keys, values, queries, targets)))


def test_the_loss_of_a_cut_off_answer_is_the_mean_over_all_answers():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0], [0.5, 0.5, 0.5, 0.5], [3.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    probabilities = [[math.exp(z) / sum(math.exp(y) for y in row) for z in row] for row in logits.tolist()]
    expected = -(math.log(probabilities[0][3]) + math.log(probabilities[1][0])
                 + sum(math.log(p) for p in probabilities[2]) / 4) / 3
    assert retrieval.retrieval_loss(logits, torch.tensor([3, 0, -1])).item() == pytest.approx(expected, rel=1e-12)


# The model and its grid

def test_queries_are_answered_as_if_alone_and_see_the_visible_pairs_only():
    torch.manual_seed(0)
    model = retrieval.RetrievalModel(8, 12, 4, width=16, n_layer=2, n_head=2, rope_base=100.0).double()
    keys, values, _ = retrieval.draw_samples(0, "test", 3, 8, 12, 4)
    together = model(keys[:, -5:], values[:, -5:], keys)
    for number in range(8):
        alone = model(keys[:, -5:], values[:, -5:], keys[:, number:number + 1])[:, 0]
        assert torch.allclose(alone, together[:, number], atol=1e-12)
    order = torch.tensor([1, 0, 2, 3, 4])  # positions matter
    assert not torch.allclose(model(keys[:, -5:][:, order], values[:, -5:][:, order], keys), together)


class LookUp(nn.Module):
    """Knows the value of every visible key, with 90% confidence, and guesses uniformly otherwise."""

    def forward(self, keys, values, queries):
        logits = torch.zeros(*queries.shape, 4, dtype=torch.float64)
        for row, shown in enumerate(keys.tolist()):
            for number, query in enumerate(queries[row].tolist()):
                if query in shown:
                    logits[row, number, values[row, shown.index(query)]] = math.log(27)  # 27 / (27 + 3)
        return logits


def test_the_grid_of_a_model_that_looks_up_is_known():
    samples = retrieval.draw_samples(2, "test", 250, 8, 12, 4)
    losses, accuracies = retrieval.measure_grid(LookUp(), samples, [1, 3, 8])
    for row, length in enumerate((1, 3, 8)):
        expected = [-math.log(0.9)] * length + [math.log(4)] * (8 - length)
        assert losses[row].tolist() == pytest.approx(expected, rel=1e-12)
        assert accuracies[row, :length].tolist() == [1.0] * length
    assert accuracies[0, 1:].mean().item() == pytest.approx(0.25, abs=0.05)  # ties go to the first value


# Optima and their spread

def test_the_optimum_is_the_vertex_of_a_parabola_in_the_log_of_the_length():
    lengths = [4, 8, 12, 16, 24, 32, 48, 64]
    losses = torch.tensor([(math.log(length) - math.log(17.3)) ** 2 + 0.1 for length in lengths], dtype=torch.float64)
    for curve, expected in ((losses, (pytest.approx(17.3, rel=1e-9), True)),
                            (torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1]), (64.0, False)),
                            (torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]), (4.0, False))):
        assert position_weighting.interpolated_optimum(lengths, curve) == expected


def test_intervals_are_students():
    values = torch.tensor([1.0, 2.0, 4.0, 4.0, 9.0], dtype=torch.float64)
    mean, half = position_weighting.interval(values)
    assert mean == 4 and half == pytest.approx(2.776445 * (38 / 4) ** 0.5 / 5 ** 0.5, rel=1e-6)
    assert position_weighting.beyond_spread(values) == 1 and position_weighting.beyond_spread(-values) == -1
    assert position_weighting.beyond_spread(values - 2) == 0
    assert position_weighting.interval(values[:1]) == (1.0, None)


def made_up_grids(lengths=(4, 8, 16, 32, 64), n_pairs=64):
    """Grids of 2 sizes and 3 seeds: log 16 if cut off, else a loss that grows with the length, less for more data."""
    grids = {}
    for size, slope in ((1000, 0.02), (4000, 0.005)):
        seeds = []
        for seed in range(3):
            grid = np.full((len(lengths), n_pairs), math.log(16))
            for row, length in enumerate(lengths):
                grid[row, :length] = slope * length * (1 + 0.01 * seed)
            seeds.append(grid)
        grids[size] = list(range(3)), torch.tensor(np.array(seeds))
    return list(lengths), grids


def test_the_summary_finds_the_optimum_of_every_weighting():
    lengths, grids = made_up_grids()
    rows = position_weighting.summarise(lengths, grids, [0, 8])
    for row in rows:
        slope = {1000: 0.02, 4000: 0.005}[row["train_dataset_size"]]
        weights = [(1 - x / 64) ** row["gamma"] for x in range(64)]
        losses = [[sum(w * (slope * length * (1 + 0.01 * seed) if x < length else math.log(16))
                       for x, w in enumerate(weights)) / sum(weights) for length in lengths] for seed in range(3)]
        means = np.mean(losses, axis=0)
        best = int(means.argmin())
        assert row["best_length"] == lengths[best]
        assert row["cross_entropy"][0] == pytest.approx(means[best], rel=1e-12)
        assert row["gain"][0] == pytest.approx(means[-1] - means[best], rel=1e-9, abs=1e-12)
        assert row["inside"] == (0 if best in (0, len(lengths) - 1) else 3)
    over_gamma, over_size = position_weighting.compare(rows)
    assert [part[:3] for part in over_gamma] == [(1000, 0, 8), (4000, 0, 8)]
    assert [part[:3] for part in over_size] == [(0, 1000, 4000), (8, 1000, 4000)]
    assert position_weighting.beyond_spread(over_gamma[0][3]) == -1
    assert position_weighting.beyond_spread(over_size[1][3]) == 1
    made = {name: table.splitlines() for name, table in retrieval_tables.tables(lengths, grids, rows).items()}
    assert made["optimum"][2].startswith("| 0 | none inside | none inside |") and len(made["optimum"]) == 4
    assert made["over_gamma"][2].count("**") == 4  # both fall beyond the spread
    assert made["cut_off"][2].split(" | ")[1:3] == ["2.773", "2.773"]
    doubled = {1000: (grids[1000][0], 2 * grids[1000][1])}
    known = position_weighting.with_prior(lengths, doubled, 16)[1000][1]
    assert torch.equal(known[:, 1, :8], doubled[1000][1][:, 1, :8]) and (known[:, 1, 8:] == math.log(16)).all()


# The scripts

def test_a_run_that_was_interrupted_comes_to_the_same_bits(tmp_path, monkeypatch):
    flags = ("--train_dataset_size", 60, "--seed", 3, *TINY, "--checkpoint_seconds", 0)
    run_main("train_retrieval", *flags, "--save_position", tmp_path / "whole")
    loss, steps = train_retrieval.retrieval_loss, iter(range(1, 100))

    def failing(*arguments):
        if next(steps) == 7:
            raise RuntimeError("the machine went away")
        return loss(*arguments)

    monkeypatch.setattr(train_retrieval, "retrieval_loss", failing)
    with pytest.raises(RuntimeError):
        run_main("train_retrieval", *flags, "--save_position", tmp_path / "parts")
    monkeypatch.undo()
    run_main("train_retrieval", *flags, "--save_position", tmp_path / "parts")
    assert_equal(result(tmp_path / "whole"), result(tmp_path / "parts"))
    grid = result(tmp_path / "whole")[1]
    assert grid["cross_entropy"].shape == grid["accuracy"].shape == (3, 8)
    done = run_main("train_retrieval", *flags, "--save_position", tmp_path / "whole")
    assert "finished before" in done.stdout
    refused(run_main("train_retrieval", *flags, "--batch_size", 20, "--save_position", tmp_path / "whole", code=2),
            "batch_size 16, not 20")
    monkeypatch.setattr(train_retrieval, "retrieval_loss", failing)
    steps = iter([7])
    with pytest.raises(RuntimeError):
        run_main("train_retrieval", *flags, "--batch_size", 20, "--save_position", tmp_path / "whole", "--overwrite")
    left = {path.name for path in (tmp_path / "whole" / "retrieval_train60_seed3").iterdir()}
    assert left == {"args.json", "metrics.csv", "lock"}  # nothing of the run that is replaced


def test_a_signal_ends_the_last_measurement_and_the_next_life_begins_there(tmp_path, monkeypatch):
    flags = ("--train_dataset_size", 60, "--seed", 3, *TINY)
    run_main("train_retrieval", *flags, "--save_position", tmp_path / "whole")

    stop_in(monkeypatch, train_retrieval, "measure_grid", lambda *_, **options: options)  # the last one, which reports
    run_main("train_retrieval", *flags, "--save_position", tmp_path / "parts", code=9)
    assert not (tmp_path / "parts" / "retrieval_train60_seed3" / "final.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(train_retrieval, "retrieval_loss", lambda *_: pytest.fail("trained on"))
    run_main("train_retrieval", *flags, "--save_position", tmp_path / "parts")
    assert_equal(result(tmp_path / "whole"), result(tmp_path / "parts"))


def test_the_runs_are_collected_where_they_are_saved(monkeypatch):
    monkeypatch.setattr("sys.argv", ["script"])
    assert settings.parse("train_retrieval", "").save_position == collect_retrieval.parse_args().runs


def test_a_sweep_of_them_knows_which_have_finished_and_collects_them(tmp_path, monkeypatch):
    """Of the same flags alone; into the same files as collect_retrieval.py."""
    monkeypatch.chdir(tmp_path)
    for size, number in ((60, 3), (60, 4), (40, 3), (40, 4)):
        run_main("train_retrieval", "--train_dataset_size", size, "--seed", number, *TINY)
    flags = ("--trainer", "train_retrieval", "--train_dataset_sizes", 60, 40, "--seeds", 4, 3, *TINY)
    assert "all 4 cells have finished" in run_main("sweep", *flags, "--missing").stdout
    missing = run_main("sweep", *flags, "--num_steps", 13, "--missing", code=1)
    assert len(missing.stdout.split()) == 4 and missing.stdout == run_main("sweep", *flags, "--list").stdout
    assert "has no --weight_decays" in run_main("sweep", *flags, "--weight_decays", 1, "--list", code=2).stderr
    run_main("sweep", *flags, "--collect")
    run_main("collect_retrieval", "--out_dir", "again")
    for name in ("runs.csv", "about.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "outputs" / "retrieval" / name).read_bytes()
    grids = [torch.load(folder / "grids.pt") for folder in (tmp_path / "again", tmp_path / "outputs" / "retrieval")]
    assert str(grids[0]) == str(grids[1])


def test_a_signal_ends_it_after_a_checkpoint(tmp_path):
    """As a user starts it, in a process of its own."""
    process = start_script("train_retrieval.py", "--train_dataset_size", 60, "--seed", 3, *TINY, "--num_steps", 100_000,
                           "--eval_interval", 20, "--save_position", "runs", cwd=tmp_path)
    run_dir = tmp_path / "runs" / "retrieval_train60_seed3"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (run_dir / "metrics.csv").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGTERM, output
    assert f"{run_dir.name} is saved" in output.splitlines()[-1]
    assert (run_dir / "ckpt_last.pt").exists() and not (run_dir / "final.json").exists()


def test_from_runs_to_figures_and_entropy(tmp_path):
    for size in (30, 60):
        for seed in (0, 1):
            run_main("train_retrieval", "--train_dataset_size", size, "--seed", seed, *TINY,
                     "--save_position", tmp_path / "runs")
    collected = run_main("collect_retrieval", "--runs", tmp_path / "runs", "--out_dir", tmp_path)
    assert "4 finished runs of 4" in collected.stdout
    lengths, grids = position_weighting.load_grids(tmp_path / "grids.pt")
    assert lengths == [2, 4, 8] and list(grids) == [30, 60]
    stored = torch.load(tmp_path / "grids.pt")
    for size, (seeds, losses) in grids.items():
        assert seeds == [0, 1]
        for seed in seeds:
            grid = result(tmp_path / "runs", size, seed)[1]
            assert torch.equal(grid["cross_entropy"], losses[seed])
            row = (stored["train_dataset_size"] == size) & (stored["seed"] == seed)
            assert torch.equal(grid["accuracy"], stored["accuracy"][row][0])
    runs = sorted((tmp_path / "runs").iterdir())
    run_main("save_feature_tensor", "--model_state_dict_position", *runs, "--n_samples", 200, "--gamma", 4)
    saved = torch.load(runs[0] / "features" / "retrieval_train30_seed0_gamma4_visible4.pt")
    assert saved["features"].shape == (200, 16) and 0 < saved["cross_entropy"] < 3
    drawn = run_main("draw_position_weighted", "--results", tmp_path / "grids.pt", "--out_dir", tmp_path / "figures",
                     "--gammas", 0, 4)
    assert "| gamma | 30 samples | 60 samples |" in drawn.stdout
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"position_weighted_{what}.{suffix}" for what in ("loss", "optimum") for suffix in ("pdf", "png")}
    run_main("measure_features", *(runs[0] / "features").iterdir(), "--out_dir", tmp_path / "measures",
             "--device", "cpu")
    with open(tmp_path / "measures" / "measures.csv") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert names == {f"retrieval_train30_seed0_gamma4_visible{length}" for length in (2, 4, 8)}
    missing = run_main("collect_retrieval", "--runs", tmp_path / "runs", "--out_dir", tmp_path, "--seeds", 0, 2, code=1)
    assert "retrieval_train30_seed2 retrieval_train60_seed2" in missing.stderr
    shutil.copytree(runs[1], runs[1].with_name("retrieval_train30_seed2"))  # the run of seed 1 under another name
    (runs[2] / "args.json").unlink()
    missing = run_main("collect_retrieval", "--runs", tmp_path / "runs", "--out_dir", tmp_path, "--seeds", 0, 2, code=1)
    assert "1 finished runs of 4" in missing.stdout
    assert missing.stderr == "missing: retrieval_train30_seed2 retrieval_train60_seed0 retrieval_train60_seed2\n"


def test_features_are_asked_for_as_often_as_gamma_says():
    distances = retrieval.draw_distances(0, 1000, 8, 4.0)
    shares = np.array([(8 - x) ** 4 for x in range(8)], float)
    assert np.abs(np.bincount(distances, minlength=8) - 1000 * shares / shares.sum()).max() < 1 + 1e-9


@pytest.mark.parametrize("flags, said", [
    (["--visible_lengths", 9], "more than the --n_pairs 8"),
    (["--n_keys", 7], "different keys"),
    (["--width", 18, "--n_head", 2], "heads of even width"),
    (["--unanswerable_share", 1], "below 1"),
    (["--train_dataset_size", 1, "--seed", 2], "raise --train_dataset_size"),
])
def test_wrong_flags_of_training_are_one_line(tmp_path, flags, said):
    refused(run_main("train_retrieval", *TINY, "--save_position", tmp_path, *flags, code=2), said)


def test_wrong_files_are_one_line(tmp_path):
    torch.save({"cross_entropy": torch.zeros(2)}, tmp_path / "grids.pt")
    for name, flags, said in (
            ("draw_position_weighted", ("--results", tmp_path / "grids.pt"), "lacks visible_lengths"),
            ("draw_position_weighted", ("--results", tmp_path / "none.pt"), "cannot read"),
            ("collect_retrieval", ("--runs", tmp_path), "reproduce_retrieval.sh")):
        refused(run_main(name, *flags, code=2), said)
