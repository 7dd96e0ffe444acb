"""Exponents of power laws, fitted on logarithms."""

from typing import NamedTuple

import numpy as np


class Exponent(NamedTuple):
    """A fitted exponent with its standard error (NaN from two points); printed as both."""
    value: float
    standard_error: float

    def __str__(self):
        error = "" if np.isnan(self.standard_error) else f" +- {self.standard_error:.2f}"
        return f"{self.value:.2f}{error}"


def fit_exponent(lengths, values):
    """The exponent p of values ~ lengths^p by least squares on logarithms; values of 0 or below are left out."""
    x, y = (np.log(np.array(part, float)[np.array(values) > 0]) for part in (lengths, values))
    if len(x) < 2:
        return Exponent(np.nan, np.nan)
    slope, intercept = np.polyfit(x, y, 1)
    if len(x) == 2:
        return Exponent(slope, np.nan)
    residual = y - slope * x - intercept
    return Exponent(slope, np.sqrt(residual @ residual / (len(x) - 2) / ((x - x.mean()) ** 2).sum()))
