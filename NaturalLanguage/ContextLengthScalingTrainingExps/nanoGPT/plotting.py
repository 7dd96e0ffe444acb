"""The style of this folder's figures, and how they are written."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from files import make_directory, replacing

plt.rcParams.update({
    "figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "savefig.bbox": "tight", "lines.markersize": 4,
})
AS_GOOD = {"marker": "o", "markersize": 11, "linestyle": "none", "fillstyle": "none"}  # not significantly worse
OPTIMUM = {"marker": "*", "markersize": 12, "linestyle": "none", "markeredgecolor": "black", "markeredgewidth": 0.6}


def tokens_label(n):
    """7852092 -> "7.85M"."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n}"


def colours(values):
    """{value: colour}, from dark to light."""
    return {value: plt.cm.viridis(0.9 * index / max(len(values) - 1, 1)) for index, value in enumerate(values)}


def set_ticks(axis, values, label="{:g}".format):
    """Put ticks at these values only, for a logarithmic axis."""
    axis.set_major_locator(plt.FixedLocator(values))
    axis.set_major_formatter(lambda value, _: label(value))
    axis.set_minor_locator(plt.NullLocator())


def save_figure(figure, out_dir, stem):
    """Write a figure as PDF and PNG, each whole or not at all, and say so."""
    out_dir = make_directory(out_dir)
    for suffix in ("pdf", "png"):
        metadata = {"CreationDate": None} if suffix == "pdf" else None  # the same bits from the same results
        with replacing(out_dir / f"{stem}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
    print(f"-> {out_dir}/{stem}.pdf, .png")
