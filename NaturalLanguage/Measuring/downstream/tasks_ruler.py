"""Four tasks of RULER (Hsieh et al. 2024), those of the paper's Fig. 8: qa_1, cwe, fwe, vt.

A builder makes a Draft of a given size from a generator; generate_tasks.py finds the size that fills the length.
"""

import math
import string

import numpy as np

from downstream.drafts import Draft, Query, SourceTooSmall, arrange, choose_passages

SHORT = 4096  # tokens below which cwe repeats its words less often
COMMON = 10
DOTS = "..."
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
HOPS = 4
QA = ("Answer the question based on the given documents. Only give me the answer and do not output any other words.")
CWE = ("Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
       "appear most often.\n")
CWE_QUESTION = "\nQuestion: What are the 10 most common words in the above list?"
CWE_PREFIX = " Answer: The top 10 words that appear most often in the list are:"
FWE = ("Read the following coded text and track the frequency of each coded word. Find the three most frequently "
       "appeared coded words. ")
FWE_QUESTION = ("\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most "
                "frequently appeared words in the above coded text?")
FWE_PREFIX = " Answer: According to the coded text above, the three most frequently appeared words are:"
VT = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"


def other_passages(questions, source, rng):
    """Passages of the source that are not these questions' gold: of the same group first, then others, shuffled."""
    golds = {question.gold for question in questions}
    groups = {question.group for question in questions if question.group}
    pool = list(dict.fromkeys(item.gold for item in source.items))
    group_of = {item.gold: item.group for item in source.items}
    order = [pool[index] for index in rng.permutation(len(pool)).tolist()]
    order = [passage for passage in order if passage not in golds]
    return ([passage for passage in order if group_of[passage] in groups]
            + [passage for passage in order if group_of[passage] not in groups])


def draw_questions(source, n, rng):
    """n questions with passages that differ."""
    chosen = {}
    for index in rng.permutation(len(source.items)).tolist():
        chosen.setdefault(source.items[index].gold, source.items[index])
        if len(chosen) == n:
            return list(chosen.values())
    raise SourceTooSmall(f"{len(chosen)} questions")


def qa1(size, rng, source, options):
    """Questions about one of many documents; the distractors are in random order. size: tokens of the distractors."""
    questions = draw_questions(source, options.queries, rng)
    others = choose_passages(other_passages(questions, source, rng), size, options)
    others = [others[index] for index in rng.permutation(len(others)).tolist()]
    passages, golds = arrange([question.gold for question in questions], others, options, rng)
    units = [f"Document {number}:\n{passage.text}" for number, passage in enumerate(passages, start=1)]
    queries = [Query([gold], f"\n\n{QA}\n\nQuestion: {question.text}", f"Question: {question.text}\n\n", " Answer:",
                     list(question.answers), f" {question.answers[0]}")
               for question, gold in zip(questions, golds)]
    return Draft(f"{QA}\n\nThe following are given documents.\n\n", units, "\n\n", queries)


def numbered(words):
    return [f"{number}. {word}" for number, word in enumerate(words, start=1)]


def word_counts(words, common_count, other_count, rng):
    """A shuffled list with the first COMMON words common_count times and the others other_count times."""
    listed = words[:COMMON] * common_count + words[COMMON:] * other_count
    return [listed[index] for index in rng.permutation(len(listed)).tolist()]


def cwe(size, rng, source, options):
    """Common words among others, numbered. size: distinct words, 10 of which are common."""
    short = options.max_length is not None and options.max_length < SHORT
    shown, (demo_common, demo_other), (common, other) = ((20, (3, 1), (6, 1)) if short else (40, (10, 3), (30, 3)))
    if shown + size > len(source.items):
        raise SourceTooSmall(f"{len(source.items)} words")
    demo_rng, rng = rng.spawn(2)  # the demonstration does not depend on the size
    order = demo_rng.permutation(len(source.items)).tolist()
    words = [source.items[index] for index in order[:shown + size]]
    demo, words = words[:shown], words[shown:]
    demo_units = numbered(word_counts(demo, demo_common, demo_other, demo_rng))
    demonstration = (CWE + " ".join(demo_units) + CWE_QUESTION + CWE_PREFIX + " "
                     + " ".join(numbered(demo[:COMMON])) + "\n")
    listed = word_counts(words, common, other, rng)
    answers = words[:COMMON]
    gold = [index for index, word in enumerate(listed) if word in set(answers)]
    query = Query(gold, CWE_QUESTION, CWE_QUESTION.strip() + "\n", CWE_PREFIX, answers,
                  " " + " ".join(numbered(answers)))
    return Draft(demonstration + CWE, numbered(listed), " ", [query])


def frequencies(n_words, vocabulary):
    """Counts of the words of rank 1, 2, ...: int(n k^-2 / zeta(2))."""
    return [int(n_words / (rank**2 * math.pi**2 / 6)) for rank in range(1, vocabulary + 1)]


def fwe(size, rng, source, options):
    """Coded words whose frequency falls with the square of their rank; the first rank is noise. size: N words."""
    vocabulary = max(6, (options.max_length or 8 * size) // 50)
    word_rng, rng = rng.spawn(2)  # the words do not depend on the size
    words = [DOTS]
    while len(words) < vocabulary:
        word = "".join(word_rng.choice(list(string.ascii_lowercase), 6))
        if word not in words:
            words.append(word)
    listed = [word for word, count in zip(words, frequencies(size, vocabulary)) for _ in range(count)]
    listed = [listed[index] for index in rng.permutation(len(listed)).tolist()]
    answers = words[1:4]
    gold = [index for index, word in enumerate(listed) if word in answers]
    query = Query(gold, FWE_QUESTION, FWE_QUESTION.strip() + "\n", FWE_PREFIX, answers, " " + " ".join(answers))
    return Draft(FWE, listed, " ", [query])


def chain(repeats, letters, rng):
    """Units of a chain of assignments hidden in repeats of the noise: (units, indices of the lines, names, value)."""
    names = []
    while len(names) < HOPS + 1:
        name = "".join(rng.choice(list(string.ascii_uppercase), letters))
        if name not in names:
            names.append(name)
    value = int(rng.integers(10_000, 99_999))
    lines = [f"VAR {names[0]} = {value}"]
    lines += [f"VAR {name} = VAR {before}" for before, name in zip(names, names[1:])]
    indices = sorted(rng.choice(repeats + 1, len(lines), replace=False).tolist())  # of the repeat behind each line
    units, gold = [], []
    for repeat in range(repeats + 1):
        if repeat in indices:
            gold.append(len(units))
            units.append(lines[indices.index(repeat)])
        units += [NOISE] if repeat < repeats else []
    return units, gold, names, value


def vt_question(value):
    return f"\nQuestion: Find all variables that are assigned the value {value} in the text above."


def vt_prefix(value):
    return (f" Answer: According to the chain(s) of variable assignment in the text above, {HOPS + 1} variables are "
            f"assigned the value {value}, they are:")


def vt_demonstration(repeats, seed):
    """A solved chain of names of three letters."""
    units, _, names, value = chain(repeats, 3, np.random.default_rng(seed))
    return VT + "\n".join(units) + vt_question(value) + vt_prefix(value) + " " + " ".join(names) + "\n\n"


def vt(size, rng, source, options):
    """One chain of four hops in noise, behind a demonstration of up to 500 tokens (an eighth of lengths below 4,000).

    size: repeats of the noise.
    """
    seed = int(rng.integers(2**32))
    budget = min(500, options.max_length // 8) if options.max_length else 500
    repeats = max(HOPS, budget // options.count(NOISE + "\n"))
    while repeats > HOPS and options.count(vt_demonstration(repeats, seed)) > budget:
        repeats -= 1
    units, gold, names, value = chain(size, 5, rng)
    query = Query(gold, vt_question(value), vt_question(value).strip() + "\n\n", vt_prefix(value), names,
                  " " + " ".join(names))
    return Draft(vt_demonstration(repeats, seed) + VT, units, "\n", [query])


def generator(seed, context):
    """The generator of a context: samples do not depend on how many there are."""
    return np.random.default_rng([seed, context])
