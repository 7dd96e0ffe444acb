"""Tables of (length, size, loss, seed), and what can be said of them without a law."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from files import read_table
from optimal_context.pairing import Pairing, pair
from utils import argument_type, fail

SIZE_COLUMNS = ("train_tokens", "train_dataset_size")
LOSS_COLUMNS = ("best_valid_loss", "val_loss", "valid_loss")
LEAST_SIZES, LEAST_LENGTHS = 3, 4
LEAST, MOST, MOST_LOSS = 1e-30, 1e30, 1e9  # lengths and sizes, in units of the user's, and losses; squares are finite
TOKENS = f"a number above 0, from {LEAST:g} to {MOST:g}"
loss_in_nats = argument_type(float, lambda value: 0 < value <= MOST_LOSS, f"a number above 0, of at most {MOST_LOSS:g}")
number_of_tokens = argument_type(float, lambda value: LEAST <= value <= MOST, TOKENS)
EXPONENTS = np.geomspace(0.02, 2, 60)  # of the sizes, that the baseline of power laws chooses from
ROUNDING = 1e-20  # a squared error of so many times the squared losses is rounding
REMEDY = "give a table with a row a run"


@dataclass(frozen=True)
class Cells:
    """Mean losses (n,) in nats at context lengths and training sizes (n,), and the losses of each cell's seeds (n).

    reading: "full" or "mean" (law.py). beside: the same cells in the other reading, where both are fitted at once; then
    a fit takes the losses of each times its `scale`. names: of the seeds of each cell; None: not known. pairing: the
    noise where seeds vary together (pairing.py).
    """
    lengths: np.ndarray
    sizes: np.ndarray
    losses: np.ndarray
    seeds: tuple
    reading: str = "full"
    beside: "Cells | None" = None
    scale: float = 1.0
    names: tuple | None = None
    pairing: Pairing | None = None

    @property
    def readings(self):
        """What a fit takes: these cells, and those beside them, the window mean first."""
        found = [replace(self, beside=None)] + ([self.beside] if self.beside else [])
        return sorted(found, key=lambda cells: cells.reading != "mean")

    @property
    def targets(self):
        """The losses (N,) of all readings, straight and in units of their scales."""
        return np.concatenate([cells.scale * cells.straight(cells.losses) for cells in self.readings])

    @property
    def balanced(self):
        """The mean losses (n,) to compare lengths by: where seeds vary together, as if each length had all of its size.

        A fit does not need them: it knows which seeds a mean is of.
        """
        return self.losses if self.pairing is None else self.pairing.balanced

    def straight(self, values):
        """Values (..., n) of the cells, so combined that their noise is independent where seeds vary together."""
        return values if self.pairing is None else values @ self.pairing.root.T

    def part(self, keep):
        """The cells of a mask (n,)."""
        seeds, names = (values and tuple(value for value, kept in zip(values, keep) if kept)
                        for values in (self.seeds, self.names))
        return replace(self, lengths=self.lengths[keep], sizes=self.sizes[keep], losses=self.losses[keep], seeds=seeds,
                       names=names, pairing=self.pairing and self.pairing.part(keep),
                       beside=self.beside and self.beside.part(keep))

    def of_size(self, size):
        """The cells of one training size, by ascending context length."""
        return self.part(self.sizes == size)


def from_losses(losses):
    """Cells, by size and length, of {(size, length): losses of the seeds, or in each {seed: loss}} (pairing.py)."""
    keys, names = sorted(losses), None
    if all(isinstance(cell, dict) for cell in losses.values()):
        names = tuple(tuple(losses[key]) for key in keys)
        losses = {key: list(cell.values()) for key, cell in losses.items()}
    seeds = tuple(np.array(losses[key], float) for key in keys)
    return pair(Cells(np.array([length for _, length in keys], float), np.array([size for size, _ in keys], float),
                      np.array([values.mean() for values in seeds]), seeds, names=names))


def find_columns(path, header, columns):
    """The names of the columns of length, size, loss and seed (None: the table has none) in a table's header.

    columns: a Columns; None: the usual name. Exits with code 2 where one is missing.
    """
    size = columns.size or next((name for name in SIZE_COLUMNS if name in header), SIZE_COLUMNS[0])
    loss = columns.loss or next((name for name in LOSS_COLUMNS if name in header), LOSS_COLUMNS[0])
    seed = columns.seed or ("seed" if "seed" in header else None)
    seed = None if columns.seed == "none" else seed
    for name in filter(None, (columns.length, size, loss, seed)):
        if name not in header:
            losses = "--loss_column" + (", --full_context_column" if columns.full_context else "")
            fail(f"{path} has no column {name}; name yours with --length_column, --size_column, {losses} and "
                 f"--seed_column (it has: {', '.join(header) or 'none'})")
    return columns.length, size, loss, seed


def refuse_other_settings(path, rows, names, found):
    """Exit with code 2 if the rows of a cell, without a column of seeds, look like other settings and no seeds.

    They do if another column of the table differs within a cell, or if a cell's first, second ... rows differ alike in
    all cells, by more than their other differences.
    """
    cells = defaultdict(list)
    for row, (size, length, loss) in zip(rows, found):
        cells[size, length].append((row, loss))
    others = [name for name in rows[0] if name not in names]
    varying = [name for name in others if any(len({row[name] for row, _ in cell}) > 1 for cell in cells.values())]
    remedy = "give the rows of one setting only, name the column of seeds with --seed_column, or say --seed_column none"
    if varying:
        names = ", ".join(varying[:4]) + (" ..." if len(varying) > 4 else "")
        fail(f"{path} has no column of seeds, and rows of one cell of length and size differ in {names}: other "
             f"settings, or seeds? {remedy} if they are seeds")
    losses = [[loss for _, loss in cell] for cell in cells.values()]
    if len(losses) > 2 and len(losses[0]) > 1 and len(set(map(len, losses))) == 1:
        losses = np.array(losses) - np.mean(losses, axis=1, keepdims=True)
        between = len(losses) * (losses.mean(0)**2).sum()
        if between > 0.5 * (losses**2).sum():
            fail(f"{path} has no column of seeds, and the rows of all cells differ alike from first to last, as other "
                 f"settings do; {remedy} if they are seeds")


@dataclass(frozen=True)
class Columns:
    """The columns of a table; None: the usual name; seed "none": the rows of a cell are its seeds.

    full_context: of the losses with full context, where those of `loss` are window means and both are read.
    """
    length: str = "context_length"
    size: str | None = None
    loss: str | None = None
    seed: str | None = None
    separator: str | None = None
    full_context: str | None = None


def read_losses(paths, columns=Columns()):
    """Cells of one table or several. Without a column of seeds the rows of a cell are its seeds.

    Exits with code 2 where a file or column is missing, a number is none, a cell has two losses of one seed, or the
    rows of a cell look like other settings than seeds (`refuse_other_settings`).
    """
    losses = defaultdict(dict)
    for path in paths:
        rows = read_table(path, (), REMEDY, columns.separator)
        names = find_columns(path, list(rows[0]), columns)
        *numbers, seed_name = names
        found = []
        for row in rows:
            length, size, loss = (float(row[name]) for name in numbers)
            for name, value in ((names[0], length), (names[1], size)):
                if not LEAST <= value <= MOST:
                    fail(f"{row[name].where} is {value:g}, which is not {TOKENS}; {REMEDY}")
            if abs(loss) > MOST_LOSS:
                fail(f"{row[names[2]].where} is {loss:g}, more than a loss in nats can be; {REMEDY}")
            cell = losses[size, length]
            seed = row[seed_name] if seed_name else len(cell)
            if seed in cell:
                fail(f"{row[names[0]].where}: context length {length:g}, size {size:g} and seed {seed} came before; "
                     "give the rows of one setting only")
            cell[seed] = loss
            found.append((size, length, loss))
        if not seed_name and columns.seed != "none":
            refuse_other_settings(path, rows, names, found)
    named = all(isinstance(name, str) for cell in losses.values() for name in cell)
    return from_losses(losses if named else {key: list(cell.values()) for key, cell in losses.items()})


def refuse_what_cannot_carry_a_fit(cells):
    """Exit with code 2 and one line unless there are LEAST_SIZES sizes and LEAST_LENGTHS lengths."""
    sizes, lengths = np.unique(cells.sizes), np.unique(cells.lengths)
    if len(sizes) < LEAST_SIZES:
        fail(f"the table has {len(sizes)} training sizes, the fit needs {LEAST_SIZES}: fewer cannot tell how "
             f"the loss falls with the size; train at {LEAST_SIZES - len(sizes)} more")
    if len(lengths) < LEAST_LENGTHS:
        fail(f"the table has {len(lengths)} context lengths, the fit needs {LEAST_LENGTHS}: train at "
             f"{LEAST_LENGTHS - len(lengths)} more")


def sizes_with_their_lowest_loss_inside(cells):
    """The sizes whose lowest mean loss is at neither end of their lengths."""
    inside = []
    for size in np.unique(cells.sizes):
        losses = cells.of_size(size).balanced
        if 0 < losses.argmin() < len(losses) - 1:
            inside.append(float(size))
    return inside


def nearest_size(cells, size):
    """Baseline: the losses of the training size that is nearest on a logarithmic scale, {length: loss}."""
    sizes = np.unique(cells.sizes)
    nearest = cells.of_size(sizes[np.abs(np.log(sizes / size)).argmin()])
    return dict(zip(nearest.lengths, nearest.balanced))


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
            found[length] = (1 - share) * here.balanced[right - 1] + share * here.balanced[right]
    return found


def power_laws(cells, size):
    """Baseline: {length: loss}, at each length the plain form E + B / size^beta, with one beta for all lengths.

    It is Chinchilla's form in the data, for models of one shape. At a length of one size alone nothing is predicted. Of
    exponents that fit as well, as all do where each length has two sizes, the smallest is taken: nearly a straight line
    in log size.
    """
    lengths = [length for length in np.unique(cells.lengths) if (cells.lengths == length).sum() > 1]
    reference, fits = np.exp(np.log(cells.sizes).mean()), []
    for beta in EXPONENTS:
        error, found = 0.0, {}
        for length in lengths:
            here = cells.part(cells.lengths == length)
            columns = np.stack([np.ones(len(here.sizes)), (here.sizes / reference)**-beta], 1)
            (floor, slope), *_ = np.linalg.lstsq(columns, here.balanced)
            error += ((here.balanced - columns @ (floor, slope))**2).sum()
            found[length] = floor + slope * (size / reference)**-beta
        fits.append((error, found))
    as_good = min(error for error, _ in fits) + ROUNDING * (cells.losses**2).sum()
    return next(found for error, found in fits if error <= as_good)


BASELINES = {"nearest size": nearest_size, "log-linear interpolation": interpolated, "a power law a length": power_laws}


def compared(truth, predicted):
    """How a predicted curve {length: loss} meets the measured cells of one training size: a dictionary.

    Exits with code 2 if they have no length in common.

    steps: of the grid of lengths between the two optima; near_error: the largest error of the loss (nats), straight
    (Cells), at the measured optimum and at the length on either side; near_square: their mean square; near_noise: the
    largest standard error of these measured losses over seeds (None for one seed), without what seeds add to a whole
    size; regret: what the predicted optimum costs, in measured nats above the best length.
    """
    keep = np.array([length in predicted for length in truth.lengths])
    if not keep.any():
        fail(f"the training size {truth.sizes[0]:g} has no context length that at least two other sizes have too; "
             "train it at lengths of theirs, or leave it out")
    losses, guess = truth.balanced[keep], np.array([predicted[length] for length in truth.lengths[keep]])
    best, chosen = int(losses.argmin()), int(guess.argmin())
    around = slice(max(best - 1, 0), best + 2)
    near = truth.part(np.isin(truth.lengths, truth.lengths[keep][around]))
    errors = near.straight(guess[around] - near.losses)
    noise = ([values.var(ddof=1) / len(values) for values in near.seeds if len(values) > 1] if near.pairing is None
             else near.pairing.alone)
    return {"train_tokens": truth.sizes[0], "measured_optimum": truth.lengths[keep][best],
            "steps": chosen - best, "near_noise": float(max(noise))**0.5 if len(noise) else None,
            "near_error": float(np.abs(errors).max()), "near_square": float((errors**2).mean()),
            "regret": float(losses[chosen] - losses[best])}


def best_baseline(rows_of):
    """The name of the baseline, of {name: rows of `compared`}, whose losses near the optima are predicted best."""
    return min(rows_of, key=lambda name: summary(rows_of[name])["near_error_rms"])


def summary(rows):
    """Of the rows of `compared`: how many within one step, both errors near the optimum, and the mean regret."""
    return {"sizes": len(rows), "same_length": sum(row["steps"] == 0 for row in rows),
            "within_one_step": sum(abs(row["steps"]) <= 1 for row in rows),
            "near_error_rms": float(np.sqrt(np.mean([row["near_square"] for row in rows]))),
            "near_error_max": max(row["near_error"] for row in rows),
            "regret_mean": float(np.mean([row["regret"] for row in rows]))}
