"""Two needles (paper Fig. 5), and Lost in the Middle's tasks (Liu et al. 2023): multi-document QA, key-value
retrieval."""

import uuid

from downstream.drafts import Draft, Query, SourceTooSmall, arrange, choose_passages
from downstream.sources import holds_answer
from downstream.tasks_ruler import draw_questions, other_passages

CITIES = ("Paris", "London", "Madrid", "Vienna", "Lisbon", "Prague", "Dublin", "Athens", "Warsaw", "Berlin", "Oslo")
NEEDLES = "Some secret numbers are hidden in the following text. Memorize them.\n\n"
DOCUMENTS = ("Write a high-quality answer for the given question using only the provided search results (some of which "
             "might be irrelevant).\n\n")
PAIRS = "Extract the value corresponding to the specified key in the JSON object below.\n\n"


def two_needles(size, rng, source, options):
    """Facts A early and B late in prose, then either restated. size: sentences of the prose; depths: of A and of B."""
    if size > len(source.items):
        raise SourceTooSmall(f"{len(source.items)} sentences")
    cities = [CITIES[index] for index in rng.permutation(len(CITIES))[:2].tolist()]
    values = [10_000 + int(value) for value in rng.choice(options.values, 2, replace=False)]
    start = int(rng.integers(len(source.items)))  # prose goes on where it does in its source
    units = [source.items[(start + index) % len(source.items)] for index in range(size)]
    indices = [int(depth * size) for depth in options.depths]
    facts = [f"The secret number of {city} is {value}." for city, value in zip(cities, values)]
    units = units[:indices[0]] + facts[:1] + units[indices[0]:indices[1]] + facts[1:] + units[indices[1]:]
    queries = [Query([gold], "\n\nRestate the secret number.", f"What is the secret number of {city}?\n\n",
                     f" The secret number of {city} is", [str(value)], f" {value}", {"needle": needle})
               for needle, gold, city, value in zip("AB", (indices[0], indices[1] + 1), cities, values)]
    return Draft(NEEDLES, units, " ", queries)


def retrieved_passages(question, source, rng):
    """Distractors of a question that do not hold its answer, the best retrieved first."""
    if question.passages:
        return [passage for passage, _, has_answer in question.passages
                if not has_answer and passage != question.gold]
    return [passage for passage in other_passages([question], source, rng)
            if not holds_answer(passage.text, question.answers)]


def multi_document_qa(size, rng, source, options):
    """The gold document among retrieved ones that do not hold the answer. size: tokens of the others."""
    question, = draw_questions(source, 1, rng)
    others = choose_passages(retrieved_passages(question, source, rng), size, options)
    passages, golds = arrange([question.gold], others, options, rng)
    units = [f"Document [{number}](Title: {passage.title}) {passage.text}"
             for number, passage in enumerate(passages, start=1)]
    query = Query(golds, f"\n\nQuestion: {question.text}\n", f"Question: {question.text}\n\n", "Answer:",
                  list(question.answers), f" {question.answers[0]}")
    return Draft(DOCUMENTS, units, "\n", [query])


def random_uuid(rng):
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def random_pairs(size, rng):
    """Random pairs of a key and a value."""
    return [(random_uuid(rng), random_uuid(rng)) for _ in range(size)]


def kv_retrieval(size, rng, source, options):
    """Random uuid4 pairs as JSON. size: pairs."""
    pairs = random_pairs(size, rng)
    units, golds = arrange(pairs[:options.queries], pairs[options.queries:], options, rng)
    queries = [Query([gold], f'}}\n\nKey: "{key}"\n', f'Key: "{key}"\n\n', "Corresponding value:", [value],
                     f' "{value}"') for gold, (key, value) in zip(golds, pairs)]
    return Draft(PAIRS, [f'"{key}": "{value}"' for key, value in units], ",\n ", queries, "JSON data:\n{")
