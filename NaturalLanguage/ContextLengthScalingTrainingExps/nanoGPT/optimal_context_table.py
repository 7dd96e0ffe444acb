"""Tables of (context length, training size, loss, seed), and what can be said of them without a law."""

import csv
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from utils import fail

SIZE_COLUMNS = ("train_tokens", "train_dataset_size")
LEAST_SIZES, LEAST_LENGTHS = 3, 4


@dataclass(frozen=True)
class Cells:
    """Mean losses (n,) in nats at context lengths and training sizes (n,), and the losses of each cell's seeds (n)."""
    lengths: np.ndarray
    sizes: np.ndarray
    losses: np.ndarray
    seeds: tuple

    def part(self, keep):
        """The cells of a mask (n,)."""
        return Cells(self.lengths[keep], self.sizes[keep], self.losses[keep],
                     tuple(seeds for seeds, kept in zip(self.seeds, keep) if kept))

    def of_size(self, size):
        """The cells of one training size, by ascending context length."""
        return self.part(self.sizes == size)


def from_losses(losses):
    """Cells, by size and length, of {(size, length): losses of the seeds}."""
    places = sorted(losses)
    seeds = tuple(np.array(losses[place], float) for place in places)
    return Cells(np.array([length for _, length in places], float), np.array([size for size, _ in places], float),
                 np.array([values.mean() for values in seeds]), seeds)


def read_losses(paths, length_column, size_column, loss_column, seed_column):
    """Cells of one CSV or several. Column None: the usual name. Without seeds, the rows of a cell are its seeds.

    Exits with code 2 where a file or column is missing, a number is none, or a cell has two losses of one seed.
    """
    losses = defaultdict(dict)
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                header, rows = reader.fieldnames or [], list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            fail(f"cannot read {path}: {error}")
        size_name = size_column or next((name for name in SIZE_COLUMNS if name in header), SIZE_COLUMNS[0])
        seed_name = seed_column or ("seed" if "seed" in header else None)
        for name in filter(None, (length_column, size_name, loss_column, seed_name)):
            if name not in header:
                fail(f"{path} has no column {name}; name yours with --length_column, --size_column, --loss_column "
                     f"and --seed_column (it has: {', '.join(header) or 'none'})")
        for line, row in enumerate(rows, 2):
            try:
                length, size, loss = (float(row[name]) for name in (length_column, size_name, loss_column))
            except (TypeError, ValueError):
                fail(f"{path}, line {line}: {length_column}, {size_name} or {loss_column} is not a number")
            if not (0 < length < np.inf and 0 < size < np.inf and np.isfinite(loss)):
                fail(f"{path}, line {line}: lengths and sizes must be positive, and losses finite")
            cell = losses[size, length]
            seed = row[seed_name] if seed_name else len(cell)
            if seed in cell:
                fail(f"{path}, line {line}: context length {length:g}, size {size:g} and seed {seed} came before; give "
                     f"the rows of one setting only")
            cell[seed] = loss
    return from_losses({place: list(cell.values()) for place, cell in losses.items()})


def refuse_what_cannot_carry_a_fit(cells):
    """Exit with code 2 and one line unless there are 3 sizes, 4 lengths, and a minimum inside the lengths of a size."""
    sizes, lengths = np.unique(cells.sizes), np.unique(cells.lengths)
    if len(sizes) < LEAST_SIZES:
        fail(f"the table has {len(sizes)} training sizes, the fit needs {LEAST_SIZES}: fewer cannot tell how "
             f"the loss falls with the size; train at {LEAST_SIZES - len(sizes)} more")
    if len(lengths) < LEAST_LENGTHS:
        fail(f"the table has {len(lengths)} context lengths, the fit needs {LEAST_LENGTHS}: train at "
             f"{LEAST_LENGTHS - len(lengths)} more")
    places = [(cells.of_size(size).losses.argmin(), len(cells.of_size(size).losses)) for size in sizes]
    if not any(0 < place < count - 1 for place, count in places):
        shortest, longest = sum(place == 0 for place, _ in places), sum(place == count - 1 for place, count in places)
        remedy = ("longer contexts or smaller sizes" if longest > shortest else "shorter contexts or larger sizes")
        fail(f"no training size has its lowest loss inside the grid of context lengths ({shortest} at the shortest "
             f"one, {longest} at the longest one of {len(sizes)}), so no optimum can be fitted; add {remedy}")


def nearest_size(cells, size):
    """Baseline: the losses of the training size that is nearest on a logarithmic scale, {length: loss}."""
    sizes = np.unique(cells.sizes)
    nearest = cells.of_size(sizes[np.abs(np.log(sizes / size)).argmin()])
    return dict(zip(nearest.lengths, nearest.losses))


def interpolated(cells, size):
    """Baseline: {length: loss}, at each length a straight line in log size through the two sizes around this one.

    Beyond the sizes of the table, the line through its two last ones (or first ones).
    """
    found = {}
    for length in np.unique(cells.lengths):
        here = cells.part(cells.lengths == length)
        if len(here.sizes) > 1:
            right = int(np.clip(np.searchsorted(here.sizes, size), 1, len(here.sizes) - 1))
            left_size, right_size = np.log(here.sizes[right - 1:right + 1])
            share = (np.log(size) - left_size) / (right_size - left_size)
            found[length] = (1 - share) * here.losses[right - 1] + share * here.losses[right]
    return found


BASELINES = {"nearest size": nearest_size, "log-linear interpolation": interpolated}


def compared(truth, predicted):
    """How a predicted curve {length: loss} meets the measured cells of one training size: a dictionary.

    steps: of the grid of lengths between the two optima; optimum_error: of the loss (nats) at the measured optimum;
    near_error: the largest error there and at the length on either side; near_square: their mean square; near_noise:
    the largest standard error of these measured losses over seeds (None for one seed); curve_error: root mean square
    over all lengths; regret: what the predicted optimum costs, in measured nats above the best length.
    """
    keep = np.array([length in predicted for length in truth.lengths])
    losses, guess = truth.losses[keep], np.array([predicted[length] for length in truth.lengths[keep]])
    best, chosen = int(losses.argmin()), int(guess.argmin())
    around = slice(max(best - 1, 0), best + 2)
    near = (guess - losses)[around]
    seeds = [values for values, kept in zip(truth.seeds, keep) if kept][around]
    noise = [float(values.std(ddof=1) / np.sqrt(len(values))) for values in seeds if len(values) > 1]
    return {"train_tokens": truth.sizes[0], "measured_optimum": truth.lengths[keep][best],
            "predicted_optimum": truth.lengths[keep][chosen], "steps": chosen - best,
            "optimum_error": float(abs(guess[best] - losses[best])), "near_noise": max(noise, default=None),
            "near_error": float(np.abs(near).max()), "near_square": float((near**2).mean()),
            "curve_error": float(np.sqrt(((guess - losses)**2).mean())), "regret": float(losses[chosen] - losses[best])}


def summary(rows):
    """Of the rows of `compared`: how many within one step, the largest and root mean square error near the optimum."""
    return {"sizes": len(rows), "same_length": sum(row["steps"] == 0 for row in rows),
            "within_one_step": sum(abs(row["steps"]) <= 1 for row in rows),
            "near_error_rms": float(np.sqrt(np.mean([row["near_square"] for row in rows]))),
            "near_error_max": max(row["near_error"] for row in rows),
            "near_error_median": float(np.median([row["near_error"] for row in rows])),
            "optimum_error_median": float(np.median([row["optimum_error"] for row in rows])),
            "optimum_error_max": max(row["optimum_error"] for row in rows),
            "curve_error_rms": float(np.sqrt(np.mean([row["curve_error"]**2 for row in rows]))),
            "regret_mean": float(np.mean([row["regret"] for row in rows])),
            "regret_max": max(row["regret"] for row in rows)}
