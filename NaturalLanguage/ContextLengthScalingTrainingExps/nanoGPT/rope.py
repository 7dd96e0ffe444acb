"""Rotary positions beyond the length of training: interpolation, static NTK and YaRN, as transformers defines them.

A configuration is a dictionary: rope_type (linear, ntk, yarn), factor (how many times longer the text may get) and, for
yarn, original_max_position_embeddings (the length of training). Base 10,000; d is the number of rotary dimensions.
"""

import math

import torch


THETA = 10_000.0  # base of the frequencies
FAST, SLOW = 32, 1  # YaRN: turns within the original length above which a frequency is kept, below which interpolated


def scale_frequencies(frequencies, rope_type, factor, original_max_position_embeddings=None):
    """Frequencies (d / 2,) of a rope type, from those of training, and the factor of cosines and sines.

    linear: all divided by the factor (position interpolation). ntk: base times factor^(d / (d - 2)), which leaves the
    highest frequency and divides the lowest by the factor. yarn: between the two, by the turns that a frequency makes
    within the original length; cosines and sines times 0.1 ln(factor) + 1.
    """
    dims = 2 * len(frequencies)
    if rope_type == "linear":
        return frequencies / factor, 1.0
    index = torch.arange(dims // 2, device=frequencies.device, dtype=torch.float32)
    if rope_type == "ntk":
        return frequencies * factor ** (-2 * index / (dims - 2)), 1.0

    def dimension(turns):
        return dims * math.log(original_max_position_embeddings / (2 * math.pi * turns)) / (2 * math.log(THETA))

    low, high = max(math.floor(dimension(FAST)), 0), min(math.ceil(dimension(SLOW)), dims - 1)
    interpolated = ((index - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    return frequencies * (1 - interpolated + interpolated / factor), 0.1 * math.log(factor) + 1.0


def rope_parameters(rope, dims):
    """The rope_parameters of transformers' GPT-NeoX for a configuration (or None): static NTK is another base there."""
    parameters = {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.5}
    if rope is None:
        return parameters
    if rope["rope_type"] == "ntk":
        return {**parameters, "rope_theta": THETA * rope["factor"] ** (dims / (dims - 2))}
    return {**parameters, **rope}
