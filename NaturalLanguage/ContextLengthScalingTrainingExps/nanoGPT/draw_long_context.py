"""Draw what evaluate_long_context.py measured: recall with a memory, positions beyond the trained length, mixes.

    python draw_long_context.py --memory results/long_context/memory.csv \\
        --positions results/long_context/positions.csv --mixes results/long_context/mixes.csv

Each table may be left out. Writes as PDF and PNG: long_context_memory (accuracy against the remembered tokens, a line
for each distance of the definitions), long_context_memory_text (loss against them, a line for each variant; a variant
without a memory is a point at 0), long_context_positions (loss and recall against the length over that of
training, as trained and after fine-tuning) and long_context_mixes (loss on each text and recall against the share of
long text, which ends a variant's name: long_0.6). A dot is a seed, a line the mean. Prints the means with their
ranges.
"""

from utils import Parser, fail, run_main

import numpy as np

from files import read_table
from long_context_tables import losses_by_memory
from plotting import colours, plt, save_figure, set_ticks, tokens_label

COLUMNS = ("variant", "seed", "trained_length", "rope_type", "length", "memory_tokens", "units", "measure", "of",
           "value")
COLOURS = {"none": "black", "linear": "tab:blue", "ntk": "tab:orange", "dynamic": "tab:green", "yarn": "tab:red"}
LABELS = {"loss": "loss (nats)", "accuracy": "accuracy of recall"}


def read_cells(path, *by, choose=list):
    """{values of the columns `by`: array over seeds} of the rows that `choose` leaves of a table, in their order."""
    cells = {}
    for row in choose(read_table(path, COLUMNS, "make it again with evaluate_long_context.py")):
        cells.setdefault(tuple(row[name] for name in by), []).append(float(row["value"]))
    return {cell: np.array(values) for cell, values in cells.items()}


def line(axis, points, label, **style):
    """A line through the means of [(x, values)], the values as dots. Prints them."""
    points = sorted(points, key=lambda point: point[0])
    axis.plot([x for x, _ in points], [values.mean() for _, values in points], label=label, **style)
    for x, values in points:
        axis.plot([x] * len(values), values, ".", color=style["color"], markersize=4)
        print(f"{label}, {x:g}: {values.mean():.4f} [{values.min():.4f}, {values.max():.4f}] over {len(values)} seeds")


def draw_memory(path):
    """Accuracy against the tokens of the memory, a line for each gap between definitions and queries."""
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    cells = read_cells(path, "units", "memory_tokens")
    distances = sorted({int(units) for units, _ in cells})
    for units, colour in colours(distances).items():
        points = [(int(tokens), values) for (unit, tokens), values in cells.items() if int(unit) == units]
        line(axis, points, f"{units} tokens back", color=colour)
    scale_memory(axis, {int(tokens) for _, tokens in cells})
    axis.set(ylabel=LABELS["accuracy"], ylim=(-0.03, 1.03))
    axis.legend(fontsize=7)
    return figure


def scale_memory(axis, sizes):
    """An axis of remembered tokens, logarithmic but for 0."""
    axis.set_xscale("symlog", linthresh=min((tokens for tokens in sizes if tokens > 0), default=1))
    axis.set_xlabel("remembered tokens")
    ticks = [0]
    for tokens in sorted(sizes):
        ticks += [tokens] if tokens >= 1.5 * ticks[-1] and tokens else []
    set_ticks(axis.xaxis, ticks)


def draw_memory_text(path):
    """Loss on text against the tokens of the memory; of a variant without one at the length it was trained with."""
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    cells = read_cells(path, "variant", "memory_tokens", "length", choose=losses_by_memory)
    variants = list(dict.fromkeys(cell[0] for cell in cells))
    for variant, colour in colours(variants).items():
        points = [(int(cell[1] or 0), values) for cell, values in cells.items() if cell[0] == variant]
        line(axis, points, variant.replace("_", " "), color=colour, marker="o", markersize=3)
    scale_memory(axis, {int(cell[1] or 0) for cell in cells})
    axis.set_ylabel(LABELS["loss"])
    axis.legend(fontsize=7)
    return figure


def draw_positions(path):
    """Loss and recall against length / trained length, solid as trained, dashed after fine-tuning."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    cells = read_cells(path, "measure", "variant", "rope_type", "length", "trained_length")
    shortest = min(int(cell[-1]) for cell in cells)
    for axis, measure in zip(axes, LABELS):
        for variant, kind in dict.fromkeys(cell[1:3] for cell in cells if cell[0] == measure):
            points = [(int(cell[3]) / shortest, values) for cell, values in cells.items()
                      if cell[:3] == (measure, variant, kind)]
            tuned = any(int(cell[-1]) > shortest for cell in cells if cell[1] == variant)
            line(axis, points, f"{kind}, tuned" if tuned else kind, color=COLOURS[kind],
                 linestyle="--" if tuned else "-")
        axis.set(xlabel="length / trained length", ylabel=LABELS[measure], xscale="log")
        set_ticks(axis.xaxis, sorted({int(cell[3]) / shortest for cell in cells}), lambda x: f"{x:g}")
    axes[1].set_ylim(-0.03, 1.03)
    axes[1].legend(fontsize=6.5, loc="lower left")
    figure.tight_layout()
    return figure


def draw_mixes(path):
    """Loss on each text, and recall by the length of the document, against the share of long text."""
    cells = read_cells(path, "measure", "of", "length", "variant")
    texts = list(dict.fromkeys(cell[1] for cell in cells if cell[0] == "loss"))
    figure, axes = plt.subplots(1, len(texts) + 1, figsize=(3.1 * (len(texts) + 1), 3))
    for axis, name in zip(axes, [*texts, None]):
        measure = "loss" if name else "accuracy"
        chosen = {cell: values for cell, values in cells.items() if cell[0] == measure and name in (None, cell[1])}
        lengths = sorted({int(cell[2]) for cell in chosen})
        for length, colour in colours(lengths).items():
            points = [(float(cell[3].rpartition("_")[2]), values) for cell, values in chosen.items()
                      if int(cell[2]) == length]
            line(axis, points, f"{tokens_label(length)} tokens", color=colour)
        axis.set(title=f"on {name} text" if name else "recall", xlabel="share of long text", ylabel=LABELS[measure])
        axis.legend(fontsize=7)
    figure.tight_layout()
    return figure


DRAWN = {"memory": draw_memory, "memory_text": draw_memory_text, "positions": draw_positions, "mixes": draw_mixes}


def main():
    parser = Parser(__doc__)
    for name in DRAWN:
        parser.add_argument(f"--{name}", metavar="CSV", help=f"table of evaluate_long_context.py for the {name} figure")
    parser.add_argument("--out_dir", default="outputs/long_context/figures", help="directory for the figures")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in DRAWN if getattr(args, name)}
    if not given:
        fail("there is nothing to draw; give --memory, --memory_text, --positions or --mixes")
    for name, path in given.items():
        save_figure(DRAWN[name](path), args.out_dir, f"long_context_{name}")


if __name__ == "__main__":
    run_main(main)
