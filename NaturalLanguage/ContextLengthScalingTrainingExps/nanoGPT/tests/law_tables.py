"""Tables of losses that known laws made, and their fit by the script, for the tests of optimal_context/."""

import csv
import json
from dataclasses import replace

import numpy as np

from helpers import FOLDER
from optimal_context.law import LAWS, Fit, predict
from optimal_context.table import from_losses

SYNTHETIC = FOLDER.parents[2] / "SyntheticDataset" / "results" / "small" / "sweep.csv"
LENGTHS, SIZES = np.array([16, 32, 64, 128, 256, 512]), np.array([1e5, 2e5, 4e5, 8e5, 1.6e6])
BY_NAME = {law.name: law for law in LAWS}
TRUTH = {"C0": 2.0, "log_gain": np.log(0.5), "log_gamma": np.log(0.6), "log_A": np.log(0.25), "a": 0.9,
         "log_alpha": np.log(0.8), "b": 0.15, "ceiling": 4.0, "log_B": np.log(0.3), "log_beta": np.log(0.4),
         "shift": 0.3}


def true_fit(name, reading="full", joint=False):
    """The law with the parameters of TRUTH, around the middle of the grid."""
    law = replace(BY_NAME[name], reading=reading, joint=joint)
    return Fit(law, np.array([TRUTH[parameter] for parameter in law.parameters]),
               (np.exp(np.log(LENGTHS).mean()), np.exp(np.log(SIZES).mean())))


def noisy(mean, noise, seeds, seed, sizes=SIZES, lengths=LENGTHS):
    """Cells of the grid with the losses mean(length, size) and normal noise, in nats."""
    generator = np.random.default_rng(seed)
    return from_losses({(size, length): mean(length, size) + noise * generator.standard_normal(seeds)
                        for size in sizes for length in lengths})


def table(fit, noise=0.0, seeds=3, sizes=SIZES, lengths=LENGTHS, seed=5):
    """Cells of the grid: the law's losses, in its reading, with normal noise in nats."""
    cells = noisy(lambda length, size: predict(fit, [length], [size])[1], noise, seeds, seed, sizes, lengths)
    return replace(cells, reading=fit.law.reading)


def write_csv(path, cells, names=("context_length", "train_tokens", "seed", "best_valid_loss", "full_context_loss")):
    """The rows of a sweep as a CSV with these column names, the last one for cells of both readings."""
    readings = [reading.seeds for reading in (cells, cells.beside) if reading is not None]
    rows = [(f"{length:g}", f"{size:g}", seed, *losses) for length, size, *groups in
            zip(cells.lengths, cells.sizes, *readings) for seed, losses in enumerate(zip(*groups))]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([names[:3 + len(readings)], *rows])


def fitted(nanogpt, folder, results, *arguments):
    """The printed lines and the JSON of a fit with few draws."""
    done = nanogpt("fit_optimal_context.py", "--results", results, "--out", "fit.json", "--draws", 100, *arguments)
    return done.stdout.splitlines(), json.loads((folder / "fit.json").read_text())
