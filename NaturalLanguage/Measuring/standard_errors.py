"""Standard errors of means over values that depend on each other within clusters: documents, contexts."""

import numpy as np


def clustered_error(values, clusters):
    """Standard error of the mean of values (n,), of which those of one cluster (n,) count as dependent.

    The root of the sum over clusters of their summed deviations squared, over n. None below two clusters: one says
    nothing about the spread.
    """
    values, (_, owner) = np.asarray(values, float), np.unique(clusters, return_inverse=True)
    if owner.max() < 1:
        return None
    return float(np.sqrt((np.bincount(owner, values - values.mean())**2).sum()) / len(values))
