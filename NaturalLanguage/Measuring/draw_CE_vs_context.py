"""Draw cross entropy against context length with C0 + C / l^gamma (Eq. 3), one panel for each measurement.

    python draw_CE_vs_context.py                                     # every measurement below outputs
    python draw_CE_vs_context.py --results results/small/ctl512 --out_dir results/small/figures
    python draw_CE_vs_context.py --results results/reported/Llama-3.1-8B          # the fit of the paper's own numbers

Reads DIRECTORY/cross_entropy.csv: context_length, cross_entropy (nats) and, where it was measured, standard_error.
Writes ce_vs_context as PDF and PNG: losses with 95% intervals, the fit, and for reference the losses that the paper
reports for LLaMA-3.1-8B (on its own axis: another tokenizer has other nats). Prints the fitted parameters with 95%
intervals (profile likelihood of the residuals), R^2 and what is left: how far the longest context is above C0.
"""

from utils import run_main

from pathlib import Path

import numpy as np

from draw_CEvsPCA.fits import fit_power_law, interval
from draw_CEvsPCA.plotting import (
    FIT, MEASURING, REPORTED, drawing_parser, label_ticks, panels, parse_results, read_losses, save_figure,
)

REPORTED_LOSSES = MEASURING / "results" / "reported" / "Llama-3.1-8B"


def draw_losses(axis, name, rows, reported):
    """A panel: the losses of one measurement, their fit, and the reported ones. Prints the fit."""
    lengths = [row["context_length"] for row in rows]
    losses = [row["cross_entropy"] for row in rows]
    errors = [1.96 * (row.get("standard_error") or 0) for row in rows]
    axis.errorbar(lengths, losses, errors, fmt="o", capsize=2, label="measured", zorder=3)
    try:
        fit = fit_power_law(lengths, losses)
    except ValueError as error:
        print(f"{name}: no fit, {error}")
    else:
        fine = np.geomspace(min(lengths), max(lengths), 200)
        axis.plot(fine, fit(fine), **FIT, label=f"$C_0 + C / l^\\gamma$, $R^2$ = {fit.r_squared:.4f}")
        axis.axhline(fit.c0[0], color="grey", linewidth=0.8, linestyle=":", label=f"$C_0$ = {fit.c0[0]:.3f}")
        c0, c, gamma = (interval(parameter, ".4g") for parameter in (fit.c0, fit.c, fit.gamma))
        print(f"{name}: C0 {c0}, C {c}, gamma {gamma}, R^2 {fit.r_squared:.5f}, "
              f"largest residual {abs(fit.residuals).max():.4f}; at context {max(lengths):g} the fit is "
              f"{fit(max(lengths)) - fit.c0[0]:.3f} above C0")
    if [row["cross_entropy"] for row in reported] != losses:
        other = axis.twinx()
        other.plot([row["context_length"] for row in reported], [row["cross_entropy"] for row in reported], **REPORTED)
        other.set_ylabel("LLaMA-3.1-8B, reported (nats)", color=REPORTED["color"], fontsize=7)
        other.tick_params(colors=REPORTED["color"])
        other.spines["right"].set_visible(True)
        other.grid(False)
        lengths = sorted({*lengths, *(row["context_length"] for row in reported)})
    axis.set(title=name, xscale="log", xlabel="context length (tokens)")
    label_ticks(axis.xaxis, [length for length in lengths if np.log2(length) % 1 == 0])
    axis.tick_params(axis="x", labelsize=7, rotation=45)
    axis.legend(fontsize=7)


def main():
    args = parse_results(drawing_parser(__doc__, "cross_entropy.csv"), "evaluate_CE.py")
    figure, axes = panels(len(args.results), width=4.4, height=3.2, columns=3)
    reported = read_losses(REPORTED_LOSSES)
    for axis, directory in zip(axes, args.results):
        draw_losses(axis, Path(directory).resolve().name, read_losses(directory), reported)
    axes[0].set_ylabel("cross entropy (nats)")
    save_figure(figure, args.out_dir, "ce_vs_context")


if __name__ == "__main__":
    run_main(main)
