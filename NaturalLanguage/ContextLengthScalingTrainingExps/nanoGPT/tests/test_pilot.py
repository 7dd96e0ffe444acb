"""The choice of a pilot against brute force, and the advice against the law that it is drawn from."""

import copy
import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from law_tables import BY_NAME, LENGTHS, table, true_fit
from optimal_context.advice import Setting, advised_length, five_lines
from optimal_context.analysis import analyse, describe
from optimal_context.law import optimum, predict
from optimal_context.pilot import (MANTISSAS, MODELS, REACH, SHAPES, STEPS, WINDOWS, Limits, candidate_lengths,
                                   hours_of_larger_model, least_pilot, least_tokens, model_for, plan, schedule,
                                   usual_optimum)
from optimal_context.selection import baselines
from pilot_runs import words
from settings import parse

SETTING = Setting(corpus_tokens=10**7, valid_tokens=10**6, hours=2.0, passes=24.0, step_tokens=4096, model="2 layers",
                  runs=40, hours_of_larger_model=4.5)


def run_seconds(length, size):
    """Something that grows with both."""
    return 3 + size / 5000 * (1 + length / 300)


def brute_force(lengths, limits, shapes):
    """All pilots of all shapes that fit, by trying every size and every contiguous choice of lengths."""
    tops = sorted(round(mantissa * 10**power) for mantissa in MANTISSAS for power in range(2, 10))
    best = []
    for n_sizes, n_lengths, seeds in shapes:
        found = {}
        for top in tops:
            sizes = [round(top / 2**power) for power in reversed(range(n_sizes))]
            allowed = [length for length in lengths if sizes[0] >= WINDOWS * length]
            windows = [allowed[first:first + n_lengths] for first in range(len(allowed) - n_lengths + 1)]
            if top > limits.corpus_tokens or sizes[0] < limits.least_size or not windows:
                continue
            centre = min(windows, key=lambda window: abs(math.log(window[n_lengths // 2] / usual_optimum(top))))
            times = [run_seconds(length, size) for _ in range(seeds) for size in sizes for length in centre]
            bound = (sum(times) - max(times)) / limits.slots + max(times)
            found[top] = (sizes, centre, seeds, bound, sum(times))
        below = {top: pilot for top, pilot in found.items() if top <= limits.target_tokens}
        below = below or {top: found[top] for top in sorted(found)[:1]}
        fitting = [below[top] for top in sorted(below) if below[top][3] <= limits.seconds]
        best += fitting[-1:]
    tallest = max((sizes[-1] for sizes, *_ in best), default=0)
    return next((pilot for pilot in best if pilot[0][-1] * REACH >= tallest), None)


@pytest.mark.parametrize("seconds", [50, 300, 1000, 5000, 20_000, 10**6])
@pytest.mark.parametrize("corpus, target, least, slots", [
    (10**6, 10**9, 10_240, 1), (10**6, 10**9, 3000, 2), (60_000, 10**9, 10_240, 8), (10**9, 40_000, 3000, 4),
    (10**9, 300_000, 10_240, 2), (30_000, 10**9, 10_240, 1)])
def test_the_plan_is_the_best_of_all(seconds, corpus, target, least, slots):
    lengths, limits = [8, 16, 32, 64, 128, 256, 512], Limits(corpus, target, least, seconds, slots)
    expected, found = brute_force(lengths, limits, SHAPES), plan(lengths, run_seconds, limits)
    assert (found is None) == (expected is None)
    if found:
        assert [list(found.sizes), list(found.lengths), found.seeds] == [list(expected[0]), expected[1], expected[2]]
        assert found.seconds == pytest.approx(expected[3]) and found.slot_seconds == pytest.approx(expected[4])


def test_no_order_of_the_runs_takes_longer_than_planned():
    pilot = plan([8, 16, 32, 64, 128], run_seconds, Limits(10**6, 10**9, 3000, 2000, 3))
    runs = [run_seconds(*cell) for cell in itertools.product(pilot.lengths, pilot.sizes)] * pilot.seeds
    chance, worst = random.Random(0), 0
    for _ in range(200):
        chance.shuffle(runs)
        ends = [0.0] * 3
        for seconds in runs:
            ends[ends.index(min(ends))] += seconds
        worst = max(worst, *ends)
    assert sum(runs) / 3 <= worst <= pilot.seconds <= 2000


def test_what_the_smallest_pilot_needs():
    """Exactly its time, and exactly its tokens."""
    lengths, limits = [8, 16, 32, 64], Limits(10**6, 10**9, 3000, 0.0, 2)
    least = least_pilot(lengths, run_seconds, limits)
    assert (len(least.sizes), len(least.lengths), least.seeds) == SHAPES[-1]
    assert plan(lengths, run_seconds, limits._replace(seconds=least.seconds)) == least
    assert plan(lengths, run_seconds, limits._replace(seconds=least.seconds * 0.999)) is None
    tokens = least_tokens(lengths, 3000)
    assert least_pilot(lengths, run_seconds, limits._replace(corpus_tokens=tokens)).sizes[-1] == tokens
    assert least_pilot(lengths, run_seconds, limits._replace(corpus_tokens=tokens - 1)) is None
    assert plan([8, 16, 32], run_seconds, limits._replace(seconds=1e9)) is None  # three lengths


def test_lengths_models_and_schedules():
    assert candidate_lengths(8, 4096, 10**6) == [8, 16, 32, 64, 128, 256, 512]
    assert candidate_lengths(8, 4096, 1000) == [8, 16, 32, 64] and candidate_lengths(8, 4096, 10) == []
    assert candidate_lengths(8, 48, 10**6) == []
    assert model_for("cpu", 0.5).n_embd < model_for("cpu", 100).n_embd < model_for("cuda", 100).n_embd
    assert hours_of_larger_model("cpu", 2, 2) == 4 and hours_of_larger_model("cuda", 2, 1) == np.inf
    for model in (*MODELS["cpu"], *MODELS["cuda"]):
        lengths = candidate_lengths(model.shortest, model.tokens_per_step, 10**9)
        assert len(lengths) >= max(count for _, count, _ in SHAPES) and model.eval_tokens % lengths[-1] == 0
        settings = parse("", [*words(model.flags), "--context_length=1", "--train_bin=train"])
        assert settings.min_lr == pytest.approx(model.learning_rate / 10) and settings.n_embd % settings.n_head == 0
    for size in (1, 10_000, 10**6):
        found = schedule(size, 4096, 24)
        assert found["max_iters"] == found["lr_decay_iters"] >= STEPS and 0 <= found["max_iters"] * 4096 - max(
            24 * size, STEPS * 4096) < 4096
        assert found["eval_interval"] * found["patience"] < found["max_iters"] > found["warmup_iters"]


@pytest.fixture(scope="module")
def found():
    """The description of a table of a known law, with little noise, and a prediction inside its lengths."""
    cells = table(true_fit("power_constant"), noise=0.002)
    described = describe(analyse([BY_NAME["power_constant"]], cells, 100, 0), [3.2e6], 0)
    return {**described, "check": {"baselines": baselines(cells)}}


def with_optimum(found, **entry):
    other = copy.deepcopy(found)
    other["predictions"][0]["optimum"].update(entry)
    return other


def test_the_five_lines_say_what_the_law_says(found):
    truth = true_fit("power_constant")
    best, lowest = (values[0] for values in optimum(truth, [3.2e6], 16, 512))
    nearest = min(LENGTHS, key=lambda length: abs(np.log(length / best)))
    lines = five_lines(found, SETTING)
    assert len(lines) == 5 and advised_length(found) == nearest and f" {nearest} " in lines[0]
    entry = found["predictions"][0]["optimum"]
    assert entry["low"] < best < entry["high"] and f"{entry['low']:,.0f} to {entry['high']:,.0f}" in lines[0]
    costs = {length: predict(truth, [length], [3.2e6])[1][0] - lowest for length in LENGTHS}
    said = [float(part.split()[0]) for part in lines[1].split("costs ")[1:]]
    assert np.allclose(said, [costs[length] for length in (nearest / 2, nearest, 2 * nearest) if length in costs],
                       atol=0.004)
    assert "Of 5 sizes" in lines[2] and ": yes." in lines[3] and "3.2 million tokens are 2 times" in lines[3]
    assert "nothing is needed" in lines[4]


def test_what_is_not_known_is_not_said(found):
    """An optimum beyond the grid is no number; runs that were still falling, and sizes too far off, are named."""
    beyond = five_lines(with_optimum(found, value=None, low=300.0, high=None, bound="at least", estimate=None), SETTING)
    assert "512 or more" in beyond[0] and "at least 300" in beyond[0] and "1,024" in beyond[1]
    assert "above the best of the pilot's lengths" in beyond[1]
    inside = five_lines(with_optimum(found, value=None, low=40.0, high=None, bound="at least", estimate=200.0), SETTING)
    assert all(part in inside[0] for part in ("a context length of 256 with", "best guess", "at least 40"))
    assert "longer contexts" not in inside[4]
    assert "--context_lengths 16 32 64 128 256 512 1024 --tokens_per_step 8192" in beyond[4] and "--ov" in beyond[4]
    assert "validation tokens" not in beyond[4]
    few = replace(SETTING, valid_tokens=8191)
    beyond = five_lines(with_optimum(found, value=None, low=300.0, high=None, bound="at least", estimate=None), few)
    assert "--tokens_per_step 8192, with 8,192 validation tokens or more (--validation_fraction)" in beyond[4]
    below = five_lines(with_optimum(found, value=None, low=None, high=30.0, bound="at most", estimate=20.0), SETTING)
    assert "16 or less" in below[0] and "--context_lengths 8 16" in below[4]
    unknown = five_lines(with_optimum(found, value=None, low=16.0, high=512.0, bound=None, estimate=None), SETTING)
    assert "cannot be told" in unknown[0] and "cannot be told" in unknown[1]
    plain = copy.deepcopy(found)
    plain["baseline"].update(is_better=True, name="nearest size")
    for length, text in ((64.0, "64 with"), (512.0, "512 or more"), (16.0, "16 or less")):
        plain["predictions"][0]["baseline_length"] = length
        lines = five_lines(plain, SETTING)
        assert text in lines[0] and "nearest size" in lines[0] and f"({length / 2:g})" in lines[1]
        assert ("longer contexts" in lines[4], "shorter contexts" in lines[4]) == ("more" in text, "less" in text)
    falling = five_lines(found, replace(SETTING, unfinished=("a", "b", "c", "d")))
    assert all(part in falling[4] for part in ("4 runs", "(a, b, c ...)", "--passes 48", "--hours 4"))
    assert ": yes." in falling[3]  # 4 of 40
    falling = five_lines(found, replace(SETTING, unfinished=("a", "b", "c", "d", "e")))
    assert ": no." in falling[3] and "5 of the 40 runs are not at their minimum" in falling[3]
    dearer = five_lines(found, replace(SETTING, hours=2.5, unfinished=("a",)))
    assert "--hours 5 (from 4.5 hours on with a larger model" in dearer[4] and "larger model" not in falling[4]
    small = copy.deepcopy(found)
    small["predictions"][0].update(train_tokens=5e4, too_far=True, reasons=["2 times beyond the smallest size, ..."])
    small["predictions"][0]["lengths"] = small["predictions"][0]["lengths"][::2]
    lines = five_lines(small, SETTING)
    assert "50,000 tokens are 0.5 times the pilot's smallest size" in lines[3] and "beyond the" not in lines[3]
    assert "is not among the pilot's lengths" in lines[1]
    far = copy.deepcopy(found)
    far["predictions"][0].update(train_tokens=1.6e9, trusted=False)
    lines = five_lines(far, SETTING)
    assert ": no." in lines[3] and "1.6 billion tokens are 1,000 times" in lines[3] and "10 million" in lines[4]
    none = {**copy.deepcopy(found), "no_effect": True, "reasons": ["no effect of the length is seen (p = 0.5)"]}
    none["predictions"][0]["baseline_length"] = 64.0
    assert "No effect" in five_lines(none, SETTING)[0] and "16 to 512" in five_lines(none, SETTING)[0]
    none["predictions"][0]["trusted"] = False
    lines = five_lines(none, replace(SETTING, unfinished=("a",)))
    assert "(32)" in lines[1] and "(128)" in lines[1] and "costs " not in lines[1]
    assert "1 run is" in lines[4] and "(a)" in lines[4] and "--hours 4" in lines[4]
    few = {**found, "candidates": {**found["candidates"], found["law"]: None}}
    assert "not known" in five_lines(few, SETTING)[2]
    rows = [{**row, "near_square": 0.25, "steps": 2} for row in found["candidates"][found["law"]]]
    nested = {**few, "check": {**found["check"], "nested": rows}}
    assert "chosen from the others found the best length within a step at 0 and missed the losses near it by 0.500" in \
        five_lines(nested, SETTING)[2]
