"""Tables of what long contexts cost and what they gave, for make_tables.py: each takes the rows of a file."""

from collections import defaultdict

from exponents import fit_exponent
from sweep_table import mean_and_range


def pivot(rows, of_row, of_column):
    """Header and rows of means over seeds, by two functions that give the names of a row's line and column."""
    cells = defaultdict(list)
    for row in rows:
        cells[of_row(row), of_column(row)].append(row["value"])
    lines, columns = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 1))
    return columns, [[*line, *(mean_and_range(cells[line, column]) if (line, column) in cells else ""
                               for column in columns)] for line in lines]


def attention_time(rows):
    """Seconds of both passes at each length, how many times faster than full, and the exponents of time and memory."""
    lengths = sorted({int(row["context_length"]) for row in rows})
    cells = {(row["attention"], int(row["context_length"])): row for row in rows}
    lines = []
    for kind in dict.fromkeys(row["attention"] for row in rows):
        mine = [cells[kind, length] for length in lengths if (kind, length) in cells]
        at = [int(row["context_length"]) for row in mine]
        seconds, megabytes = ([float(row[name]) for row in mine] for name in ("seconds", "peak_megabytes"))
        parts = []
        for length in lengths:
            row, full = cells.get((kind, length)), cells.get(("full", length))
            faster = (f" ({float(full['seconds']) / float(row['seconds']):.1f} times as fast)"
                      if row and full and kind != "full" else "")
            parts.append(f"{float(row['seconds']):.3g} s{faster}" if row else "")
        lines.append([kind.replace("_", " "), *parts, fit_exponent(at, seconds), f"{megabytes[-1]:.0f} MB",
                      fit_exponent(at, megabytes)])
    return ["attention", *(f"{length:,} tokens" for length in lengths), "exponent of time",
            f"memory at {lengths[-1]:,}", "exponent of memory"], lines


def memory_recall(rows):
    """Accuracy by the gap between definitions and queries, and by the tokens of the memory."""
    columns, lines = pivot(rows, lambda row: (f"{int(row['units']):,}",), lambda row: f"{int(row['memory_tokens']):,}")
    return ["tokens back", *(f"memory of {column}" for column in columns)], lines


def losses_by_memory(rows):
    """The rows of a loss with a memory and, of runs without one, at the length that they were trained with."""
    return [row for row in rows
            if row["measure"] == "loss" and (row["memory_tokens"] or row["length"] == row["trained_length"])]


def memory_loss(rows):
    """Loss on a text by the tokens of the memory; of runs without one at the length that they were trained with."""
    columns, lines = pivot(losses_by_memory(rows), lambda row: (row["variant"],), lambda row: (
        f"memory of {int(row['memory_tokens']):,}" if row["memory_tokens"] else "window alone"))
    return ["run", *columns], lines


def long_measures(rows):
    """Losses and recall of each variant and kind of positions, at each length."""
    columns, lines = pivot(rows, lambda row: (row["variant"], row["rope_type"]), lambda row: (
        f"{'loss, ' + row['of'] if row['measure'] == 'loss' else 'recall'}, {int(row['length']):,} tokens"))
    return ["run", "positions", *columns], lines


def preset_steps(rows):
    """Minutes that each step of the preset took by the clock, and all of them."""
    (cores, hardware), = {(row["cores"], row["hardware"]) for row in rows}
    minutes = {row["step"]: float(row["seconds"]) / 60 for row in rows}
    minutes["all"] = sum(minutes.values())
    return ["hardware", *minutes], [[f"{cores} core of {hardware}", *(f"{value:.1f}" for value in minutes.values())]]


def published(rows):
    """What others have published of large models, as it stands in the file."""
    return list(rows[0]), [list(row.values()) for row in rows]


TABLES = {"attention_time": attention_time, "memory_recall": memory_recall, "memory_loss": memory_loss,
          "long_measures": long_measures, "preset_steps": preset_steps, "published": published}
