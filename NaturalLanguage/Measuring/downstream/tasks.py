"""The tasks by name, and samples of them that fill a length."""

import re
from collections.abc import Callable
from typing import NamedTuple

from downstream import sources, tasks_helmet, tasks_retrieval, tasks_ruler, tasks_symbols
from downstream.drafts import Options, SourceTooSmall
from utils import fail, progress

SHORTFALL = 0.01  # of the length that a sample may leave empty
CLOSE_ENOUGH = 0.002


class Task(NamedTuple):
    """`source`: the kind of its source, or "" where it needs none; `least`: the smallest size for one question, in
    units, or 0 where a size is tokens; `many`: whether several questions can be asked about one context; `positions`:
    whether its one gold unit can be put at a position."""
    build: Callable
    source: str
    metric: str
    new_tokens: int
    least: int = 0
    chat: bool = True
    many: bool = False
    positions: bool = True
    symbols: Callable | None = None


TASKS = {
    "ruler_qa1": Task(tasks_ruler.qa1, "questions", "any_reference", 32, many=True),
    "ruler_cwe": Task(tasks_ruler.cwe, "words", "share_of_references", 120, 12, positions=False),
    "ruler_fwe": Task(tasks_ruler.fwe, "", "share_of_references", 50, 80, positions=False),
    "ruler_vt": Task(tasks_ruler.vt, "", "share_of_references", 30, tasks_ruler.HOPS, positions=False,
                     symbols=tasks_symbols.variables),
    "two_needles": Task(tasks_retrieval.two_needles, "prose", "any_reference", 16, 2, positions=False,
                        symbols=tasks_symbols.two_needles),
    "kv_retrieval": Task(tasks_retrieval.kv_retrieval, "", "any_reference", 100, 1, many=True,
                         symbols=tasks_symbols.pairs),
    "multi_document_qa": Task(tasks_retrieval.multi_document_qa, "retrieved", "first_line", 100),
    "helmet_recall": Task(tasks_helmet.recall, "", "any_reference_normalised", 100, 3, chat=False, many=True),
    "helmet_rag": Task(tasks_helmet.rag, "retrieved", "any_reference_normalised", 20, chat=False),
    "helmet_rerank": Task(tasks_helmet.rerank, "retrieved", "ranking", 200, chat=False),
    "helmet_icl": Task(tasks_helmet.icl, "labelled", "label", 20, 1, chat=False, positions=False,
                       symbols=tasks_symbols.labels),
}

SINGLE_GOLD = tuple(name for name, task in TASKS.items() if task.positions)


def read_source(task, args, tokenizer):
    """The Source that the flags name, without what holds special tokens of the tokenizer.

    Published numbers are on text, and where the passages are retrieved ones, on those of files for --nq.
    """
    if args.style == "symbols":
        return symbols(tokenizer, args.keys, args.values_pattern)
    named = source_flag(task, args)
    if named == "nq":
        source = sources.natural_questions(args.nq)
    elif named == "squad":
        source = sources.squad(args.squad)
    elif named == "dataset":
        source = sources.dataset(args.dataset, args.split)
    elif task.source in ("questions", "retrieved"):
        source = sources.docstring_questions()
    elif task.source == "words":
        source = sources.word_list(args.words)
    elif task.source == "prose":
        source = sources.prose(args.essays)
    elif task.source == "labelled":
        source = sources.labelled(args.labelled)
    else:
        return sources.Source({"random": True}, True, ())
    if not source.comparable and not args.built_in:
        fail(f"no source for {args.task} was given and none that is built in is wanted; give "
             f"{' or '.join(f'--{flag} {kind}' for flag, kind in SOURCE_FLAGS[task.source].items())}, or --built_in")
    if task.source == "retrieved" and not args.nq:
        source = source._replace(comparable=False)
    return sources.without_special_tokens(source, tokenizer.all_special_tokens)


SOURCE_FLAGS = {"questions": {"squad": "FILE", "dataset": "NAME"},  # the first that is given counts
                "retrieved": {"nq": "FILE", "squad": "FILE", "dataset": "NAME"}, "words": {"words": "FILE"},
                "prose": {"essays": "FILE"}, "labelled": {"labelled": "FILE"}, "": {}}


def source_flag(task, args):
    """The flag that names the source of a task; None if it is built in, or needs none."""
    return next((flag for flag in SOURCE_FLAGS[task.source] if getattr(args, flag)), None)


def source_state(task, args):
    """What may change in a source under the same flags, but for files: versions of packages, a data set's rows."""
    if args.style == "symbols" or not task.source:
        return {}
    named = source_flag(task, args)
    if named == "dataset":
        return {"fingerprint": sources.load_rows(args.dataset, args.split)._fingerprint}
    return {} if named else sources.about_docstrings()


def symbols(tokenizer, keys, values):
    """The tokenizer's words that match the patterns of keys and of values, in the order of their ids."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    found = []
    for what, pattern in (("keys", keys), ("values", values)):
        try:
            found.append(tuple(word for word, _ in vocabulary if re.fullmatch(pattern, word)))
        except re.error as error:
            fail(f"the pattern of {what} {pattern!r} is not a regular expression: {error}")
        if len(found[-1]) < 2:
            fail(f"the tokenizer has {len(found[-1])} {what} that match {pattern!r}; name its symbols with --keys and "
                 "--values_pattern")
    return sources.Source({"symbols": [keys, values]}, False, tuple(found))


def least_units(args, task):
    """The fewest units of a context that hold the gold units of all its questions at the positions asked for."""
    return max(max(1, task.least) + args.questions - 1, *(position + 1 for position in args.gold_positions or [0]))


def fit(length_of, least, guess, budget):
    """(size, length) of the largest size found whose length is within the budget, close to it if sizes allow.

    length_of(size) is None where the source ends. Returns (None, length at `least`) if not even that one fits. Ends:
    the bracket between what fits and what does not gets smaller in each step.
    """
    first = length_of(least)
    if first is None or first > budget:
        return None, first
    low, low_length, high, size = least, first, None, max(least + 1, guess)
    while high is None or high - low > 1:
        length = length_of(size)
        if length is not None and length <= budget:
            low, low_length = size, length
        else:
            high = size
        if budget - low_length <= CLOSE_ENOUGH * budget:
            break
        per_unit = (low_length - first) / (low - least) if low > least and low_length > first else None
        if per_unit is None:
            size = low + (high - low) // 2 if high is not None else 2 * low + 1
        else:
            size = low + max(1, int((budget - low_length) / per_unit))
            if high is not None and size >= high:
                size = low + (high - low + 1) // 2
        size = max(low + 1, size if high is None else min(size, high - 1))
    return low, low_length


def positions_of(args, context):
    """The gold positions asked for the queries of a context, or None for uniform ones."""
    if not args.gold_positions:
        return None
    return [args.gold_positions[(context * args.questions + query) % len(args.gold_positions)]
            for query in range(args.questions)]


def question_length(sample):
    return len(sample["question"])


def make_samples(args, task, source, encoder):
    """args.n samples, each as long as --max_length allows (or with --units units), with `prompt_tokens`.

    Exits with code 2 where the length is too short for the questions and gold positions, or the source too small for
    the length.
    """
    counts = {}

    def count(text):
        if text not in counts:
            counts[text] = len(encoder.ids(text)[0])
        return counts[text]

    build = task.symbols if args.style == "symbols" else task.build
    budget = None if args.max_length is None else args.max_length - args.new_tokens
    per_context = 2 if args.task == "two_needles" else args.questions
    guess, samples = (budget or 0) // 8, []
    for context in progress(range(-(-args.n // per_context)), desc=f"{args.task} contexts", unit="context"):
        options = Options(args.questions, args.max_length, args.units, positions_of(args, context), count, args.values,
                          tuple(args.needle_depths), args.symbols_per_class)

        def draft(size, context=context, options=options):
            return build(size, tasks_ruler.generator(args.seed, context), source, options).samples()

        def length_of(size, draft=draft):
            try:
                found = draft(size)
            except SourceTooSmall:
                return None
            return encoder.length(max(found, key=question_length))

        if args.units:
            try:
                found = draft(args.units)
            except SourceTooSmall as end:
                fail(f"the source of {args.task} has {end}, not {args.units} units; lower --units or give a larger "
                     "source")
        else:
            found, guess = fill(args, task, draft, length_of, guess, budget, encoder, context)
        for sample in found:
            length = encoder.length(sample)
            if budget is not None and length > budget:
                fail(f"{args.units} units take {length} tokens, over --max_length {args.max_length} less "
                     f"{args.new_tokens} new ones; lower --units")
            samples.append({"index": len(samples), "context": context, **sample, "prompt_tokens": length})
    return samples[:args.n]


def asked(args):
    """What is asked about a context, in words."""
    return (f"{args.questions} question{'s' * (args.questions > 1)} about one context"
            + (f" with gold positions up to {max(args.gold_positions)}" if args.gold_positions else ""))


def fill(args, task, draft, length_of, guess, budget, encoder, context):
    """The samples of a context that fill the budget, and the size that did. Exits with code 2 where none does."""
    least = least_units(args, task) if task.least else 0
    size, length = fit(length_of, least, guess, budget)
    if size is None and length is None:
        fail(f"the source of {args.task} is too small for {asked(args)}")
    if size is None:
        fail(f"--max_length {args.max_length} is too short for {args.task}: its shortest sample takes {length} tokens "
             f"and {args.new_tokens} are for the answer; give at least {length + args.new_tokens}")
    found = draft(size)
    while size > least and max(encoder.length(sample) for sample in found) > budget:
        size -= 1  # another question is longer in tokens than the one that is longest in characters
        found = draft(size)
    bigger = length_of(size + 1 if task.least else 2 * size + 1)
    if bigger is None and length < (1 - SHORTFALL) * budget:
        fail(f"the source of {args.task} is used up at {length + args.new_tokens} of {args.max_length} tokens in "
             f"context {context}; give a larger one, or lower --max_length")
    return found, size
