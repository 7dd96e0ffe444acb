"""Draw the parts of the loss (Fig. 1 left, with fitted numbers) and the growth of the optimal context length with data.

    python draw_optimal_context.py --fit outputs/optimal_context.json --out_dir outputs/figures

Reads the JSON of fit_optimal_context.py. Writes optimal_context as PDF and PNG: the parts of the loss at one training
size (the middle one, or --train_tokens); the losses of all sizes (dots: means over seeds) with the fitted curves and
their 95% bands; the optimum against the training size, measured on the grid, fitted with its interval, predicted, and
held out: what the kept law says of a size that it was not fitted to, and what the law that is fitted to the smaller
half of the sizes says of the larger ones (--check of fit_optimal_context.py). Prints every number of the last panel.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from utils import Parser, fail, load_json, number  # noqa: E402
from draw_loss_vs_context import OPTIMUM, save_figure, set_ticks, tokens_label  # noqa: E402

PARTS = {"total": {"color": "black"}, "Bayes risk": {"color": "tab:blue", "linestyle": "--"},
         "approximation loss": {"color": "tab:red", "linestyle": ":"}}
POINTS = {"measured": {"marker": "_", "markersize": 12, "color": "black"},
          "held out": {"marker": "o", "markersize": 7, "color": "tab:orange", "markerfacecolor": "none"},
          "from the smaller half": {"marker": "s", "markersize": 5, "color": "tab:green", "markerfacecolor": "none"},
          "predicted": {"marker": "D", "markersize": 5, "color": "tab:purple"}}


def draw_parts(axis, found, size):
    """The two parts and the whole at one training size, with the measured means."""
    curve = next(one for one in found["curves"] if one["train_tokens"] == size)
    length, bayes, loss = (np.array(curve[name]) for name in ("context_length", "bayes_risk", "loss"))
    for label, values in zip(PARTS, (loss, bayes, loss - bayes)):
        axis.plot(length, values, label=label, **PARTS[label])
    cells = [cell for cell in found["cells"] if cell["train_tokens"] == size]
    axis.errorbar([cell["context_length"] for cell in cells], [cell["loss"] for cell in cells], fmt=".", color="black",
                  yerr=[cell["standard_deviation"] or 0 for cell in cells], label="measured")
    best = next(row for row in found["optima"] if row["train_tokens"] == size)
    axis.plot(best["optimum"]["value"], best["loss"]["value"], color="gold", label="optimum", **OPTIMUM)
    unknown = " (parts not told apart)" if min(cell["bayes_risk"] for cell in cells) < 0 else ""
    axis.set(title=f"training size {tokens_label(size)}{unknown}", ylabel="cross entropy (nats)")
    axis.legend(fontsize=7)


def draw_curves(axis, found, colour):
    """The fitted losses of all sizes with their bands, measured means and optima."""
    for curve, best in zip(found["curves"], found["optima"]):
        size = curve["train_tokens"]
        axis.plot(curve["context_length"], curve["loss"], color=colour[size], label=tokens_label(size))
        axis.fill_between(curve["context_length"], curve["low"], curve["high"], color=colour[size], alpha=0.2)
        cells = [cell for cell in found["cells"] if cell["train_tokens"] == size]
        axis.plot([cell["context_length"] for cell in cells], [cell["loss"] for cell in cells], ".", color=colour[size])
        axis.plot(best["optimum"]["value"], best["loss"]["value"], color=colour[size], **OPTIMUM)
    losses = [cell["loss"] for cell in found["cells"]]
    axis.set(title="all training sizes", ylabel="cross entropy (nats)",
             ylim=(min(losses) - 0.06 * np.ptp(losses), max(losses) + 0.06 * np.ptp(losses)))
    axis.legend(fontsize=7, title="training size", title_fontsize=7)


def draw_growth(axis, found, colour):
    """The optimum against the training size: fitted, measured, held out, predicted. Prints them."""
    kept, half = found["candidates"][found["law"]] or [], found.get("check", {}).get("larger_half")
    held = {row["train_tokens"]: row for row in kept}
    larger = {row["train_tokens"]: row for row in half["rows"].get(found["law"], [])} if half else {}
    for kind, label in (("optima", "fitted"), ("predictions", "predicted")):
        for place, row in enumerate(found[kind]):
            size, best = row["train_tokens"], row["optimum"]
            style = {"color": colour[size], **OPTIMUM} if kind == "optima" else {"linestyle": "", **POINTS[label]}
            axis.plot([size] * 2, [best["low"], best["high"]], color=style["color"], linewidth=4, alpha=0.35)
            axis.plot(size, best["value"], label=None if place else label, **style)
            print(f"D = {size:g}: l* {best['value']:.4g} [{best['low']:.4g}, {best['high']:.4g}]"
                  + (f", measured {held[size]['measured_optimum']:g}, held out {held[size]['optimum']:.4g}"
                     if size in held else "")
                  + (f", from the smaller half {larger[size]['optimum']:.4g}" if size in larger else ""))
    series = {"measured": {size: row["measured_optimum"] for size, row in held.items()},
              "held out": {size: row["optimum"] for size, row in held.items()},
              "from the smaller half": {size: row["optimum"] for size, row in larger.items()}}
    for label, points in series.items():
        if points:
            axis.plot(list(points), list(points.values()), linestyle="", label=label, **POINTS[label])
    title = "optimal context length"
    if found["exponent"]:
        power = found["exponent"]
        print(f"l* ~ D^{power['value']:.4g} [{power['low']:.4g}, {power['high']:.4g}]")
        title += f" ~ D^{power['value']:.2f} [{power['low']:.2f}, {power['high']:.2f}]"
    axis.set(title=title, xlabel="training size", xscale="log", yscale="log")
    set_ticks(axis.xaxis, [row["train_tokens"] for row in found["optima"] + found["predictions"]], tokens_label)
    axis.tick_params(axis="x", labelrotation=45)
    axis.legend(fontsize=7)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--fit", default="outputs/optimal_context.json", help="JSON of fit_optimal_context.py")
    parser.add_argument("--train_tokens", type=number(float, 1), help="size whose parts are drawn; default: the middle")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    found = load_json(args.fit, "the fit")
    if not isinstance(found, dict) or "curves" not in found:
        fail(f"{args.fit} is no fit of fit_optimal_context.py")
    sizes = [curve["train_tokens"] for curve in found["curves"]]
    size = args.train_tokens or sizes[len(sizes) // 2]
    if size not in sizes:
        fail(f"the fit has no training size {size:g}; it has {', '.join(f'{one:g}' for one in sizes)}")
    colour = {one: plt.cm.viridis(0.9 * place / max(len(sizes) - 1, 1)) for place, one in enumerate(sizes)}
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    draw_parts(axes[0], found, size)
    draw_curves(axes[1], found, colour)
    draw_growth(axes[2], found, colour)
    lengths = sorted({cell["context_length"] for cell in found["cells"]})
    for axis in axes[:2]:
        axis.set(xlabel="context length", xscale="log")
        set_ticks(axis.xaxis, lengths)
    set_ticks(axes[2].yaxis, lengths)
    figure.tight_layout()
    save_figure(figure, args.out_dir, "optimal_context")


if __name__ == "__main__":
    main()
