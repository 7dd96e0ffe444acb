"""Which small runs tell most about the best context length of a corpus, in the hours that there are.

A pilot is a grid: training sizes, each half of the next one, context lengths by factors of 2, and seeds. Its model, its
schedule and its lengths follow from rules of thumb, stated here; what is advised follows from its runs alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

SHAPES = ((5, 7, 3), (5, 6, 2), (4, 5, 2), (4, 5, 1), (3, 4, 1))  # sizes, lengths, seeds: the richest grid first
REACH = 4           # a richer grid may cost so many times of the largest size that a poorer one could have
WINDOWS = 32        # windows of the longest length that the smallest size has at least
PASSES = 24         # over its training tokens, that a run may take, unless others are asked for
STEPS = 300         # steps that it may take then at least, however many passes they are
EVALUATIONS = 40    # of a run that takes all its steps
PATIENCE = 8        # evaluations without a lower loss, after which a run ends
TOKENS_AN_ENTRY = 10  # training tokens of the smallest size for each entry of the vocabulary, at least
MANTISSAS = (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8)  # of training sizes: a half of each is one too

LEAST_WINDOWS = 8   # of a step at the longest length
VALIDATION_WINDOWS = 8  # of the longest length that the validation text has at least


class Model(NamedTuple):
    """The model of a pilot that has so many hours of all its slots at least; `shortest` is the shortest context length
    that is considered, and the longest has LEAST_WINDOWS windows in a step."""
    hours: float
    shortest: int
    n_layer: int
    n_head: int
    n_embd: int
    tokens_per_step: int
    learning_rate: float
    eval_tokens: int
    full_context_targets: int

    @property
    def flags(self):
        """Those of train.py."""
        own = {name: value for name, value in self._asdict().items() if name not in ("hours", "shortest")}
        return {**own, "min_lr": round(self.learning_rate / 10, 9)}


MODELS = {"cuda": (Model(1.0, 32, 6, 12, 768, 65_536, 6e-4, 524_288, 1024),  # the paper's
                   Model(0.0, 32, 4, 4, 256, 32_768, 1e-3, 262_144, 1024)),
          "cpu": (Model(8.0, 8, 4, 4, 128, 8192, 2e-3, 32_768, 256),
                  Model(0.0, 8, 2, 2, 64, 4096, 3e-3, 16_384, 256))}


class Pilot(NamedTuple):
    """A planned grid; seconds: at most, on all slots; slot_seconds: of one slot that does all runs."""
    sizes: tuple
    lengths: tuple
    seeds: int
    seconds: float
    slot_seconds: float


class Limits(NamedTuple):
    """What a pilot has to keep to: tokens of the corpus, of the training that is planned (the target) and of the
    smallest size, seconds, and runs at once."""
    corpus_tokens: int
    target_tokens: float
    least_size: int
    seconds: float
    slots: int


def model_for(device, slot_hours):
    """The Model for a kind of device ("cpu", "cuda") and the hours of all slots together."""
    return next(model for model in MODELS[device] if slot_hours >= model.hours)


def hours_of_larger_model(device, hours, slots):
    """From how many hours on a pilot on so many slots has a larger model than with these; infinity if with none."""
    return min((model.hours / slots for model in MODELS[device] if model.hours > hours * slots), default=math.inf)


def schedule(size, tokens_per_step, passes):
    """train.py's flags for so many training tokens: `passes` over them at most, the rate falling until their end."""
    steps = math.ceil(passes * max(STEPS / PASSES, size / tokens_per_step))
    return {"max_iters": steps, "lr_decay_iters": steps, "warmup_iters": math.ceil(steps / 20),
            "eval_interval": math.ceil(steps / EVALUATIONS), "patience": PATIENCE}


def usual_optimum(size):
    """About where the best length of so many training tokens has been in this repository and the paper (Fig. 15): 50
    to 130 tokens at 50,000, 200 at 400,000, 1,000 to 2,000 at 20 million. It only places the grid."""
    return 0.3 * math.sqrt(size)


def candidate_lengths(shortest, tokens_per_step, validation_tokens):
    """Context lengths by factors of 2 that a step and the validation text have windows enough of."""
    most = min(tokens_per_step // LEAST_WINDOWS, validation_tokens // VALIDATION_WINDOWS)
    lengths = [shortest * 2**power for power in range(32) if shortest * 2**power <= most]
    return [length for length in lengths if tokens_per_step % length == 0]


def round_sizes(most):
    """The training sizes that are considered, descending."""
    found = (round(mantissa * 10**power) for power in range(14, 1, -1) for mantissa in reversed(MANTISSAS))
    return [size for size in found if size <= most]


def lengths_around(sizes, lengths, count):
    """`count` of the ascending lengths, around the usual optimum of the largest size (of an even count one more below
    it); None where the smallest size has too few windows of them."""
    allowed = [length for length in lengths if WINDOWS * length <= sizes[0]]
    if len(allowed) < count:
        return None
    usual = usual_optimum(sizes[-1])
    nearest = min(range(len(allowed)), key=lambda index: abs(math.log(allowed[index] / usual)))
    first = min(max(nearest - count // 2, 0), len(allowed) - count)
    return tuple(allowed[first:first + count])


def costed(sizes, lengths, seeds, run_seconds, slots):
    """The Pilot of these sizes, lengths and seeds.

    run_seconds(length, size): of one run at most. However the runs are ordered, the slots end after
    (all - longest) / slots + longest, in seconds (Graham's bound).
    """
    seconds = [run_seconds(length, size) for size in sizes for length in lengths]
    total, longest = seeds * sum(seconds), max(seconds)
    return Pilot(tuple(sizes), tuple(lengths), seeds, (total - longest) / slots + longest, total)


def grid(largest, shape, lengths, run_seconds, slots):
    """The Pilot of a shape with this largest size; None where its smallest size has too few windows."""
    count, n_lengths, seeds = shape
    sizes = tuple(round(largest / 2**power) for power in range(count - 1, -1, -1))
    chosen = lengths_around(sizes, lengths, n_lengths)
    return chosen and costed(sizes, chosen, seeds, run_seconds, slots)


def grids(shape, lengths, run_seconds, limits):
    """The Pilots of a shape that corpus and lengths allow, the largest first. The target is a limit too, but for the
    smallest of them."""
    least = limits.least_size * 2**(shape[0] - 1)
    sizes = [size for size in round_sizes(limits.corpus_tokens) if size >= least]
    found = [grid(size, shape, lengths, run_seconds, limits.slots) for size in sizes]
    found = [pilot for pilot in found if pilot]
    return [pilot for pilot in found if pilot.sizes[-1] <= limits.target_tokens] or found[-1:]


def plan(lengths: list, run_seconds: Callable, limits: Limits, shapes=SHAPES):
    """The Pilot to run, or None where not even the last shape fits the limits.

    Of each shape the one with the largest size that fits; then the richest shape whose largest size is at least 1 in
    REACH of the largest of all: a law that is to be extrapolated needs a large size, and a grid that shows its form.
    """
    fitting = [next((pilot for pilot in grids(shape, lengths, run_seconds, limits)
                     if pilot.seconds <= limits.seconds), None) for shape in shapes]
    fitting = [pilot for pilot in fitting if pilot]
    reach = max((pilot.sizes[-1] for pilot in fitting), default=0)
    return next((pilot for pilot in fitting if REACH * pilot.sizes[-1] >= reach), None)


def least_pilot(lengths, run_seconds, limits, shapes=SHAPES):
    """The cheapest Pilot of the last shape, whatever it takes; None where the corpus is too small for it."""
    return min(grids(shapes[-1], lengths, run_seconds, limits._replace(target_tokens=math.inf)),
               key=lambda pilot: pilot.seconds, default=None)


def least_tokens(lengths, least_size, shapes=SHAPES):
    """Training tokens that a corpus needs for the last shape."""
    smallest = max(least_size, WINDOWS * sorted(lengths)[shapes[-1][1] - 1])
    return min(size for size in round_sizes(math.inf) if size >= smallest * 2**(shapes[-1][0] - 1))
