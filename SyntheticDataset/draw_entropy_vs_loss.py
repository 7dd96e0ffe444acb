"""Draw spectra by visible length, and cross entropy against intrinsic entropy (Figs. 6 and 7).

    python draw_entropy_vs_loss.py --measures outputs/transformer_measures --out_dir outputs/figures

Reads the JSON files that measure_features.py made from save_transformer_features.py's. Writes, as PDF and PNG:
    transformer_spectra    relative and absolute eigenvalues by visible length (first seed), and cross entropy against
                           the sum of log absolute eigenvalues over the first N, for several N
    entropy_vs_loss        cross entropy, measured and Bayes, against that sum at the best N and against the KDE entropy
Prints R for every seed: against the KDE entropy, and against the sums of log relative and log absolute eigenvalues at
the N with the straightest line (relative: over the largest, as the paper's proxy is defined; absolute: as they are).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from plotting import BAYES, colours, save_figure
from utils import Parser, fail, load_json

FEWEST = 3  # eigenvalues of a sum, and lengths of a line
RANK_TOLERANCE = 1e-12  # of the largest eigenvalue: what is below it is rounding


def load_by_seed(directory):
    """{seed: measures in the order of the visible length}; exits with code 2 where a line cannot be drawn."""
    seeds = {}
    for path in sorted(Path(directory).glob("*.json")):
        one = load_json(path, "the measures")
        if one.get("cross_entropy") is None or one.get("kde_entropy") is None:
            fail(f"{path} has no cross entropy or no KDE entropy; make it from save_transformer_features.py's features")
        seeds.setdefault(one["seed"], []).append(one)
    if not seeds or any(len(measures) < FEWEST for measures in seeds.values()):
        fail(f"{directory} has too few measures, a line needs {FEWEST} visible lengths; make more with "
             "save_transformer_features.py and measure_features.py")
    return {seed: sorted(measures, key=lambda one: one["visible_context_length"]) for seed, measures in seeds.items()}


def column(measures, name):
    return np.array([one[name] for one in measures])


def log_sums(measures, relative):
    """Sums of log eigenvalues over the first N = 1, 2, ... at each visible length: (lengths, rank)."""
    eigenvalues = column(measures, "eigenvalues")
    rank = int((eigenvalues > RANK_TOLERANCE * eigenvalues[:, :1]).sum(axis=1).min())
    eigenvalues = eigenvalues[:, :rank] / (eigenvalues[:, :1] if relative else 1)
    return np.log(eigenvalues).cumsum(axis=1)


def straightest(sums, losses):
    """The N whose sum has the most negative correlation with the losses, and that correlation."""
    r = [np.corrcoef(sums[:, n - 1], losses)[0, 1] for n in range(FEWEST, sums.shape[1] + 1)]
    return FEWEST + int(np.argmin(r)), min(r)


def draw_spectra(measures):
    """Fig. 6 for one seed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    losses, sums = column(measures, "cross_entropy"), log_sums(measures, relative=False)
    for length, colour in colours(column(measures, "visible_context_length")).items():
        one = next(one for one in measures if one["visible_context_length"] == length)
        for axis, name in zip(axes, ("relative_eigenvalues", "eigenvalues")):
            values = one[name][:sums.shape[1]]
            axis.plot(range(1, len(values) + 1), values, color=colour, linewidth=1, label=f"{length}")
    for axis, label in zip(axes, (r"relative eigenvalue $\lambda_i / \lambda_1$", r"eigenvalue $\lambda_i$")):
        axis.set(xlabel="index $i$", ylabel=label, xscale="log", yscale="log")
    step = max(len(measures) // 12, 1)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].legend(handles[::step], labels[::step], title="visible bits", fontsize=6, ncol=2)
    shown = [n for n in (3, 6, 12, 25, 50, 70, 100, 150, 208) if n < sums.shape[1]] + [sums.shape[1]]
    for n, colour in colours(shown).items():
        series = sums[:, n - 1]
        axes[2].plot((series - series.min()) / np.ptp(series), losses, ".-", color=colour, linewidth=0.6,
                     label=f"{n}: R = {np.corrcoef(series, losses)[0, 1]:.3f}")
    axes[2].set(xlabel=r"$\sum_{i \leq N}\,\log \lambda_i$, from its lowest to its highest",
                ylabel="cross entropy (nats)")
    axes[2].legend(title="N", fontsize=6)
    return figure


def main():
    parser = Parser(__doc__)
    parser.add_argument("--measures", default="outputs/transformer_measures", help="--out_dir of measure_features.py")
    parser.add_argument("--out_dir", default="outputs/figures", help="directory for the figures")
    args = parser.parse_args()
    seeds = load_by_seed(args.measures)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    found = {"KDE entropy": [], "relative eigenvalues": [], "absolute eigenvalues": []}
    for (seed, measures), colour in zip(seeds.items(), colours(seeds).values()):
        losses, entropy, risks = (column(measures, name) for name in ("cross_entropy", "kde_entropy", "bayes_risk"))
        best = {name: straightest(log_sums(measures, name.startswith("relative")), losses)
                for name in list(found)[1:]}
        r = np.corrcoef(entropy, losses)[0, 1]
        for name, value in (("KDE entropy", r), *((name, value) for name, (_, value) in best.items())):
            found[name].append(value)
        print(f"seed {seed}: cross entropy against KDE entropy R {r:.4f}; "
              + "; ".join(f"first {n} {name} R {value:.4f}" for name, (n, value) in best.items()))
        n = best["absolute eigenvalues"][0]
        for axis, series in ((left, log_sums(measures, False)[:, n - 1]), (right, entropy)):
            axis.plot(series, losses, "o", color=colour, label=f"measured, seed {seed}")
            order = np.argsort(series)
            axis.plot(series[order], risks[order], **{**BAYES, "linewidth": 0.8, "label": None})
    for name, values in found.items():
        print(f"{name}: R {np.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}] over {len(values)} seeds")
    left.set(xlabel="sum of log eigenvalues at the best N (nats)", ylabel="cross entropy (nats)")
    right.set(xlabel="KDE entropy (nats)")
    right.plot([], [], **BAYES)
    right.legend(fontsize=7)
    save_figure(figure, args.out_dir, "entropy_vs_loss")
    save_figure(draw_spectra(next(iter(seeds.values()))), args.out_dir, "transformer_spectra")


if __name__ == "__main__":
    main()
