"""Draw the PCA spectrum of the context feature and its intrinsic dimension against the visible subtasks (Fig. 18).

    python draw_intrinsic_dimension.py --measures results/small/measures --out_dir results/small/figures

Reads the JSON files of measure_features.py. Left: relative eigenvalues for each visible context length, every seed a
line, and the threshold. Right: intrinsic dimension at that threshold against the number of visible subtasks, which it
should equal. Prints for each context length the dimensions found and the gap in the spectrum, and which of the paper's
thresholds give the right dimension everywhere. Writes intrinsic_dimension as PDF and PNG.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from measure_features import THRESHOLDS
from plotting import colours, save_figure
from utils import Parser, fail, load_json


def load_measures(directory):
    """Read all measures of a directory, ordered by visible context length and seed."""
    measures = [load_json(path, "the measures") for path in sorted(Path(directory).glob("*.json"))]
    if not measures:
        fail(f"there are no measures in {directory}; make some with measure_features.py")
    for one in measures:
        if "n_visible_tasks" not in one:
            fail(f"the measures in {directory} do not say how many subtasks are visible; save the features with "
                 "save_feature_tensor.py")
    return sorted(measures, key=lambda one: (one["visible_context_length"], one["seed"] or 0))


def main():
    parser = Parser(__doc__)
    parser.add_argument("--measures", default="outputs/measures", help="--out_dir of measure_features.py")
    parser.add_argument("--threshold", type=float, default=0.1, choices=THRESHOLDS, metavar="T",
                        help=f"relative eigenvalue, one of {' '.join(map(str, THRESHOLDS))}")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    measures = load_measures(args.measures)
    colour = colours({one["visible_context_length"] for one in measures})

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(3, 2))
    labelled = set()
    for one in measures:
        length, expected = one["visible_context_length"], one["n_visible_tasks"]
        relative, dimension = one["relative_eigenvalues"], one["intrinsic_dimension"][str(args.threshold)]
        left.plot(range(1, len(relative) + 1), relative, color=colour[length], linewidth=1,
                  label=None if length in labelled else f"{length} bits: {expected} subtasks")
        labelled.add(length)
        right.plot(expected, dimension, "o", color=colour[length], alpha=0.6)
        last, next_one = relative[expected - 1 : expected + 1] if expected else (float("nan"), relative[0])
        print(f"context {length} seed {one['seed']}: {expected} visible subtasks, intrinsic dimension {dimension} at "
              f"threshold {args.threshold}; relative eigenvalue {expected}: {last:.4f}, {expected + 1}: {next_one:.4f}")
    right_thresholds = [t for t in THRESHOLDS
                        if all(one["intrinsic_dimension"][str(t)] == one["n_visible_tasks"] for one in measures)]
    print(f"thresholds with the right dimension in all {len(measures)} cases: {right_thresholds or 'none'}")

    left.axhline(args.threshold, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="index of the eigenvalue", ylabel="relative eigenvalue", yscale="log", ylim=(1e-5, 2))
    left.legend(fontsize=7, frameon=True, framealpha=1, edgecolor="none", loc="upper right")
    largest = 1.08 * max(one["n_visible_tasks"] for one in measures)
    right.plot([0, largest], [0, largest], color="black", linestyle="--", linewidth=1, label="equal")
    right.set(xlabel="visible subtasks", ylabel=f"intrinsic dimension (threshold {args.threshold})")
    right.legend()
    save_figure(figure, args.out_dir, "intrinsic_dimension")


if __name__ == "__main__":
    main()
