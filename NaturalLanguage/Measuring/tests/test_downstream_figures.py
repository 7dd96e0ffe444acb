"""All tasks through all scripts with random chat models of three families, and the figures' numbers by hand."""

import csv
import json
import math

import numpy as np
import pytest
from downstream_helpers import FAMILIES, error_of, succeed

from downstream.draw_by_position import contrast, groups, means
from downstream.draw_helmet import correlation, correlations
from downstream.draw_position_weighted import curves, effective, grid, position_weights
from downstream.draw_two_needles import jump
from downstream.draw_visible_fraction import optimum
from downstream.results import COLUMNS, Answers, resamples
from downstream.tasks import TASKS
from standard_errors import clustered_error

FIGURES = ("draw_visible_fraction", "draw_two_needles", "draw_by_position", "draw_helmet", "draw_position_weighted")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, chat_models, files):
    """The folder of the runs of three families on all tasks."""
    folder = tmp_path_factory.mktemp("all")
    for family, model in chat_models.items():
        for task in TASKS:
            path = folder / "samples" / family / f"{task}.jsonl"
            succeed("generate_tasks", "--task", task, "--tokenizer", model, "--max_length", 1100, "--new_tokens", 6,
                    "--n", 2, "--out", path, *files)
            succeed("evaluate_tasks", "--model_name", model, "--samples", path, "--visible_fractions", 0.25, 1,
                    "--out_dir", folder / "runs")
    return folder / "runs"


def test_every_task_through_every_script(runs, tmp_path, monkeypatch, request):
    (tmp_path / "outputs" / "downstream").mkdir(parents=True)
    (tmp_path / "outputs" / "downstream" / "runs").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    for family in FAMILIES:
        for task in TASKS:
            final = json.loads((runs / family / task / "final.json").read_text())
            assert final["comparable"] and [row["n"] for row in final["summary"]] == [2, 2]
            for row in final["summary"]:
                assert row["score"] <= 0.25  # near chance; no answer is a ranking
                assert (row["chance"] is not None) == (task == "helmet_rerank")
                assert row["token_cross_entropy"] == pytest.approx(math.log(1500), rel=0.2)
    more = {"draw_helmet": ("--measure", "cross_entropy"),
            "draw_position_weighted": ("--runs", *(runs / FAMILIES[0]).iterdir())}  # a figure for each run
    printed = {name: succeed(name, *(() if name == "draw_helmet" else ("--draws", 20)), *more.get(name, ()))
               for name in FIGURES[:-1]}
    request.getfixturevalue("unrendered")
    printed[FIGURES[-1]] = succeed(FIGURES[-1], "--draws", 20, *more[FIGURES[-1]])
    for name, line in zip(FIGURES, ("best score", "needle B", "ends - middle", "correlation of", "gamma 16: best")):
        assert line in printed[name]
    figures = tmp_path / "outputs" / "downstream" / "figures"
    one_gold = sum(task.positions for task in TASKS.values())
    assert len(list(figures.glob("*.png"))) == len(list(figures.glob("*.pdf"))) == 4 + one_gold
    with open(figures / "helmet_cross_entropy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(FAMILIES) * len(TASKS)
    assert all(bool(row["parsed_share"]) == (row["task"] == "helmet_rerank") for row in rows)


def write_run(directory, task, lines, model="made/up", **about):
    """A finished run with these lines; what they lack is empty."""
    directory.mkdir(parents=True)
    about = {"task": task, "comparable": True, "max_length": 100, "units": None, "values": None, **about}
    (directory / "args.json").write_text(json.dumps({
        **about, "request": {"model_name": model, "query_first": False}}))
    (directory / "final.json").write_text(json.dumps({"task": task, "summary": [{"n": len(lines)}]}))
    with open(directory / "answers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({"context_tokens": 100, "target_tokens": 1, "hits": 0, "cross_entropy": 1.0, **line}
                         for line in lines)
    return directory


def test_the_optimum():
    contexts = np.arange(50)
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    values = np.array([0.2 + noise, 0.7 + noise, 0.5 + noise])
    best, span, gain, gain_span = optimum(values, contexts, [0.25, 0.5, 1.0], "score", 200)
    assert best == span[0] == span[1] == 0.5 and gain == pytest.approx(0.2) == gain_span[0]
    best, _, gain, _ = optimum(values, contexts, [0.25, 0.5, 1.0], "cross_entropy", 0)
    assert best == 0.25 and gain == pytest.approx(0.3)
    assert optimum(np.sort(values, axis=0), contexts, [0.25, 0.5, 1.0], "score", 0)[0] == 1.0
    for name in ("score", "cross_entropy"):  # of equals the largest: then less context is no better
        assert optimum(np.array([values[1]] * 3), contexts, [0.25, 0.5, 1.0], name, 20)[:3:2] == (1.0, 0.0)


def test_errors_count_contexts():
    values, contexts = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    assert clustered_error(values, contexts) == pytest.approx(math.sqrt(2 * 1.0**2) / 4)
    assert clustered_error(values, [0, 0, 0, 0]) is None
    for weights in resamples(contexts, 5):
        assert weights[0] == weights[1] and weights[2] == weights[3] and weights.sum() == 4


def test_position_weights_by_hand():
    distances = np.array([0.1, 0.5, 1.0])
    weights = position_weights(distances, [0, 2])
    assert weights == pytest.approx(np.array([[1, 1, 1], [0.81, 0.25, 0]]))
    values = np.array([[1.0, 3.0, 7.0]])
    assert curves(values, weights)[0] == pytest.approx([11 / 3, (0.81 + 0.75) / 1.06])
    assert effective(weights) == pytest.approx([3, 1.06**2 / (0.81**2 + 0.25**2)])
    assert grid(values, distances, 2) == pytest.approx(np.array([[1.0], [5.0]]))


def test_the_best_fraction_falls_with_gamma(tmp_path):
    """Cross entropy 3 where the gold unit is hidden, and 1 + visible fraction where it is seen."""
    fractions, lines = (0.1, 0.3, 0.5, 0.7, 1.0), []
    for index in range(200):
        distance = (index + 0.5) / 2
        lines += [{"index": index, "context": index, "visible_fraction": fraction, "gold_distance": distance,
                   "cross_entropy": 1 + fraction if 100 * fraction >= distance else 3} for fraction in fractions]
    directory = write_run(tmp_path / "run", "ruler_qa1", lines)
    out = succeed("draw_position_weighted", "--runs", directory, "--out_dir", tmp_path, "--gammas", 0, 4, 16)
    best = [float(line.partition("fraction ")[2].split()[0]) for line in out.splitlines() if "gamma" in line]
    by_hand = []
    for gamma in (0, 4, 16):
        weights = [(1 - line["gold_distance"] / 100)**gamma for line in lines]
        costs = {fraction: sum(weight * line["cross_entropy"] for weight, line in zip(weights, lines)
                               if line["visible_fraction"] == fraction) for fraction in fractions}
        by_hand.append(min(costs, key=costs.get))
    assert best == by_hand == sorted(best, reverse=True) and best[0] == 1.0 and best[-1] < 0.5
    assert out.count("no interior optimum") == sum(value == 1.0 for value in by_hand)


def test_the_jump_of_a_needle(tmp_path, unrendered):
    values = np.array([[3.0, 3.2], [1.0, 3.0], [1.0, 1.2]])
    visible = np.array([[False, False], [True, False], [True, True]])
    assert jump(values, visible, np.ones(2)) == pytest.approx((3.0 + 3.2 + 3.0) / 3 - (1.0 + 1.0 + 1.2) / 3)
    assert math.isnan(jump(values, np.ones((3, 2), bool), np.ones(2)))
    lines = [{"index": 2 * context + number, "context": context, "visible_fraction": fraction, "needle": needle,
              "gold_distance": distance, "gold_visible": int(100 * fraction >= distance),
              "cross_entropy": 0.5 if 100 * fraction >= distance else 0.5 + math.log(16)}
             for context in range(5) for fraction in (0.2, 0.5, 1.0)
             for number, (needle, distance) in enumerate((("A", 80), ("B", 30)))]
    out = succeed("draw_two_needles", "--runs", write_run(tmp_path / "run", "two_needles", lines, values=16),
                  "--out_dir", tmp_path)
    for needle, place in (("A", "0.200"), ("B", "0.700")):
        assert f"needle {needle} (masked beyond {place}): jump {math.log(16):.4f} nats" in out
    assert out.count("1.000 of log 16") == 2


def test_positions(tmp_path, unrendered):
    lines = [{"index": index, "context": index, "visible_fraction": 1.0, "gold_index": index % 5,
              "gold_distance": 100 - 20 * (index % 5), "score": float(index % 5 in (0, 4)), "gold_visible": 1}
             for index in range(20)]
    run = Answers(write_run(tmp_path / "run", "kv_retrieval", lines, units=5))
    places, which = groups(run, 10)
    assert places == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    points = means(run.table("score")[0][-1], which, np.ones(20))
    assert points.tolist() == [1, 0, 0, 0, 1] and contrast(points) == 1
    places, which = groups(run, 2)  # more positions than points: equal parts of the context
    assert which.tolist() == [0, 0, 0, 1, 1] * 4 and places == pytest.approx([0.2, 0.7])
    assert "ends - middle 1.000" in succeed("draw_by_position", "--runs", tmp_path / "run", "--out_dir", tmp_path)
    # of contexts with 2 and with 4 units, asked for uniformly: the last unit is not at one position
    lines = [{"index": 4 * row + index, "context": row, "visible_fraction": 1.0, "gold_index": index,
              "gold_distance": 100 - 100 * index // units, "score": 1.0, "gold_visible": 1}
             for row, units in enumerate((2, 4)) for index in range(units)]
    for about, expected in (({}, [0, 0.25, 0.5, 0.75]), ({"gold_positions": [0, 1, 2, 3]}, [0, 0.375, 0.5, 0.75])):
        places, _ = groups(Answers(write_run(tmp_path / str(len(about)), "kv_retrieval", lines, **about)), 4)
        assert places == pytest.approx(expected)


def test_models_that_differ_in_their_seed(tmp_path):
    """Recall of eight keys, found in the first quarter or by the second seed; needles that cost log 16 where masked."""
    runs = []
    for seed in (0, 1):
        lines = [{"index": index, "context": index, "visible_fraction": 1.0, "units": 8, "gold_index": index % 8,
                  "gold_visible": 1, "hits": int(index % 8 < 2 or seed == 1)} for index in range(16)]
        runs.append(write_run(tmp_path / f"recall{seed}", "kv_retrieval", lines, f"made/up_seed{seed}", values=16))
        lines = [{"index": index, "context": 0, "visible_fraction": fraction, "units": 10, "needle": "AB"[index],
                  "gold_index": (2, 7)[index], "gold_visible": int(fraction == 1),
                  "cross_entropy": 0.1 * seed + math.log(16) * (fraction < 1)}
                 for fraction in (0.2, 1.0) for index in (0, 1)]
        runs.append(write_run(tmp_path / f"needles{seed}", "two_needles", lines, f"made/up_seed{seed}", values=16))
    table = tmp_path / "a folder" / "answers.csv"
    assert "24 rows of 4 runs" in succeed("collect_answers", "--runs", *runs, "--out_csv", table)
    out = succeed("draw_by_seed", "--results", table, "--out_dir", tmp_path)
    # Student's quantile of two seeds is 12.706, and the standard error of their mean is half their difference
    assert f"up, 8 keys, 2 seeds: accuracy 0.625 ± {12.706 * 0.375:.3f}" in out
    assert f"first quarter 1.000 ± 0.000, middle half 0.500 ± {12.706 * 0.5:.3f}" in out
    assert f"jump {math.log(16):.3f} ± 0.000, 1.000 ± 0.000 of log 16" in out
    assert {path.stem for path in tmp_path.glob("*.png")} == {"recall_by_position", "recall_by_keys", "needles"}
    assert "has no finished run" in error_of("collect_answers", "--runs", tmp_path)
    assert "lacks the column" in error_of("draw_by_seed", "--results", tmp_path / "recall0" / "answers.csv")
    header, *rows = table.read_text().splitlines()
    for gone in ("recall", "needles"):
        there = [row for row in rows if "up_seed1" in row and ("two_needles" in row) == (gone == "needles")]
        (tmp_path / "holes.csv").write_text("\n".join([header, *(row for row in rows if row != there[0])]))
        assert "up has not all its seeds at" in error_of("draw_by_seed", "--results", tmp_path / "holes.csv")


def test_correlations_of_tasks():
    assert correlation([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))
    rows = [{"task": task, "model": model, "max_length": 8, "value": value} for task, values in (
        ("a", {"x": 1, "y": 2, "z": 3}), ("b", {"x": 5, "y": 4, "z": 3}), ("c", {"x": 1, "y": 2}))
            for model, value in values.items()]
    found = correlations(rows, ["a", "b", "c"])
    assert found[0, 1] == pytest.approx(-1) and math.isnan(found[0, 2])


def test_bad_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FIGURES:
        assert "no finished run" in error_of(name)
        assert "has no finished run" in error_of(name, "--runs", tmp_path)
    lines = [{"index": 0, "context": 0, "visible_fraction": fraction} for fraction in (0.5, 1.0)]
    directory = write_run(tmp_path / "run", "ruler_cwe", lines)
    assert "no score" in error_of("draw_visible_fraction", "--runs", directory)
    assert "no finished run of two_needles" in error_of("draw_two_needles", "--runs", directory)
    cut = write_run(tmp_path / "cut", "ruler_qa1", [{**line, "gold_distance": 1} for line in lines])
    (cut / "answers.csv").write_text("".join((cut / "answers.csv").read_text().splitlines(keepends=True)[:-1]))
    for name in ("draw_visible_fraction", "draw_position_weighted"):
        assert "answers.csv is cut short" in error_of(name, "--runs", cut, "--measure", "cross_entropy")
    (directory / "answers.csv").write_text("index,context\n0,0\n")
    assert "lacks the column" in error_of("draw_visible_fraction", "--runs", directory)
