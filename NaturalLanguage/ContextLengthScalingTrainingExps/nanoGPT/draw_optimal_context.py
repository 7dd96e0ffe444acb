"""Draw the parts of the loss (Fig. 1 left, with fitted numbers) and the growth of the optimal context length with data.

    python draw_optimal_context.py --fit outputs/optimal_context.json --out_dir outputs/figures

Reads the JSON of fit_optimal_context.py. Writes optimal_context as PDF and PNG: the parts of the loss at one training
size (the middle one, or --train_tokens); the losses of all sizes (dots: means over seeds) with the fitted curves and
their 95% bands; the optimum against the training size, measured on the grid, fitted with its interval (an arrow where
it is open: beyond the lengths), predicted, and held out: what the kept law says of a size that it was not fitted to,
and what the law that is fitted to the smaller half of the sizes says of the larger ones (--check of
fit_optimal_context.py). Prints every number of the last panel.
"""

from utils import Parser, fail, positive_float, run_main

from files import load_json
from optimal_context.drawing import draw


def main():
    parser = Parser(__doc__)
    parser.add_argument("--fit", default="outputs/optimal_context.json", help="JSON of fit_optimal_context.py")
    parser.add_argument("--train_tokens", type=positive_float, help="size whose parts are drawn; default: the middle")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    found = load_json(args.fit, "the fit")
    if not {"curves", "trusted"} <= set(found) or not all(
            found[name] and isinstance(found[name], list) for name in ("curves", "optima", "cells")):
        fail(f"{args.fit} is no fit of this version of fit_optimal_context.py; fit the table again")
    sizes = [curve["train_tokens"] for curve in found["curves"]]
    size = sizes[len(sizes) // 2] if args.train_tokens is None else args.train_tokens
    if size not in sizes:
        fail(f"the fit has no training size {size:g}; it has {', '.join(f'{value:g}' for value in sizes)}")
    draw(found, size, args.out_dir)


if __name__ == "__main__":
    run_main(main)
