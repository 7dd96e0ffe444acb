"""Rotary positions of any model beyond its trained length, by name: none, linear, ntk, dynamic, yarn."""

import json
import math

from utils import fail

NAMES = ("none", "linear", "ntk", "dynamic", "yarn")
# What each kind needs and what it may have besides, as transformers names it: numbers, but for LISTS and truncate.
LENGTH = "original_max_position_embeddings"
KEYS = {**dict.fromkeys(("none", "linear", "ntk", "dynamic"), (("factor",), ())),
        "yarn": (("factor",), (LENGTH, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
                               "truncate")),
        "llama3": (("factor", "low_freq_factor", "high_freq_factor"), (LENGTH,)),
        "longrope": (("short_factor", "long_factor"), ("factor", "attention_factor", LENGTH)),
        "default": ((), ()), "proportional": ((), ("factor",))}
OF_ALL = ("rope_theta", "partial_rotary_factor")
LISTS = ("short_factor", "long_factor")
MOST = 1e6  # times that texts may get longer
OF_TRAINED_LENGTH = ("yarn", "longrope", "llama3")  # kinds that depend on the trained length


def read_scaling(scaling, factor):
    """What --rope_scaling and --rope_factor say, as transformers names it (and "none", and static NTK, "ntk")."""
    if scaling in NAMES:
        change = {"rope_type": scaling, "factor": factor}
    elif factor is not None:
        fail(f"--rope_factor goes with --rope_scaling {', '.join(NAMES)}")
    else:
        try:
            change = json.loads(scaling)
            change["rope_type"] = change.pop("type", None) or change["rope_type"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            fail(f"--rope_scaling {scaling} is neither one of {', '.join(NAMES)} nor JSON such as "
                 "'{\"rope_type\": \"linear\", \"factor\": 2.0}'")
    refuse_faults(change, scaling)
    return change


def fits(name, value):
    """Whether a value is of the type of its key."""
    if name in LISTS:
        return isinstance(value, list) and all(fits("factor", number) for number in value)
    return isinstance(value, bool) if name == "truncate" else type(value) in (int, float) and 0 < value < math.inf


def refuse_faults(change, scaling):
    """Exit with code 2 where what --rope_scaling says has not the keys and values of its kind."""
    kind = change["rope_type"]
    if not isinstance(kind, str) or kind not in KEYS:
        fail(f"--rope_scaling {scaling}: there is no kind {kind}; known are {', '.join(KEYS)}")
    needed, possible = KEYS[kind]
    if "factor" in needed and not (fits("factor", change.get("factor")) and 1 <= change["factor"] <= MOST):
        fail(f"--rope_scaling {scaling} needs a factor of at least 1 (--rope_factor), of at most {MOST:g}: how many "
             "times longer texts get")
    known = f"{kind} needs {', '.join(needed) or 'nothing'}, and may have {', '.join((*possible, *OF_ALL))}"
    for name in (*change, *needed):
        if name not in (*needed, *possible, *OF_ALL, "rope_type"):
            fail(f"--rope_scaling {scaling}: {name} is not known; {known}")
        given = name in needed or change[name] is not None
        if name != "rope_type" and given and not fits(name, change.get(name)):
            fail(f"--rope_scaling {scaling}: {name} cannot be {json.dumps(change.get(name))}; {known}")
    if kind == "llama3" and change["high_freq_factor"] <= change["low_freq_factor"]:
        fail(f"--rope_scaling {scaling}: high_freq_factor must be above low_freq_factor")


def rotary_dimensions(config):
    """How many dimensions of each head turn."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(width * config.rope_parameters.get("partial_rotary_factor", 1.0))


def stretch(config, name, scaling, factor=None):
    """Change the rotary positions in a configuration, merged into what it says of them (base, share of a head).

    none leaves them as they are, and ntk takes another base, theta s^(d / (d - 2)) for d rotary dimensions, at every
    length; both are transformers' default kind, of a configuration that names a longer limit. dynamic does so beyond
    the trained length alone and according to the length, with s = factor l / trained - factor + 1: factor 1 is as much
    as the length needs. Exits with code 2 where that cannot be had, and where a name would replace positions that the
    model was trained to have.
    """
    change = read_scaling(scaling, factor)
    if not getattr(config, "rope_parameters", None):
        fail(f"{name} has no rotary positions, --rope_scaling does not apply to it")
    if "rope_type" not in config.rope_parameters:
        fail(f"{name} has rotary positions of several kinds, --rope_scaling does not apply to it")
    for key in LISTS:
        if key in change and len(change[key]) != rotary_dimensions(config) // 2:
            fail(f"--rope_scaling: {key} has {len(change[key])} numbers, {name} turns {rotary_dimensions(config) // 2} "
                 "pairs of dimensions")
    if change["rope_type"] in OF_TRAINED_LENGTH:
        change.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    former = config.rope_parameters
    if scaling in NAMES and scaling != "none" and former["rope_type"] not in ("default", scaling):
        fail(f"{name} has {former['rope_type']} positions already, which --rope_scaling {scaling} would replace; give "
             "JSON to do so")
    if change["rope_type"] in ("none", "ntk"):
        d, s = rotary_dimensions(config), float(change.pop("factor"))
        config.max_position_embeddings = int(config.max_position_embeddings * s)
        change = {} if change["rope_type"] == "none" else {"rope_theta": former["rope_theta"] * s ** (d / (d - 2))}
    config.rope_parameters = {**former, **change}
