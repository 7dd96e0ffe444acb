"""How straight the cross entropy of trained transformers is in measures of their hidden states (paper section 4.4)."""

import numpy as np

from collecting import load_table1
from entropy import log_sums
from measures import load_measures
from utils import fail

FEWEST = 3  # eigenvalues of a sum, and lengths of a line


def load_by_seed(directory, table_path):
    """{seed: rows with "cross_entropy" and "bayes_risk", by visible length}; exits with code 2 if there is no line."""
    table, seeds = load_table1(table_path), {}
    for row in load_measures(directory):
        losses = table.get(row["visible_context_length"])
        if losses is None or row["seed"] not in losses["cross_entropy"]:
            fail(f"{table_path} has no loss of seed {row['seed']} at {row['visible_context_length']} bits, which "
                 f"{directory} measures; collect the runs that the features are of")
        seeds.setdefault(row["seed"], []).append(
            {**row, "cross_entropy": losses["cross_entropy"][row["seed"]], "bayes_risk": losses["bayes_risk"]})
        if row["rank"] < FEWEST:
            fail(f"{directory} has {row['rank']} eigenvalues of {row['name']} that count, a sum needs {FEWEST}")
    if not seeds or any(len(rows) < FEWEST for rows in seeds.values()):
        fail(f"{directory} has too few measures, a line needs {FEWEST} visible lengths; make more with "
             "save_feature_tensor.py and measure_features.py")
    return {seed: sorted(rows, key=lambda row: row["visible_context_length"]) for seed, rows in sorted(seeds.items())}


def column(rows, name):
    """One entry of all rows, a float64 array."""
    return np.array([float(row[name]) for row in rows])


def sums_by_length(rows, relative):
    """Sums of log eigenvalues over the first N = 1, 2, ... at each visible length: (lengths, lowest rank)."""
    rank = min(row["rank"] for row in rows)
    return np.stack([log_sums(row["eigenvalues"] / (row["eigenvalues"][0] if relative else 1), rank).numpy()
                     for row in rows])


def straightest(sums, losses):
    """The N whose sum has the most negative correlation with the losses, and that correlation."""
    r = [np.corrcoef(sums[:, n - 1], losses)[0, 1] for n in range(FEWEST, sums.shape[1] + 1)]
    return FEWEST + int(np.argmin(r)), min(r)


def correlations(rows):
    """{what the cross entropy is compared with: (N or None, R)} of one seed; only what was measured at every length."""
    losses = column(rows, "cross_entropy")
    entropies = {name: (None, np.corrcoef(column(rows, key), losses)[0, 1])
                 for name, key in (("KDE entropy", "kde_entropy"), ("log-determinant part", "log_determinant_part"))
                 if all(row[key] is not None for row in rows)}
    return {**entropies, "relative eigenvalues": straightest(sums_by_length(rows, relative=True), losses),
            "absolute eigenvalues": straightest(sums_by_length(rows, relative=False), losses)}
