"""Scores of an answer by the definition of each benchmark, between 0 and 1."""

import math
import re
import string

CHAIN = re.compile(r"\d+(?:\s*>\s*\d+)*")
LABEL = re.compile(r"(?:label:\s*){1,2}(.*)", re.IGNORECASE)  # a chat model may repeat the prefix
STOP_AT_NEWLINE = ("helmet_rag", "helmet_rerank", "helmet_icl")  # where HELMET ends an answer at its first newline


def scored_part(output, task):
    """The part of an output that is scored: with HELMET's stop, all before the first newline, be it empty."""
    return output.partition("\n")[0] if task in STOP_AT_NEWLINE else output


def normalise_answer(text):
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    text = "".join(mark for mark in text.lower() if mark not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def share_of_references(output, sample):
    """Share of the answers that the output has, in any case (RULER: cwe, fwe, vt)."""
    return sum(answer.lower() in output.lower() for answer in sample["answers"]) / len(sample["answers"])


def any_reference(output, sample):
    """1 if the output has one of the answers, in any case (RULER: qa; Lost in the Middle: key-value retrieval)."""
    return float(any(answer.lower() in output.lower() for answer in sample["answers"]))


def any_reference_normalised(output, sample):
    """1 if the normalised output has a normalised answer (HELMET: recall and RAG)."""
    output = normalise_answer(output)
    return float(any(normalise_answer(answer) in output for answer in sample["answers"]))


def first_line(output, sample):
    """The same with the output's first line alone, be it empty (Lost in the Middle: multi-document QA)."""
    return any_reference_normalised(output.partition("\n")[0], sample)


def first_word(output, sample):
    """1 if the output's first word is one of the answers (bare symbols, where v1 is a part of v12)."""
    return float(output.split()[:1] in [[answer] for answer in sample["answers"]])


def label(output, sample):
    """1 if the first line, or what follows "label:" in it, in any case, is the label (HELMET: in-context learning)."""
    line = output.partition("\n")[0]
    after = LABEL.search(line)
    return float(normalise_answer(after[1] if after else line) == normalise_answer(sample["answers"][0]))


def parse_ranking(output):
    """The IDs of the longest text "ID3 > ID1 > ...", the first mention of each; "ID", brackets and colons are
    dropped."""
    chains = CHAIN.findall(re.sub(r"[\[\]:]", "", output).lower().replace("id", ""))
    return list(dict.fromkeys(re.findall(r"\d+", max(chains, key=len, default=""))))


def discounted(gains, at=10):
    """Discounted cumulative gain of the first `at` gains, best first; discount: log2(rank + 1)."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:at], start=1))


def ndcg(ranking, relevance):
    """Normalised discounted cumulative gain at 10 of ids, best first; gain: relevance, 0 of ids that have none, which
    keep their rank."""
    ideal = discounted(sorted(relevance.values(), reverse=True))
    return discounted([relevance.get(name, 0) for name in ranking]) / ideal


def chance(sample):
    """The score expected of a random order of all IDs of a re-ranking sample, exactly: each rank has the mean gain.
    None for other tasks."""
    if "relevance" not in sample:
        return None
    gains = sorted(sample["relevance"].values(), reverse=True)
    return discounted([sum(gains) / len(gains)] * len(gains)) / discounted(gains)


def ranking(output, sample):
    """NDCG@10 of the IDs that could be parsed; those that the context does not have are irrelevant (HELMET:
    re-ranking)."""
    return ndcg(parse_ranking(output), sample["relevance"])


def parsed_share(output, sample):
    """Share of the context's IDs that a ranking names."""
    return len(set(parse_ranking(output)) & set(sample["relevance"])) / len(sample["relevance"])


SCORES = {score.__name__: score for score in
          (share_of_references, any_reference, any_reference_normalised, first_line, first_word, label, ranking)}
