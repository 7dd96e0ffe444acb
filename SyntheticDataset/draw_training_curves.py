"""Draw training loss beside validation loss over the steps of training, for each training size and context length.

    python draw_training_curves.py --results results/small/sweep_curves.csv --out_dir results/small/figures

Shows what the right side of each curve of draw_loss_vs_context.py is made of: a run on the plateau has both losses at
log 2; a run that overfits has a falling training loss and a rising validation loss. Reads the _curves CSV of
collect_results.py, draws its first seed, writes training_curves as PDF and PNG, and prints the first and last losses.
"""

from utils import Parser, run_main

import math

import matplotlib.pyplot as plt

from collecting import read_sweep
from plotting import colours, samples_label, save_figure

COLUMNS = ("context_length", "train_dataset_size", "seed", "step", "train_loss", "valid_loss")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", default="outputs/sweep_curves.csv", help="_curves CSV of collect_results.py")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    rows = read_sweep(args.results, COLUMNS)
    seed = min(row["seed"] for row in rows)
    runs = {}
    for row in rows:
        if row["seed"] == seed:
            runs.setdefault((int(row["train_dataset_size"]), int(row["context_length"])), []).append(row)
    sizes, lengths = (sorted({key[axis] for key in runs}) for axis in (0, 1))
    colour = colours(lengths)

    figure, axes = plt.subplots(1, len(sizes), figsize=(3 * len(sizes), 3.2), sharey=True, squeeze=False)
    for axis, size in zip(axes[0], sizes):
        for length in lengths:
            curve = runs.get((size, length))
            if curve is None:
                continue
            steps = [row["step"] for row in curve]
            for column, style in (("train_loss", "dotted"), ("valid_loss", "solid")):
                axis.plot(steps, [row[column] for row in curve], color=colour[length], linestyle=style,
                          label=f"{length} bits" if style == "solid" else None)
            last = curve[-1]
            state = "on the plateau" if last["train_loss"] > 0.99 * math.log(2) else "off the plateau"
            print(f"size {size} context {length}: after {last['step']:.0f} steps training loss "
                  f"{last['train_loss']:.4f}, validation loss {last['valid_loss']:.4f}: {state}")
        axis.axhline(math.log(2), color="black", linewidth=0.6)
        axis.set(title=f"{samples_label(size)} samples", xlabel="optimizer steps", ylim=(0, 1.5))
    axes[0, 0].set_ylabel("nats (solid: validation, dotted: training)")
    axes[0, -1].legend(fontsize=7)
    save_figure(figure, args.out_dir, "training_curves")


if __name__ == "__main__":
    run_main(main)
