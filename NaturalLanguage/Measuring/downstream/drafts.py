"""Samples before they have a length: their parts, and how gold units and distractors are put together."""

from typing import NamedTuple

from utils import fail


class SourceTooSmall(Exception):
    """A source has not enough for a sample of this size."""


class Query(NamedTuple):
    """A question about the context of a draft. `gold`: indices of the units that answer it. `query`: what stands before
    the context where the query comes first. `target`: the right answer as it follows the prefix."""
    gold: list
    question: str
    query: str
    prefix: str
    answers: list
    target: str
    extra: dict = {}


class Draft(NamedTuple):
    """The context of one or more samples, and the questions about it. `opening`: what stands right before the units,
    behind a query that comes first."""
    instruction: str
    units: list
    separator: str
    queries: list
    opening: str = ""

    def samples(self):
        """A dictionary for each query, as it is written."""
        return [{"instruction": self.instruction, "opening": self.opening, "units": self.units,
                 "separator": self.separator, "gold": query.gold, "question": query.question, "query": query.query,
                 "prefix": query.prefix, "answers": query.answers, "target": query.target, **query.extra}
                for query in self.queries]


class Options(NamedTuple):
    """What a builder needs beside its size and generator.

    units: the number of units if it is fixed (then there is no length to fill), positions: indices asked for the gold
    units of these queries (None: uniform), count: tokens of a text; values, depths: of two_needles; per_class: symbols
    of a class.
    """
    queries: int
    max_length: int | None
    units: int | None
    positions: list | None
    count: object
    values: int
    depths: tuple
    per_class: int


def arrange(golds, others, options, rng):
    """Units with the gold ones at the positions asked for, or at uniformly random ones: (units, index of each gold)."""
    total = len(golds) + len(others)
    positions = options.positions
    if positions is None:
        positions = rng.choice(total, len(golds), replace=False).tolist()
    elif len(set(positions)) < len(positions):
        fail("--gold_positions puts two questions of one context on the same unit; give as many as --questions, or "
             "a multiple")
    rest, placed = iter(others), dict(zip(positions, golds))
    return [placed[index] if index in placed else next(rest) for index in range(total)], positions


def choose_passages(candidates, size, options):
    """Distractors, in order of preference, that fill `size` tokens or are as many as the fixed number of units asks.

    The first ones are taken at any size, as many as the gold positions need before and between them; then a passage
    that no longer fits is passed over for a shorter one. Raises SourceTooSmall if all of them fill less.
    """
    if options.units:
        wanted = options.units - options.queries
        chosen = [passage for passage, _ in zip(candidates, range(wanted))]
        if len(chosen) < wanted:
            raise SourceTooSmall(f"{len(chosen) + options.queries} passages")
        return chosen
    needed = max(options.positions or [0]) + 1 - options.queries
    chosen, left, misses = [], size, 0
    for passage in candidates:
        tokens = options.count(passage.text)
        if tokens <= left or len(chosen) < needed:
            chosen.append(passage)
            left -= tokens
        else:
            misses += 1
        if misses == 100:
            return chosen
    if not misses:
        raise SourceTooSmall(f"{len(chosen) + options.queries} passages")
    return chosen
