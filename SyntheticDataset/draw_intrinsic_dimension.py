"""Draw the PCA spectrum of the context feature and its intrinsic dimension against the visible subtasks (Fig. 18).

    python draw_intrinsic_dimension.py --measures results/small/measures --out_dir results/small/figures

Reads what measure_features.py wrote. Left: relative eigenvalues for each visible context length, every seed a line, and
the threshold. Right: intrinsic dimension at that threshold against the number of visible subtasks, which it should
equal. Prints for each context length the dimensions found and the gap in the spectrum, and which of the paper's
thresholds give the right dimension everywhere. Writes intrinsic_dimension as PDF and PNG.
"""

from utils import Parser, fail, fraction, run_main

import matplotlib.pyplot as plt

from entropy import intrinsic_dimension
from measures import load_measures, right_thresholds
from plotting import colours, save_figure


def load_sorted(directory):
    """The rows of a directory's measures, ordered by visible context length and seed."""
    rows = load_measures(directory)
    if any(row["n_visible_tasks"] is None or row["visible_context_length"] is None for row in rows):
        fail(f"the measures in {directory} do not say how many subtasks are visible; save the features with "
             "save_feature_tensor.py")
    return sorted(rows, key=lambda row: (row["visible_context_length"], row["seed"] or 0))


def main():
    parser = Parser(__doc__)
    parser.add_argument("--measures", default="outputs/measures", help="--out_dir of measure_features.py")
    parser.add_argument("--threshold", type=fraction, default=0.1, help="relative eigenvalue from which one counts")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    rows = load_sorted(args.measures)
    colour = colours({row["visible_context_length"] for row in rows})

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(3, 2))
    labelled = set()
    for row in rows:
        length, expected, dimension = (row["visible_context_length"], row["n_visible_tasks"],
                                       intrinsic_dimension(row["eigenvalues"], args.threshold))
        relative = (row["eigenvalues"] / row["eigenvalues"][0]).tolist()
        left.plot(range(1, len(relative) + 1), relative, color=colour[length], linewidth=1,
                  label=None if length in labelled else f"{length} bits: {expected} subtasks")
        labelled.add(length)
        right.plot(expected, dimension, "o", color=colour[length], alpha=0.6)
        counted, behind = [float("nan"), *relative, *[float("nan")] * expected][expected:expected + 2]
        print(f"context {length} seed {row['seed']}: {expected} visible subtasks, intrinsic dimension {dimension} at "
              f"threshold {args.threshold}; relative eigenvalue {expected}: {counted:.4f}, {expected + 1}: "
              f"{behind:.4f}")
    print(f"thresholds with the right dimension in all {len(rows)} cases: {right_thresholds(rows) or 'none'}")

    left.axhline(args.threshold, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="index of the eigenvalue", ylabel="relative eigenvalue", yscale="log", ylim=(1e-5, 2))
    left.legend(fontsize=7, frameon=True, framealpha=1, edgecolor="none", loc="upper right")
    largest = 1.08 * max(row["n_visible_tasks"] for row in rows)
    right.plot([0, largest], [0, largest], color="black", linestyle="--", linewidth=1, label="equal")
    right.set(xlabel="visible subtasks", ylabel=f"intrinsic dimension (threshold {args.threshold})")
    right.legend()
    save_figure(figure, args.out_dir, "intrinsic_dimension")


if __name__ == "__main__":
    run_main(main)
