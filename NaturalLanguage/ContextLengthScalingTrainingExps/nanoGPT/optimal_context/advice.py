"""What a fit and its pilot say to a person: five lines."""

from dataclasses import dataclass

import numpy as np

from optimal_context.pilot import LEAST_WINDOWS, VALIDATION_WINDOWS
from optimal_context.table import summary

NAMED = 3       # runs that a line names
UNFINISHED = 0.1  # of the runs not at their minimum, above which nothing is believed
MOST_NATS = 10  # no language model is so much worse than another one


@dataclass(frozen=True)
class Setting:
    """What the fit does not know: of the corpus its training and validation tokens, of the pilot its hours, passes,
    tokens of a step, model (words), number of runs and hours from which on it would have a larger model, and the tags
    of the runs whose loss was lowest at the last step."""
    corpus_tokens: int
    valid_tokens: int
    hours: float
    passes: float
    step_tokens: int
    model: str
    runs: int
    hours_of_larger_model: float
    unfinished: tuple = ()


def number(value):
    """A number as people write it: 1,024; 1.6 million; 3 billion."""
    if value < 999_500:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value / 1e6:.3g} million" if value < 999.5e6 else f"{value / 1e9:,.4g} billion"


def end_of_grid(found):
    """The words behind an advised length at an end of the grid, beyond which the optimum may lie; else ""."""
    row, length = found["predictions"][0], advised_length(found)
    ends = [row["lengths"][index]["context_length"] for index in (0, -1)]
    beaten, bound = found["baseline"]["is_better"], row["optimum"]["bound"]
    if length == ends[1] and (beaten or bound == "at least"):
        return " or more"
    return " or less" if length == ends[0] and (beaten or bound == "at most") else ""


def advised_length(found):
    """The length of the pilot's grid to train at with the first predicted size; None where it cannot be told.

    It is the one nearest to the law's optimum, or that of the best plain baseline where this predicts held-out sizes
    better or no effect of the length is seen.
    """
    row = found["predictions"][0]
    entry, lengths = row["optimum"], [cell["context_length"] for cell in row["lengths"]]
    if found["baseline"]["is_better"] or found["no_effect"]:
        return row["baseline_length"]
    near = entry["value"] or entry["estimate"]
    if near is None and entry["bound"]:
        near = lengths[-1] if entry["bound"] == "at least" else lengths[0]
    return None if near is None else min(lengths, key=lambda length: abs(np.log(length / near)))


def in_words(entry, lengths):
    """The law's optimum with its interval: a sentence without its subject; what lies beyond the grid is no number."""
    if entry["value"] is not None:
        return f"is {number(entry['value'])} (95% interval {number(entry['low'])} to {number(entry['high'])})"
    if entry["bound"] == "at least":
        return (f"is at least {number(entry['low'])}; how much longer this pilot, whose lengths end at "
                f"{number(lengths[-1])}, cannot tell")
    if entry["bound"] == "at most":
        return (f"is at most {number(entry['high'])}; how much shorter this pilot, whose lengths begin at "
                f"{number(lengths[0])}, cannot tell")
    return f"cannot be told: it may be anywhere from {number(lengths[0])} to {number(lengths[-1])}, or beyond"


def recommendation(found):
    """The length to train at and the interval of the optimum."""
    row, length = found["predictions"][0], advised_length(found)
    entry, lengths = row["optimum"], [cell["context_length"] for cell in row["lengths"]]
    with_tokens = f"with {number(row['train_tokens'])} training tokens"
    if found["no_effect"]:
        return (f"No effect of the context length is seen in this pilot: {with_tokens} any from {number(lengths[0])} "
                f"to {number(lengths[-1])} may do. If one is to be named, it is {number(length)}, where the losses are "
                f"lowest by a plain baseline ({found['baseline']['name']}).")
    if length is None:
        return f"The best context length {with_tokens} {in_words(entry, lengths)}."
    train = f"Train at a context length of {number(length)}{end_of_grid(found)} {with_tokens}"
    if found["baseline"]["is_better"]:
        return (f"{train}, which is best by a plain baseline ({found['baseline']['name']}) that predicts better than "
                f"the law; by the law the best one {in_words(entry, lengths)}.")
    if entry["value"] is None and entry["estimate"]:
        return f"{train}, the law's best guess; the best one {in_words(entry, lengths)}."
    return f"{train}: the best one {in_words(entry, lengths)}."


def cost_of(row, length):
    """What the length costs against the best one, with its interval, in words."""
    entry = next((cell["cost"] for cell in row["lengths"] if cell["context_length"] == length), None)
    if entry is None:
        lengths = [cell["context_length"] for cell in row["lengths"]]
        return f"is {'not among' if lengths[0] < length < lengths[-1] else 'beyond'} the pilot's lengths"
    high = f"{entry['high']:.3f}" if entry["high"] < MOST_NATS else f"more than {MOST_NATS}"
    return f"costs {entry['value']:.3f} [{entry['low']:.3f}, {high}]"


def neighbours(found):
    """What half and double the advised length cost."""
    row, length = found["predictions"][0], advised_length(found)
    if length is None:
        return "What half or double a length costs cannot be told."
    if found["no_effect"]:
        return (f"What half of it ({number(length / 2)}) or double ({number(2 * length)}) would cost is less than this "
                "pilot can see.")
    best = "best of the pilot's lengths" if row["optimum"]["value"] is None else "best length"
    return (f"By the law, in nats a token above the {best}, half of it ({number(length / 2)}) "
            f"{cost_of(row, length / 2)}, it itself {cost_of(row, length)}, double ({number(2 * length)}) "
            f"{cost_of(row, 2 * length)}.")


def held_out(found):
    """How well sizes are predicted that the law was not fitted to, beside the best plain baseline.

    By nested cross-validation, where there is one: the errors of the law kept are those it was chosen by.
    """
    nested = found["check"].get("nested")
    rows = nested or found["candidates"][found["law"]]
    if not rows:
        return "How well held-out sizes are predicted is not known: the pilot has too few runs to leave a size out."
    own = summary(rows)
    name = found["baseline"]["name"]
    baseline = summary(found["check"]["baselines"][name])
    choice = " chosen from the others" if nested else ""
    return (f"Of {own['sizes']} sizes held out one at a time, the law{choice} found the best length within a step "
            f"at {own['within_one_step']} and missed the losses near it by {own['near_error_rms']:.3f} nats (the best "
            f"plain baseline, {name}: {baseline['within_one_step']} and {baseline['near_error_rms']:.3f}).")


def belief(found, setting):
    """Whether to believe the advice: how far it extrapolates, and the first reason against it."""
    row = found["predictions"][0]
    size, sizes = row["train_tokens"], [cell["train_tokens"] for cell in found["cells"]]
    if min(sizes) <= size <= max(sizes):
        far = f"{number(size)} tokens are within the pilot's sizes"
    else:
        end, factor, tested = (("largest", size / max(sizes), found["supported_extrapolation"]["above"])
                               if size > max(sizes) else
                               ("smallest", size / min(sizes), found["supported_extrapolation"]["below"]))
        far = f"{number(size)} tokens are {number(factor)} times the pilot's {end} size"
        if tested > 1:
            far += f", its own sizes support {number(tested if factor > 1 else 1 / tested)} times"
    reasons = found["reasons"] + row["reasons"][row["too_far"]:]  # how far it is has been said
    if len(setting.unfinished) > UNFINISHED * setting.runs:
        reasons.append(f"{len(setting.unfinished)} of the {setting.runs} runs are not at their minimum")
    answer = "yes" if row["trusted"] and not reasons else "no"
    against = f"; {reasons[0]}" if reasons else ""
    return f"Believe it: {answer}. {far}{against}. Measured with {setting.model}, losses as means over the window."


def more_hours(setting, factor):
    """--hours so many times those of the pilot, and what else they would change."""
    hours = setting.hours * factor
    larger = (f" (from {setting.hours_of_larger_model:g} hours on with a larger model, and so smaller sizes)"
              if hours >= setting.hours_of_larger_model else "")
    return f"--hours {hours:.2g}{larger}"


def remedies(found, setting):
    """What would make the advice surer, the most needed first; [] where nothing is missing."""
    row = found["predictions"][0]
    lengths = [round(cell["context_length"]) for cell in row["lengths"]]
    largest, above = max(cell["train_tokens"] for cell in found["cells"]), found["supported_extrapolation"]["above"]
    needed, added, end = row["train_tokens"] / above, [], "" if found["no_effect"] else end_of_grid(found)
    if setting.unfinished:
        names = ", ".join(setting.unfinished[:NAMED]) + (" ..." if len(setting.unfinished) > NAMED else "")
        count = len(setting.unfinished)
        few = f"{count} runs are not at their" if count > 1 else "1 run is not at its"
        added.append(f"{few} minimum ({names}): --passes {2 * setting.passes:g} (or --max_iters, if you set it), with "
                     f"{more_hours(setting, 2)}")
    if end == " or more":
        longest = 2 * lengths[-1]
        step = ("" if LEAST_WINDOWS * longest <= setting.step_tokens else
                f" --tokens_per_step {LEAST_WINDOWS * longest}")
        if VALIDATION_WINDOWS * longest > setting.valid_tokens:
            step += f", with {number(VALIDATION_WINDOWS * longest)} validation tokens or more (--validation_fraction)"
        added.append(f"longer contexts: --context_lengths {' '.join(map(str, [*lengths, longest]))}{step}")
    if end == " or less" and lengths[0] > 1:
        added.append(f"shorter contexts: --context_lengths {' '.join(map(str, [lengths[0] // 2, *lengths]))}")
    if needed > largest * (1 + 1e-9):
        text = ("" if needed <= setting.corpus_tokens else
                f" and more text than the {number(setting.corpus_tokens)} training tokens of this corpus")
        added.append(f"sizes up to about {number(needed)} tokens: {more_hours(setting, needed / largest)}{text}")
    if not row["trusted"] and not any("--hours" in addition for addition in added) and not end:
        text = " and more text" if 2 * largest > setting.corpus_tokens else ""
        added.append(f"more sizes and seeds: {more_hours(setting, 2)}{text}")
    return added


def additions(found, setting):
    """What to add, in words."""
    added = remedies(found, setting)
    if not added:
        return "To add: nothing is needed; more --hours make the interval narrower."
    return (f"To add: {'; '.join(added)}. With --overwrite it is planned anew, and runs that both plans have are kept; "
            "another model, --passes or --tokens_per_step makes them others.")


def five_lines(found, setting):
    """The advice, of the JSON of fit_optimal_context.py with --check and one predicted size: a list of five lines."""
    return [recommendation(found), neighbours(found), held_out(found), belief(found, setting),
            additions(found, setting)]
