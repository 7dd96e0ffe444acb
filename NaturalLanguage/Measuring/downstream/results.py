"""The answers of runs of evaluate_tasks.py: their columns, their means, and bootstraps over contexts."""

from pathlib import Path

import numpy as np

from files import load_json, read_table
from standard_errors import clustered_error
from utils import fail

# index: of the sample; context: samples with the same one share it; units: of the context; gold_*: of its one gold
# unit; cross_entropy: nats, summed over the target_tokens of the right answer; hits: of them the likeliest token;
# score: the benchmark's
COLUMNS = ("index", "context", "visible_fraction", "visible_tokens", "context_tokens", "units", "gold_index",
           "gold_distance", "gold_visible", "needle", "cross_entropy", "target_tokens", "hits", "score", "parsed_share")
MEASURES = {"score": "score", "cross_entropy": "cross entropy of the answer (nats)",
            "token_cross_entropy": "cross entropy (nats a token)", "accuracy": "right answer is the likeliest"}


def numbers(row, words):
    """A row of a table as floats, None where empty, but for the columns that are words."""
    return {name: value if name in words else (float(value) if value else None) for name, value in row.items()}


def measure(lines, name):
    """A measure of each line (n,): see MEASURES. Exits with code 2 where the answers have none."""
    if name == "accuracy":  # 1 where all tokens of the right answer are the likeliest
        return np.array([float(line["hits"] == line["target_tokens"]) for line in lines])
    if name == "token_cross_entropy":
        return np.array([line["cross_entropy"] / line["target_tokens"] for line in lines])
    if any(line[name] is None for line in lines):
        fail(f"the answers have no {name}: they were made with --no-generate; choose --measure cross_entropy")
    return np.array([line[name] for line in lines], float)


def summarise(lines):
    """A row for each visible fraction: means and standard errors."""
    rows = []
    for fraction in sorted({line["visible_fraction"] for line in lines}):
        mine = [line for line in lines if line["visible_fraction"] == fraction]
        contexts = [line["context"] for line in mine]
        row = {"visible_fraction": fraction, "n": len(mine), "n_contexts": len(set(contexts)),
               "visible_tokens": float(np.mean([line["visible_tokens"] for line in mine])),
               "target_tokens": float(np.mean([line["target_tokens"] for line in mine]))}
        names = [name for name in MEASURES if name != "score" or mine[0]["score"] is not None]
        for name in MEASURES:
            values = measure(mine, name) if name in names else None
            row[name] = None if values is None else float(values.mean())
            row[f"{name}_standard_error"] = None if values is None else clustered_error(values, contexts)
        for name in ("parsed_share", "chance"):
            values = [line[name] for line in mine if line.get(name) is not None]
            row[name] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


class Answers:
    """A finished run: `lines` as dictionaries with the columns of answers.csv, and what was evaluated."""

    def __init__(self, directory):
        self.directory = Path(directory)
        if not (self.directory / "final.json").is_file():
            fail(f"{directory} has no finished run; make one with evaluate_tasks.py")
        about = load_json(self.directory / "args.json", "the arguments of the run")
        self.task, self.comparable = about["task"], about["comparable"]
        self.max_length, self.query_first = about["max_length"], about["request"]["query_first"]
        self.model = Path(about["request"]["model_name"]).name
        self.units, self.values = about.get("units"), about.get("values")
        self.gold_positions = about.get("gold_positions")  # those that samples asked for, None for uniform ones
        rows = read_table(self.directory / "answers.csv", COLUMNS, "evaluate again with --overwrite")
        self.lines = [numbers(row, ("needle",)) for row in rows]
        answered = {(line["visible_fraction"], line["index"]) for line in self.lines}
        summary = load_json(self.directory / "final.json", "the summary of the run").get("summary", [])
        if len(answered) != sum(row["n"] for row in summary):
            fail(f"{self.directory}/answers.csv is cut short or was changed; evaluate again with --overwrite")
        if any(line["cross_entropy"] is None for line in self.lines):
            fail(f"{self.directory}/answers.csv has no whole answers; evaluate again with --overwrite")
        self.fractions = sorted({line["visible_fraction"] for line in self.lines})
        self.chance = (summary or [{}])[-1].get("chance")

    def table(self, name):
        """A measure as an array (visible fractions, samples), and the context of each sample; samples by index."""
        by_index = {}
        for line, value in zip(self.lines, measure(self.lines, name)):
            by_index.setdefault(line["index"], {})[line["visible_fraction"]] = value
            by_index[line["index"]]["context"] = line["context"]
        values = np.array([[found[fraction] for _, found in sorted(by_index.items())] for fraction in self.fractions])
        return values, np.array([found["context"] for _, found in sorted(by_index.items())])

    def table_of(self, column):
        """A column as an array (visible fractions, samples); samples by index."""
        found = {(line["visible_fraction"], line["index"]): line[column] for line in self.lines}
        indices = sorted({line["index"] for line in self.lines})
        return np.array([[found[fraction, index] for index in indices] for fraction in self.fractions])

    def first_lines(self):
        """A line of each sample by index (the one at the smallest fraction), for what does not depend on the
        fraction."""
        found = {}
        for line in self.lines:
            found.setdefault(line["index"], line)
        return [line for _, line in sorted(found.items())]


def resamples(contexts, draws, seed=0):
    """`draws` bootstrap samples of contexts, as weights (n,) of their questions: how often each context was drawn."""
    _, owner = np.unique(contexts, return_inverse=True)
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(owner.max() + 1, size=owner.max() + 1), minlength=owner.max() + 1)[owner]


def bootstrap_interval(values, level=0.95):
    """The middle part of bootstrap values (draws, ...): (low, high)."""
    tail = (1 - level) / 2
    return np.quantile(values, tail, axis=0), np.quantile(values, 1 - tail, axis=0)


def best_index(values, name):
    """Index of the best of values along the first axis: lowest for a cross entropy, else highest; of equals the last,
    so that a smaller context is best only where it is better."""
    values = np.asarray(values)[::-1]
    return len(values) - 1 - (np.argmin(values, axis=0) if "cross_entropy" in name else np.argmax(values, axis=0))
