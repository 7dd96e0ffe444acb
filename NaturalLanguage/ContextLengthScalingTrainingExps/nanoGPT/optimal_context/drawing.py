"""The three panels of the figure: the parts of the loss at one size, the losses of all sizes, the optimum's growth."""

import numpy as np

from optimal_context.report import shown_optimum
from plotting import OPTIMUM, colours, plt, save_figure, set_ticks, tokens_label

PARTS = {"total": {"color": "black"}, "Bayes risk": {"color": "tab:blue", "linestyle": "--"},
         "approximation loss": {"color": "tab:red", "linestyle": ":"}}
POINTS = {"measured": {"marker": "_", "markersize": 12, "color": "black"},
          "held out": {"marker": "o", "markersize": 7, "color": "tab:orange", "markerfacecolor": "none"},
          "from the smaller half": {"marker": "s", "markersize": 5, "color": "tab:green", "markerfacecolor": "none"},
          "predicted": {"marker": "D", "markersize": 5, "color": "tab:purple"}}


def cells_of(found, size):
    """The lengths and mean losses of a size, and its cells."""
    cells = [cell for cell in found["cells"] if cell["train_tokens"] == size]
    return [cell["context_length"] for cell in cells], [cell["loss"] for cell in cells], cells


def mark_optimum(axis, row, colour, **style):
    """A star at an optimum that is known to lie inside the lengths."""
    if row["optimum"]["value"] is not None and row["loss"]["value"] is not None:
        axis.plot(row["optimum"]["value"], row["loss"]["value"], color=colour, **OPTIMUM, **style)


def draw_parts(axis, found, size):
    """The two parts and the whole at one training size, with the measured means."""
    curve = next(curve for curve in found["curves"] if curve["train_tokens"] == size)
    length, bayes, loss = (np.array(curve[name]) for name in ("context_length", "bayes_risk", "loss"))
    for label, values in zip(PARTS, (loss, bayes, loss - bayes)):
        axis.plot(length, values, label=label, **PARTS[label])
    lengths, losses, cells = cells_of(found, size)
    axis.errorbar(lengths, losses, fmt=".", color="black", label="measured",
                  yerr=[cell["standard_deviation"] or 0 for cell in cells])
    mark_optimum(axis, next(row for row in found["optima"] if row["train_tokens"] == size), "gold", label="optimum")
    unknown = " (parts not told apart)" if min(cell["bayes_risk"] for cell in cells) < 0 else ""
    axis.set(title=f"training size {tokens_label(size)}{unknown}", ylabel="cross entropy (nats)")
    axis.legend(fontsize=7)


def draw_curves(axis, found, colour):
    """The fitted losses of all sizes with their bands, measured means and optima."""
    for curve, row in zip(found["curves"], found["optima"]):
        size = curve["train_tokens"]
        axis.plot(curve["context_length"], curve["loss"], color=colour[size], label=tokens_label(size))
        axis.fill_between(curve["context_length"], curve["low"], curve["high"], color=colour[size], alpha=0.2)
        axis.plot(*cells_of(found, size)[:2], ".", color=colour[size])
        mark_optimum(axis, row, colour[size])
    losses = [cell["loss"] for cell in found["cells"]]
    axis.set(title="all training sizes" + ("" if found["trusted"] else " (not trusted)"), ylabel="cross entropy (nats)",
             ylim=(min(losses) - 0.06 * np.ptp(losses), max(losses) + 0.06 * np.ptp(losses)))
    axis.legend(fontsize=7, title="training size", title_fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def draw_range(axis, row, ends, style, label):
    """The interval of an optimum, with an arrow where it is open, and its value; hollow: only the law's estimate."""
    entry, size = row["optimum"], row["train_tokens"]
    low, high = (ends[index] if entry[name] is None else entry[name] for index, name in enumerate(("low", "high")))
    axis.plot([size] * 2, [low, high], color=style["color"], linewidth=4, alpha=0.35)
    if entry["bound"]:
        open_end = "^" if entry["bound"] == "at least" else "v"
        axis.plot(size, high if open_end == "^" else low, marker=open_end, markersize=7, color=style["color"])
    if entry["value"] is not None:
        axis.plot(size, entry["value"], label=label, **style)
    elif entry["estimate"]:
        axis.plot(size, entry["estimate"], **{**style, "markerfacecolor": "none"})


def draw_growth(axis, found, colour):
    """The optimum against the training size: fitted, measured, held out, predicted. Prints them."""
    rows, half = found["candidates"][found["law"]] or [], found.get("check", {}).get("larger_half")
    held_out = {row["train_tokens"]: row for row in rows}
    larger = {row["train_tokens"]: row for row in half["rows"].get(found["law"], [])} if half else {}
    lengths = [cell["context_length"] for cell in found["cells"]]
    for kind, label in (("optima", "fitted"), ("predictions", "predicted")):
        for index, row in enumerate(found[kind]):
            size = row["train_tokens"]
            style = {"color": colour[size], **OPTIMUM} if kind == "optima" else {"linestyle": "", **POINTS[label]}
            draw_range(axis, row, (min(lengths), max(lengths)), style, None if index else label)
            print(f"D = {size:g}: l* {shown_optimum(row['optimum'])}{'' if row['trusted'] else ', not trusted'}"
                  + (f", measured {held_out[size]['measured_optimum']:g}, held out {held_out[size]['optimum']:.4g}"
                     if size in held_out else "")
                  + (f", from the smaller half {larger[size]['optimum']:.4g}" if size in larger else ""))
    series = {"measured": {size: row["measured_optimum"] for size, row in held_out.items()},
              "held out": {size: row["optimum"] for size, row in held_out.items()},
              "from the smaller half": {size: row["optimum"] for size, row in larger.items()}}
    for label, points in series.items():
        inside = {size: best for size, best in points.items() if min(lengths) <= best <= max(lengths)}
        if inside:
            axis.plot(list(inside), list(inside.values()), linestyle="", label=label, **POINTS[label])
    title = "optimal context length"
    if found["exponent"]:
        power = found["exponent"]
        print(f"l* ~ D^{power['value']:.4g} [{power['low']:.4g}, {power['high']:.4g}]")
        title += f" ~ D^{power['value']:.2f} [{power['low']:.2f}, {power['high']:.2f}]"
    axis.set(title=title, xlabel="training size", xscale="log", yscale="log")
    set_ticks(axis.xaxis, [row["train_tokens"] for row in found["optima"] + found["predictions"]], tokens_label)
    axis.tick_params(axis="x", labelrotation=45)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)


def draw(found, size, out_dir):
    """The figure of a fit, with the parts of the loss at one of its sizes, as PDF and PNG."""
    sizes = [curve["train_tokens"] for curve in found["curves"]]
    colour = colours(sizes)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    draw_parts(axes[0], found, size)
    draw_curves(axes[1], found, colour)
    draw_growth(axes[2], found, colour)
    lengths = sorted({cell["context_length"] for cell in found["cells"]})
    for axis in axes[:2]:
        axis.set(xlabel="context length", xscale="log")
        set_ticks(axis.xaxis, lengths)
        axis.tick_params(axis="x", labelrotation=45)
    set_ticks(axes[2].yaxis, lengths)
    figure.tight_layout()
    save_figure(figure, out_dir, "optimal_context")
