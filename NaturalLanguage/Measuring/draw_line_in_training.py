"""Draw how the line of cross entropy against intrinsic entropy (Eq. 2) comes about as a model is trained.

    python draw_line_in_training.py --results outputs/steps/tok1000000 outputs/steps/tok4000000 --train_tokens 1e6 4e6

Reads the measurements of checkpoints of one model, measures.csv of each; --train_tokens says, in their order, what each
had seen. Writes line_in_training as PDF and PNG: correlation R and slope of the cross entropy against the KDE entropy,
over the context lengths from each of --from_lengths on, the slope with its 95% interval, and R with twice its standard
error over half samples of documents where measure_entropy.py drew them. Prints the same.
"""

from utils import fail, run_main

import numpy as np

from draw_CEvsPCA.fits import PAPER_FROM, line_from
from draw_CEvsPCA.plotting import drawing_parser, panels, parse_results, read_measures, save_figure

def main():
    parser = drawing_parser(__doc__, "measures.csv")
    parser.add_argument("--train_tokens", type=float, nargs="+", required=True, help="that each of --results had seen")
    parser.add_argument("--from_lengths", type=int, nargs="+", default=[1, PAPER_FROM],
                        help=f"shortest context lengths of the lines (default: 1 {PAPER_FROM})")
    args = parse_results(parser)
    if len(args.train_tokens) != len(args.results):
        fail(f"{len(args.results)} --results and {len(args.train_tokens)} --train_tokens; give one number for each")
    order = np.argsort(args.train_tokens)
    tokens = np.array(args.train_tokens)[order]
    found = [read_measures(args.results[index]) for index in order]
    figure, axes = panels(2, width=3.6, height=2.8)
    for least in args.from_lengths:
        try:
            fits, errors = zip(*(line_from(measures, least) for measures in found))
        except ValueError as error:
            fail(f"context lengths from {least} on: {error}; choose other --from_lengths")
        r, slopes = np.array([fit.r for fit in fits]), np.array([fit.slope for fit in fits])
        axes[0].errorbar(tokens, r, 2 * np.nan_to_num(errors), marker="o", capsize=2, label=f"from {least} tokens")
        axes[1].errorbar(tokens, slopes[:, 0], [slopes[:, 0] - slopes[:, 1], slopes[:, 2] - slopes[:, 0]], marker="o",
                         capsize=2)
        for number, fit, error in zip(tokens, fits, errors):
            print(f"{number:g} tokens seen, context lengths from {least} on: R {fit.r:.4f} (standard error "
                  f"{error:.4f}), slope {fit.slope[0]:.5f} [{fit.slope[1]:.5f}, {fit.slope[2]:.5f}]")
    axes[0].set(ylabel="R of cross entropy against entropy")
    axes[1].set(ylabel="slope")
    for axis in axes:
        axis.set(xscale="log", xlabel="training tokens seen")
    axes[0].legend(title="context lengths", fontsize=7, title_fontsize=7)
    save_figure(figure, args.out_dir, "line_in_training")


if __name__ == "__main__":
    run_main(main)
