"""Tasks in bare symbols of a tokenizer, for small models trained on nothing else (the training part's data/retrieval).

    kv_retrieval, two_needles   k3 v1 k7 v0 ... k7          the value of a key
    ruler_vt                    k3 = v1 k7 = k3 ... ? k7    the value behind a chain of up to HOPS assignments
    helmet_icl                  x31 y4 x7 y0 ... x7         the label of a class, symbols per class in a row being one

source.items are the tokenizer's (keys, values): all words that match --keys and --values_pattern.
"""

from downstream.drafts import Draft, Query, SourceTooSmall, arrange
from downstream.tasks_ruler import HOPS
from utils import fail


def distinct_keys(size, rng, source, options):
    """`size` distinct keys in random order."""
    keys = source.items[0]
    if size > len(keys):
        raise SourceTooSmall(f"{len(keys)} keys")
    return [keys[index] for index in rng.permutation(len(keys))[:size].tolist()]


def pairs(size, rng, source, options):
    """Keys with values, then a key. size: pairs."""
    keys, values = distinct_keys(size, rng, source, options), source.items[1]
    drawn = [(key, values[index]) for key, index in zip(keys, rng.integers(len(values), size=size).tolist())]
    units, golds = arrange(drawn[:options.queries], drawn[options.queries:], options, rng)
    queries = [Query([gold], f" {key}", f"{key} ", "", [value], f" {value}")
               for gold, (key, value) in zip(golds, drawn)]
    return Draft("", [f"{key} {value}" for key, value in units], " ", queries)


def two_needles(size, rng, source, options):
    """Two of the pairs as needles: A at the first depth, B at the second, or A just before B where both depths are
    those of one pair. size: pairs."""
    first, second = (int(depth * size) for depth in options.depths)
    second = min(max(second, 1), size - 1)
    draft = pairs(size, rng, source, options._replace(queries=2, positions=[min(first, second - 1), second]))
    queries = [query._replace(extra={"needle": needle}) for needle, query in zip("AB", draft.queries)]
    return draft._replace(queries=queries)


def variables(size, rng, source, options):
    """Interleaved chains of assignments; with probability HOPS / (HOPS + 1) one goes on with an older chain.

    The gold units are all those of the chain up to the variable asked for. size: assignments.
    """
    keys, values = distinct_keys(size, rng, source, options), source.items[1]
    chains, ends, units = [], [], []  # of each assignment: the units of its chain, its value; the text
    tails = []  # assignments that a chain can go on from
    for unit, key in enumerate(keys):
        if tails and rng.random() < HOPS / (HOPS + 1):
            before = tails.pop(int(rng.integers(len(tails))))
            chains.append([*chains[before], unit])
            ends.append(ends[before])
            units.append(f"{key} = {keys[before]}")
        else:
            chains.append([unit])
            ends.append(values[int(rng.integers(len(values)))])
            units.append(f"{key} = {ends[-1]}")
        tails += [unit] if len(chains[-1]) <= HOPS else []
    asked = rng.choice(size, options.queries, replace=False).tolist()
    queries = [Query(chains[unit], f" ? {keys[unit]}", f"? {keys[unit]} ", "", [ends[unit]], f" {ends[unit]}")
               for unit in asked]
    return Draft("", units, " ", queries)


def labels(size, rng, source, options):
    """Examples in rounds that hold every class once, the last one cut, with labels drawn anew. size: examples."""
    keys, names = source.items
    classes = [keys[first:first + options.per_class] for first in range(0, len(keys), options.per_class)]
    if len(names) < len(classes):
        fail(f"{len(names)} labels for {len(classes)} classes of {options.per_class} keys; raise --symbols_per_class")
    label = [names[index] for index in rng.permutation(len(names))[:len(classes)].tolist()]
    shown = []
    while len(shown) < size:
        shown += rng.permutation(len(classes)).tolist()
    shown = shown[:size]

    def symbol(number):
        return classes[number][int(rng.integers(len(classes[number])))]

    units = [f"{symbol(number)} {label[number]}" for number in shown]
    queries = []
    for number in rng.choice(sorted(set(shown)), options.queries).tolist():
        key, gold = symbol(number), [index for index, other in enumerate(shown) if other == number]
        queries.append(Query(gold, f" {key}", f"{key} ", "", [label[number]], f" {label[number]}"))
    return Draft("", units, " ", queries)
