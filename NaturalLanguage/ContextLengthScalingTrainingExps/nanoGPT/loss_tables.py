"""The tables of losses that make_tables.py writes: of the files of one or more sweeps, given without their ending."""

import statistics
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from files import load_tensors, read_table
from paired import crossings, differences, moves, optimum
from readme_tables import markdown
from run import run_tag
from sweep_table import LOSS_COLUMNS, adjusted_means, all_lengths, mean_and_range, read_cells
from utils import fail


def losses(reading, *paths):
    """Mean [lowest, highest] over seeds at each training size and context length; the optimum of a size bold.

    Means are those of sweep_table.adjusted_means, in all tables of losses.
    """
    cells = read_cells(*paths)
    lengths = all_lengths(cells)
    rows = []
    for tokens, by_length in cells.items():
        best, _, means = optimum(by_length, reading)
        row = [f"{tokens:,}"]
        for length in lengths:
            values = [seed[reading] for seed in by_length.get(length, {}).values()]
            unfinished = any(seed["at_last_step"] for seed in by_length.get(length, {}).values())
            row.append(f"{mean_and_range(values, means[length], '**' if length == best else '')}"
                       f"{' (at the last step)' if unfinished else ''}" if values else "")
        rows.append(row)
    return markdown(["training tokens", *map(str, lengths)], rows)


def optima(*paths):
    """The optimum of each training size by both readings, others not significantly worse, the longest's cost."""
    rows = []
    for tokens, by_length in read_cells(*paths).items():
        row = [f"{tokens:,}"]
        for reading in LOSS_COLUMNS:
            best, others, means = optimum(by_length, reading)
            row += [best, "" if others is None else ", ".join(map(str, others)) or "none",
                    f"{means[max(means)] - means[best]:.3f}"]
        rows.append(row)
    return markdown(["training tokens", *(text for name in LOSS_COLUMNS.values() for text in (
        f"optimum, {name}", "not significantly worse", "cost of the longest context"))], rows)


def approximation(reading, *paths):
    """By how much each mean loss exceeds that of one pass over the tokens of the last table, at the same length."""
    *sizes, plentiful = paths
    plentiful_cells = read_cells(plentiful)
    if not sizes or len(plentiful_cells) != 1:
        fail(f"a table approximation names tables of sizes, and then one of a single size, unlike {plentiful}")
    (tokens, best), = plentiful_cells.items()
    cells = read_cells(*sizes)
    floor = {length: statistics.mean(seed[reading] for seed in seeds.values()) for length, seeds in best.items()}
    rows = []
    for size, by_length in cells.items():
        found, _ = adjusted_means(by_length, reading)
        rows.append([f"{size:,}", *(f"{found[length] - below:.3f}" if length in found else ""
                                    for length, below in floor.items())])
    rows.append([f"{tokens:,}, once: the loss", *(f"{loss:.3f}" for loss in floor.values())])
    return markdown(["training tokens", *map(str, floor)], rows)


def compared(reading, *paths):
    """Pairs of context lengths whose order turns with the training size, for every seed (paired.py)."""
    return markdown(["shorter, longer context", "longer minus shorter (nats), small size", "large size",
                     "seeds", "p of the sign tests"],
                    [[f"{shorter}, {longer}", *(f"{row.text()} at {row.tokens:,}" for row in (small, large)),
                      f"{len(small.values)}, {len(large.values)}", f"{small.sign_p:.2g}, {large.sign_p:.2g}"]
                     for shorter, longer, small, large in crossings(read_cells(*paths), reading)])


def pairs(reading, *paths):
    """Each context length against each shorter one, paired by seed, at each training size (paired.py)."""
    cells = read_cells(*paths)
    lengths = all_lengths(cells)
    rows = []
    for shorter, longer in combinations(lengths, 2):
        by_size = {row.tokens: row for row in differences(cells, reading, shorter, longer, least_seeds=2)}
        rows.append([f"{longer} minus {shorter}", *(
            f"{row.text()}, above 0: {(row.values > 0).sum()} of {len(row.values)}"
            if (row := by_size.get(tokens)) else "" for tokens in cells)])
    return markdown(["context lengths", *(f"{tokens:,} training tokens" for tokens in cells)], rows)


def above_the_best(reading, *paths):
    """By how much each length's loss is above that of its size's best one, by seed (paired.py), and for how many seeds.

    The best is chosen from the same losses (paired.optimum), which favours it a little.
    """
    cells = read_cells(*paths)
    lengths, rows = all_lengths(cells), []
    for tokens, by_length in cells.items():
        best, _, _ = optimum(by_length, reading)
        texts = {length: f"{found.text()}, {(found.values > 0).sum()} of {len(found.values)}" for length in by_length
                 for found in differences({tokens: by_length}, reading, best, length, least_seeds=2)}
        texts[best] = "**best**"
        rows.append([f"{tokens:,}", *(texts.get(length, "") for length in lengths)])
    return markdown(["training tokens", *map(str, lengths)], rows)


def moved(reading, *paths):
    """How each pair's difference changes with the training tokens, by seed (paired.py)."""
    cells = read_cells(*paths)
    lengths = all_lengths(cells)
    return markdown(["context lengths", "training tokens", "change of the difference"], [
        [f"{longer} minus {shorter}", f"{smaller:,} to {row.tokens:,}",
         f"{row.text()}, below 0: {(row.values < 0).sum()} of {len(row.values)}"]
        for shorter, longer in combinations(lengths, 2) for smaller, row in moves(cells, reading, shorter, longer)])


def control(*paths):
    """Training and validation loss where the latter was lowest, and at the last step: means over seeds (`losses`).

    A run that is in several tables is that of the last one.
    """
    names = ("training, where validation was lowest", "validation, the lowest", "training, at the last step",
             "validation, at the last step")
    found = defaultdict(lambda: defaultdict(dict))
    for path in paths:
        curves = load_tensors(Path(f"{path}.pt"), "the curves of a sweep")
        column = curves["curve_columns"].index("train_loss")
        for row in read_table(f"{path}.csv"):
            length, tokens, seed = (int(row[name]) for name in ("context_length", "train_tokens", "seed"))
            last = curves["curves"][run_tag(length, tokens, seed)][-1, column].item()
            found[tokens][length][seed] = dict(zip(names, (float(row["best_train_loss"]), float(row["best_valid_loss"]),
                                                           last, float(row["last_valid_loss"]))))
    lengths = sorted({length for by_length in found.values() for length in by_length})
    rows = []
    for tokens, by_length in sorted(found.items()):
        for name in names:
            means, _ = adjusted_means(by_length, name)
            rows.append([f"{tokens:,}", name,
                         *(f"{means[length]:.3f}" if length in means else "" for length in lengths)])
    return markdown(["training tokens", "loss", *map(str, lengths)], rows)


def variants(reading, first, *others):
    """Mean losses, a row a training size and sweep, each with its difference from the first sweep, paired by seed."""
    sweeps = {Path(path).stem.replace("_", " "): read_cells(path) for path in (first, *others)}
    reference = next(iter(sweeps))
    lengths = sorted({length for cells in sweeps.values() for length in all_lengths(cells)})
    rows = []
    for tokens in sweeps[reference]:
        by_length = [{name: cells.get(tokens, {}).get(length, {}) for name, cells in sweeps.items()}
                     for length in lengths]
        for name in sweeps:
            row = [f"{tokens:,}", name]
            for runs_at in by_length:
                values = [seed[reading] for seed in runs_at[name].values()]
                found = differences({tokens: runs_at}, reading, reference, name, 2) if name != reference else []
                row.append((f"{statistics.mean(values):.3f}" if values else "")
                           + "".join(f", {difference.text()}" for difference in found))
            rows.append(row)
    return markdown(["training tokens", "attention", *map(str, lengths)], rows)


def of_sweeps(table, *arguments):
    """A kind of table of one or more sweeps, whose files are given without their ending."""
    return lambda *paths: table(*arguments, *(f"{path}.csv" for path in paths))


TABLES = {**{f"{prefix}{kind}": of_sweeps(table, reading)
             for prefix, reading in (("", "best_valid_loss"), ("full_context_", "full_context_loss"))
             for kind, table in (("losses", losses), ("crossings", compared), ("pairs", pairs), ("moves", moved),
                                 ("variants", variants), ("approximation", approximation),
                                 ("above_the_best", above_the_best))},
          "optima": of_sweeps(optima), "control": control}
