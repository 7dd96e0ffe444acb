"""Rotary positions of any model beyond its trained length, by name: none, linear, ntk, dynamic, yarn."""

import json

from utils import fail

NAMES = ("none", "linear", "ntk", "dynamic", "yarn")
OF_LENGTH = ("yarn", "longrope", "llama3")  # kinds that depend on the trained length


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
        except (ValueError, TypeError, KeyError, AttributeError):
            fail(f"--rope_scaling {scaling} is neither one of {', '.join(NAMES)} nor JSON such as "
                 "'{\"rope_type\": \"linear\", \"factor\": 2.0}'")
    if change["rope_type"] in NAMES and not (isinstance(change.get("factor"), int | float) and change["factor"] >= 1):
        fail(f"--rope_scaling {scaling} needs a factor of at least 1 (--rope_factor): how many times longer texts get")
    return change


def rotary_dimensions(config):
    """How many dimensions of each head turn."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(width * config.rope_parameters.get("partial_rotary_factor", 1.0))


def stretch(config, name, scaling, factor=None):
    """Change the rotary positions in a configuration, merged into what it says of them (base, share of a head).

    none leaves them as they are, and ntk takes another base, theta s^(d / (d - 2)) for d rotary dimensions, at every
    length; both are transformers' default kind, of a configuration that names a longer limit. dynamic does so beyond
    the trained length alone and according to the length, with s = factor l / trained - factor + 1: factor 1 is as much
    as the length needs. Exits with code 2 where that cannot be had.
    """
    change = read_scaling(scaling, factor)
    if not getattr(config, "rope_parameters", None):
        fail(f"{name} has no rotary positions, --rope_scaling does not apply to it")
    if "rope_type" not in config.rope_parameters:
        fail(f"{name} has rotary positions of several kinds, --rope_scaling does not apply to it")
    if change["rope_type"] in OF_LENGTH:
        change.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    if change["rope_type"] in ("none", "ntk"):
        former, d, s = config.rope_parameters, rotary_dimensions(config), float(change.pop("factor"))
        if former["rope_type"] != "default" and change["rope_type"] == "ntk":
            fail(f"{name} has {former['rope_type']} positions already, --rope_scaling ntk does not apply to it")
        config.max_position_embeddings = int(config.max_position_embeddings * s)
        change = {} if change["rope_type"] == "none" else {"rope_theta": former["rope_theta"] * s ** (d / (d - 2))}
    config.rope_parameters = {**config.rope_parameters, **change}
