"""One look for all figures of this folder."""


import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from files import make_directory, replacing

plt.rcParams.update({
    "figure.dpi": 150, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "savefig.bbox": "tight", "lines.markersize": 4,
})
BAYES = {"color": "black", "linestyle": "--", "linewidth": 1.2, "label": "Bayes risk"}
OPTIMUM = {"marker": "*", "markersize": 12, "linestyle": "none", "markeredgecolor": "black", "markeredgewidth": 0.6}


def colours(values):
    """A colour for each value, from a sequential map: dark for the smallest."""
    values = sorted(values)
    return {value: plt.cm.viridis(0.9 * index / max(len(values) - 1, 1)) for index, value in enumerate(values)}


def samples_label(n):
    """85000 -> "85k"."""
    return f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}k"


def label_ticks(axis, values, label="{:g}".format):
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
    plt.close(figure)
    print(f"-> {out_dir}/{stem}.pdf, .png")
