"""Four tasks of HELMET (Yen et al. 2024): JSON recall, RAG, re-ranking, in-context learning. Prompts of base models."""

from downstream.drafts import Draft, Query, SourceTooSmall, arrange, choose_passages
from downstream.tasks_retrieval import PAIRS, random_pairs, retrieved_passages
from downstream.tasks_ruler import draw_questions, other_passages

DEMONSTRATIONS = 2
SHORTEST = 8192  # tokens of HELMET's shortest prompts
SHOWN = {"rag": (1, 3), "rerank": (5, 10)}  # passages of a demonstration in shorter prompts, and in HELMET's
RANKS_IN_TARGET = 10
HALF_RELEVANT = 2  # passages of the gold one's group, where there are no judgements: few of many, so that chance is low
RAG = ("Use the given documents to write a concise and short answer to the question. Write your answer in the "
       "following format:\nAnswer: [answer]\n\n")
RERANK = ("You are provided with a list of documents, each indicated by their ID. Rank each document based on their "
          "relevance to the question in descending order from most relevant to least relevant texts. Include all "
          "documents in the rankings. Write your answer using the unique IDs, with the following format:\n"
          "Ranking: ID3 > ID1 > ID2\n\n")
ICL = ('Use the provided mapping from the text to label to assign a label to the text. Only output "label: {label}" '
       "and nothing else.\n\n")


def recall(size, rng, source, options):
    """JSON key-value recall; the context stands before the instruction. size: pairs."""
    pairs = random_pairs(size, rng)
    units, golds = arrange(pairs[:options.queries], pairs[options.queries:], options, rng)
    shown = options.queries + rng.choice(size - options.queries, DEMONSTRATIONS, replace=False)
    demonstrations = "".join(f"Key: {key}\nCorresponding value: {value}\n\n"
                             for key, value in (pairs[index] for index in shown.tolist()))
    queries = [Query([gold], f"}}\n\n{PAIRS}{demonstrations}Key: {key}\n", f"Key: {key}\n\n", "Corresponding value:",
                     [value], f" {value}") for gold, (key, value) in zip(golds, pairs)]
    return Draft("", [f'"{key}": "{value}"' for key, value in units], ",\n ", queries, "{")


def with_title(passage):
    return f"Document (Title: {passage.title}): {passage.text}"


def of_demonstration(task, candidates, options):
    """Options for a demonstration: HELMET's number of passages, or fewer in shorter prompts or where there are no
    more."""
    short = options.max_length is not None and options.max_length < SHORTEST
    return options._replace(units=min(SHOWN[task][not short], 1 + len(candidates)), queries=1, positions=None)


def rag(size, rng, source, options):
    """A question with retrieved passages, behind two demonstrations. size: tokens of the distractors."""
    question, *shown = draw_questions(source, 1 + DEMONSTRATIONS, rng)
    demonstrations = ""
    for other in shown:
        candidates = retrieved_passages(other, source, rng)
        small = of_demonstration("rag", candidates, options)
        passages, _ = arrange([other.gold], choose_passages(candidates, 0, small), small, rng)
        demonstrations += "".join(f"{with_title(passage)}\n\n" for passage in passages)
        demonstrations += f"Question: {other.text}\nAnswer: {other.answers[0]}\n\n"
    others = choose_passages(retrieved_passages(question, source, rng), size, options)
    passages, golds = arrange([question.gold], others, options, rng)
    query = Query(golds, f"\n\nQuestion: {question.text}\n", f"Question: {question.text}\n\n", "Answer:",
                  list(question.answers), f" {question.answers[0]}")
    return Draft(RAG + demonstrations, [with_title(passage) for passage in passages], "\n\n", [query])


def judged_passages(question, source, rng):
    """(Passage, relevance) of a question without the gold one: as retrieved, or a few of its group with 1 and those of
    other groups with 0."""
    if question.passages:
        return [(passage, relevance) for passage, relevance, _ in question.passages if passage != question.gold]
    groups = {item.gold: item.group for item in source.items}
    others = other_passages([question], source, rng)
    same = [passage for passage in others if groups[passage] == question.group]
    return ([(passage, 1) for passage in same[:HALF_RELEVANT]]
            + [(passage, 0) for passage in others[len(same):]])


def listing(passages, names):
    return [f"[ID: {name}] {with_title(passage)}" for passage, name in zip(passages, names)]


def best_first(passages, names, relevance):
    """IDs, the most relevant first; equal ones in the order of the list."""
    order = sorted(range(len(passages)), key=lambda index: -relevance[passages[index]])
    return [names[index] for index in order]


def rerank_parts(question, candidates, size, rng, options):
    """Passages in their order, their IDs and their relevance, and the index of the gold one."""
    judged = dict(candidates)
    top = max([2, *(value + 1 for value in judged.values())])
    relevance = {passage: value for passage, value, _ in question.passages}
    relevance = {**judged, question.gold: relevance.get(question.gold, top)}
    others = choose_passages([passage for passage, _ in candidates], size, options)
    others = [others[index] for index in rng.permutation(len(others)).tolist()]
    passages, golds = arrange([question.gold], others, options, rng)
    names = [str(number + 1) for number in rng.permutation(len(passages)).tolist()]
    return passages, names, relevance, golds


def rerank(size, rng, source, options):
    """Passages with IDs, to be ranked by relevance, behind two demonstrations. size: tokens of the others."""
    question, *shown = draw_questions(source, 1 + DEMONSTRATIONS, rng)
    demonstrations = ""
    for other in shown:
        candidates = judged_passages(other, source, rng)
        passages, names, relevance, _ = rerank_parts(other, candidates, 0, rng,
                                                     of_demonstration("rerank", candidates, options))
        ranked = " > ".join(f"ID{name}" for name in best_first(passages, names, relevance))
        demonstrations += "\n\n".join(listing(passages, names)) + f"\n\nQuery: {other.text}\nRanking: {ranked}\n\n"
    passages, names, relevance, golds = rerank_parts(
        question, judged_passages(question, source, rng), size, rng, options)
    ranked = best_first(passages, names, relevance)
    query = Query(golds, f"\n\nQuery: {question.text}\n", f"Query: {question.text}\n\n", "Ranking:", ranked,
                  " " + " > ".join(f"ID{name}" for name in ranked[:RANKS_IN_TARGET]),
                  {"relevance": {name: relevance[passage] for passage, name in zip(passages, names)}})
    return Draft(RERANK + demonstrations, listing(passages, names), "\n\n", [query])


def icl(size, rng, source, options):
    """Labelled texts in rounds that hold every label once, the last one cut; labels are random integers. size:
    texts."""
    texts = {}
    for index in rng.permutation(len(source.items)).tolist():
        text, name = source.items[index]
        texts.setdefault(name, []).append(text)
    names = sorted(texts)
    asked = names[int(rng.integers(len(names)))]
    question = texts[asked].pop()
    mapping = dict(zip(names, rng.permutation(len(names)).tolist()))
    shown = []
    while len(shown) < size:
        chosen = [names[index] for index in rng.permutation(len(names)).tolist()]
        if not all(texts.values()):
            raise SourceTooSmall(f"{len(shown)} texts in rounds of all labels")
        shown += [(texts[name].pop(), name) for name in chosen]
    shown = shown[:size]
    gold = [index for index, (_, name) in enumerate(shown) if name == asked]
    query = Query(gold, f"\n\n{question}\n", f"{question}\n\n", "label:", [str(mapping[asked])], f" {mapping[asked]}")
    return Draft(ICL, [f"{text}\nlabel: {mapping[name]}" for text, name in shown], "\n\n", [query])
