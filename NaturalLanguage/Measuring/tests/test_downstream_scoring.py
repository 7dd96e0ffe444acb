"""Scores of hand-made answers, by the definition of each benchmark."""

import itertools
import math
import random

import pytest

from downstream.scoring import SCORES, chance, ndcg, normalise_answer, parse_ranking, parsed_share, scored_part


@pytest.mark.parametrize("metric, output, answers, score", [
    ("share_of_references", " 1. Apple 2. pear", ["apple", "pear", "plum", "fig"], 0.5),
    ("share_of_references", "nothing", ["apple"], 0.0),
    ("any_reference", "It is PARIS, of course", ["London", "Paris"], 1.0),
    ("any_reference", "It is Par is", ["Paris"], 0.0),
    ("first_line", " The Eiffel-Tower!\nLondon", ["eiffeltower"], 1.0),
    ("first_line", "\n The Eiffel-Tower!", ["eiffeltower"], 0.0),
    ("first_line", "It is not known\nParis", ["Paris"], 0.0),
    ("first_line", "in a big apple", ["The Big Apple"], 1.0),
    ("any_reference_normalised", "the line\nanswers", ["then answer"], 0.0),
    ("any_reference_normalised", "line\nthe  Answer.", ["line answer"], 1.0),
    ("first_word", " v12 k3", ["v1"], 0.0),
    ("first_word", " v1 k3 v12", ["v1"], 1.0),
    ("first_word", "", ["v1"], 0.0),
    ("label", " 7\n\nanother text\nlabel: 3", ["7"], 1.0),
    ("label", "label: 17", ["17"], 1.0),
    ("label", " Label: 7", ["7"], 1.0),
    ("label", "LABEL: label: 7", ["7"], 1.0),
    ("label", " 17", ["7"], 0.0),
    ("label", " 7 because", ["7"], 0.0),
])
def test_answers(metric, output, answers, score):
    assert SCORES[metric](output, {"answers": answers}) == score


def test_normalisation():
    assert normalise_answer("The  U.S. had an apple, a theory & another!") == "us had apple theory another"


@pytest.mark.parametrize("output, names", [
    (" ID3 > ID1 > ID2", ["3", "1", "2"]),
    ("[4] > [2]", ["4", "2"]),
    ("Of 10 documents: ID3 > ID1\nRanking: ID5 > ID3 > ID5 > ID1", ["5", "3", "1"]),
    ("ID: 3 > ID: 1", ["3", "1"]),
    ("id3 > id1", ["3", "1"]),
    ("Id3 > Id1", ["3", "1"]),
    ("ID[3] > ID[1]", ["3", "1"]),
    ("[ID: [3]] > ID: [1]", ["3", "1"]),
    ("none", []),
])
def test_chains(output, names):
    assert parse_ranking(output) == names


@pytest.mark.parametrize("task, output, part", [
    ("helmet_rag", " Paris\n\nQuestion: where?", " Paris"),
    ("helmet_rerank", "ID1\nRanking: ID3 > ID2", "ID1"),
    ("helmet_icl", "\nlabel: 3", ""),
    ("helmet_recall", "\nvalue", "\nvalue"),
    ("ruler_qa1", "In\nParis", "In\nParis"),
])
def test_helmet_stops_at_a_newline(task, output, part):
    assert scored_part(output, task) == part


def test_ndcg_by_hand():
    relevance = {"1": 3, "2": 0, "3": 1, "4": 2}
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["3", "1", "2", "4"], relevance) == pytest.approx((1 + 3 / math.log2(3) + 2 / math.log2(5)) / ideal)
    assert ndcg(["1", "4", "3"], relevance) == pytest.approx(1)
    assert ndcg([], relevance) == 0
    many = {str(number): int(number == 11) for number in range(1, 12)}
    assert ndcg([str(number) for number in range(1, 12)], many) == 0  # the eleventh is beyond ten
    sample = {"relevance": relevance}
    # 9 is not in the context: it takes the first rank
    assert SCORES["ranking"]("ID9 > ID3 > ID1", sample) == pytest.approx((1 / math.log2(3) + 3 / 2) / ideal)
    assert SCORES["ranking"](" > ".join(f"ID{name}" for name in (3, *range(20, 29), 1)), sample) == 1 / ideal
    assert SCORES["ranking"]("ID9 > ID9 > ID1 > ID9", sample) == pytest.approx(3 / math.log2(3) / ideal)
    assert parsed_share("ID9 > ID3 > ID1", sample) == 0.5


@pytest.mark.parametrize("gains", [(2, 1, 0, 0, 0), (1, *[0] * 11), (3, 3, 2, 0, *[1] * 9)])
def test_chance_is_the_mean_over_orders(gains):
    relevance, generator = {str(name): gain for name, gain in enumerate(gains)}, random.Random(0)
    if len(gains) < 6:
        orders = list(itertools.permutations(relevance))
    else:
        orders = [generator.sample(list(relevance), len(relevance)) for _ in range(20_000)]
    scores = [ndcg(order, relevance) for order in orders]
    exact = 1e-9 if len(gains) < 6 else 0.02
    assert chance({"relevance": relevance}) == pytest.approx(sum(scores) / len(scores), rel=exact)
    assert chance({"answers": ["1"]}) is None
