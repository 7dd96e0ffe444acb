"""Documents that a model can only predict by retrieving from its context: their symbols and how they are drawn.

key_value   k3 v1 k7 v0 ... k7 v0 k3 v1   pairs of a key and a value; then queries, keys again, with their values
variables   k3 = v1 k7 = k3 ... ? k7 v1   chains of assignments, interleaved; then queries: the value of a variable
labels      x31 y4 x7 y0 x33 y4 ...       rounds of one example of each class; the labels are the document's own
gap         k3=v1 k7=v0 . . . . k7 v0 ... definitions of one token, a gap, then queries

In key_value and variables no key is assigned twice in a document, and none is asked for again before all have been. In
labels the classes' symbols are the same in all documents (symbol x is of class x // symbols_per_class), their labels
are drawn anew in each.
"""

from typing import NamedTuple

import numpy as np

END_OF_TEXT, UNKNOWN = "<|endoftext|>", "<unk>"


class Answer(NamedTuple):
    """A token that can be retrieved: its index in the document, the unit that holds it, and what it takes.

    `gold` is the index of the pair or assignment asked for (in labels: of the class's last example), -1 where nothing
    in the context says the answer. `number` is the query's number, from 0; `hops` how many assignments lie between the
    one asked for and a value.
    """
    at: int
    gold: int
    number: int
    hops: int = 0


def gold_weights(n, gold, power):
    """Probability (n,) that each of n units is the first to be asked for.

    "uniform", or "ends": as |2 (i + 1/2) / n - 1|^power, most at both ends and least in the middle.
    """
    centres = np.abs(2 * (np.arange(n) + 0.5) / n - 1)
    weights = np.ones(n) if gold == "uniform" else centres ** power
    if not weights.any():  # a single unit
        weights = np.ones(n)
    return weights / weights.sum()


def draw_queries(n, n_queries, args, rng):
    """Units (n_queries,) that are asked for: drawn without replacement, again and again where they are fewer.

    The order of exponential times, each divided by its unit's weight, is one of draws without replacement; a unit of
    weight 0, the middle of an odd number, comes last.
    """
    weights = np.maximum(gold_weights(n, args.gold, args.ends_power), 1e-30)
    rounds = [np.argsort(rng.exponential(size=n) / weights)[:n_queries - first] for first in range(0, n_queries, n)]
    return np.concatenate(rounds)


class KeyValue:
    """Documents of pairs and queries; token ids: end of text, unknown, keys, values."""

    def __init__(self, args):
        self.args = args
        self.symbols = [END_OF_TEXT, UNKNOWN, *(f"k{i}" for i in range(args.n_keys)),
                        *(f"v{i}" for i in range(args.n_values))]
        self.first_value = 2 + args.n_keys

    def length(self, n):
        """Tokens of a document of n pairs, its end of text included."""
        return 2 * (n + self.args.n_queries) + 1

    def draw(self, n, rng, n_queries=None):
        """A document of n pairs: list of token ids without the end of text, and its Answers."""
        args = self.args
        keys = 2 + rng.permutation(args.n_keys)[:n]
        values = self.first_value + rng.integers(args.n_values, size=n)
        order = draw_queries(n, n_queries or args.n_queries, args, rng)
        pairs = np.stack((keys, values), axis=1)
        ids = np.concatenate((pairs, pairs[order])).ravel()
        return ids.tolist(), [Answer(2 * (n + number) + 1, gold, number) for number, gold in enumerate(order.tolist())]


class Variables:
    """Documents of chains of assignments and queries; token ids: end of text, unknown, "=", "?", keys, values."""

    def __init__(self, args):
        self.args = args
        self.symbols = [END_OF_TEXT, UNKNOWN, "=", "?", *(f"k{i}" for i in range(args.n_keys)),
                        *(f"v{i}" for i in range(args.n_values))]
        self.equals, self.question, self.first_value = 2, 3, 4 + args.n_keys

    def length(self, n):
        """Tokens of a document of n assignments, its end of text included."""
        return 3 * (n + self.args.n_queries) + 1

    def draw(self, n, rng, n_queries=None):
        """A document of n assignments: list of token ids without the end of text, and its Answers.

        With probability max_hops / (max_hops + 1) an assignment goes on with a random chain of fewer hops, if there is
        one, else it begins a chain with a value: a full chain has max_hops + 1 assignments.
        """
        args = self.args
        keys = (4 + rng.permutation(args.n_keys)[:n]).tolist()
        hops, values, ids, tails = [], [], [], []  # tails: the last assignments of chains that can go on
        for unit in range(n):
            if tails and rng.random() < args.max_hops / (args.max_hops + 1):
                before = tails.pop(rng.integers(len(tails)))
                hops.append(hops[before] + 1)
                values.append(values[before])
                source = keys[before]
            else:
                hops.append(0)
                values.append(self.first_value + int(rng.integers(args.n_values)))
                source = values[-1]
            ids += [keys[unit], self.equals, source]
            if hops[unit] < args.max_hops:
                tails.append(unit)
        order = draw_queries(n, n_queries or args.n_queries, args, rng)
        answers = []
        for number, gold in enumerate(order.tolist()):
            ids += [self.question, keys[gold], values[gold]]
            answers.append(Answer(len(ids) - 1, gold, number, hops[gold]))
        return ids, answers


class Labels:
    """Documents of labelled examples; token ids: end of text, unknown, symbols of the classes, labels."""

    def __init__(self, args):
        self.args = args
        self.symbols = [END_OF_TEXT, UNKNOWN, *(f"x{i}" for i in range(args.n_classes * args.symbols_per_class)),
                        *(f"y{i}" for i in range(args.n_labels))]
        self.first_label = 2 + args.n_classes * args.symbols_per_class

    def length(self, n):
        """Tokens of a document of n rounds, its end of text included."""
        return 2 * n * self.args.n_classes + 1

    def draw(self, n, rng, n_queries=None):
        """A document of n rounds: list of token ids without the end of text, and its Answers, one an example.

        A round holds each class once, in random order. Labels are drawn without replacement, a new map each document.
        """
        args = self.args
        labels = self.first_label + rng.permutation(args.n_labels)[:args.n_classes]
        ids, answers, last = [], [], {}
        rounds = np.concatenate([rng.permutation(args.n_classes) for _ in range(n)])
        for unit, number in enumerate(rounds.tolist()):  # of the class
            symbol = number * args.symbols_per_class + int(rng.integers(args.symbols_per_class))
            ids += [2 + symbol, int(labels[number])]
            answers.append(Answer(len(ids) - 1, last.get(number, -1), unit))
            last[number] = unit
        return ids, answers


class Gap(KeyValue):
    """Documents of definitions, a gap of n tokens "." and queries; token ids: end of text, unknown, ".", keys, values,
    definitions.

    A definition is one token, key and value in one, so that finding it takes a single attention; it stands n tokens
    before the queries. A document for training has 2 to n_pairs of them, and asks for them again and again; one for
    tests (n_queries given) has n_pairs, each asked for once.
    """

    def __init__(self, args):
        self.args = args
        keys, values = ([f"{kind}{i}" for i in range(n)] for kind, n in (("k", args.n_keys), ("v", args.n_values)))
        self.symbols = [END_OF_TEXT, UNKNOWN, ".", *keys, *values,
                        *(f"{key}={value}" for key in keys for value in values)]
        self.first_value = 3 + args.n_keys

    def length(self, n):
        """Tokens of a document with a gap of n and the mean number of definitions, its end of text included."""
        return n + 1 + self.args.n_pairs // 2 + 2 * self.args.n_queries + 1

    def draw(self, n, rng, n_queries=None):
        """A document with a gap of n: list of token ids without the end of text, and its Answers."""
        args = self.args
        n_pairs = args.n_pairs if n_queries else int(rng.integers(min(2, args.n_pairs), args.n_pairs + 1))
        keys, values = rng.permutation(args.n_keys)[:n_pairs], rng.integers(args.n_values, size=n_pairs)
        definitions = self.first_value + args.n_values + keys * args.n_values + values
        order = draw_queries(n_pairs, n_pairs if n_queries else args.n_queries, args, rng)
        queries = np.stack((3 + keys, self.first_value + values), axis=1)[order]
        ids = [*definitions.tolist(), *[2] * n, *queries.ravel().tolist()]
        return ids, [Answer(n_pairs + n + 2 * number + 1, gold, number) for number, gold in enumerate(order.tolist())]


TASKS = {"key_value": KeyValue, "variables": Variables, "labels": Labels, "gap": Gap}


def stream(task, args, rng, n_tokens):
    """Documents (ids without the end of text, answers) until they have n_tokens, ends of text included.

    The number of units is log-uniform, counted in tokens. args.order "growing": it grows along the stream; "mixed":
    every stretch of the stream holds all numbers (document i has the quantile i times the golden ratio, modulo 1).
    """
    sizes = np.arange(args.min_units, args.max_units + 1)
    tokens = np.log1p(1 / sizes)  # the share of the tokens that documents of each size have
    documents = tokens / [task.length(int(n)) for n in sizes]
    shares = np.cumsum(tokens if args.order == "growing" else documents)
    written = number = 0
    while written < n_tokens:
        quantile = written / n_tokens if args.order == "growing" else number * 0.6180339887498949 % 1
        size = sizes[np.searchsorted(shares[:-1], quantile * shares[-1], side="right")]
        document = task.draw(int(size), rng)
        written += len(document[0]) + 1
        number += 1
        yield document
