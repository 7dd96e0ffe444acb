"""The one decomposition of hidden states from which spectra, dimensions and entropies follow (paper section 2).

Moments are summed and the covariance is decomposed in float64. A direction (an eigenvector of the covariance) counts if
its variance exceeds what rounding alone puts there, so that the rank does not depend on the precision that the model
was run in: behind a LayerNorm, one direction never varies, but rounding fills it.

The spectra of a measurement are one file, spectra.pt: {context length: {"eigenvalues": float64 (width,), largest first,
"rank": the directions that count, "n": samples, "request": what they were made from}}.
"""

from pathlib import Path
from typing import NamedTuple

import torch

from features import ROWS_AT_ONCE
from files import load_tensors, same_request, save_tensors


class Decomposition(NamedTuple):
    """Mean (width,), eigenvalues (width,) and eigenvectors (width, width; columns) of a covariance, largest first.

    All float64, on one device. `rank` directions count, the first ones; n is the number of samples.
    """
    mean: torch.Tensor
    eigenvalues: torch.Tensor
    eigenvectors: torch.Tensor
    rank: int
    n: int


def moments(features, device):
    """Mean (width,), covariance (width, width; divisor n - 1) and mean square of features (n, width), in float64."""
    n, width = features.shape
    mean = torch.zeros(width, dtype=torch.float64, device=device)
    squares = torch.zeros((), dtype=torch.float64, device=device)
    for block in features.split(ROWS_AT_ONCE):
        block = block.to(device, torch.float64)
        mean += block.sum(dim=0)
        squares += block.square().sum()
    mean /= n
    covariance = torch.zeros(width, width, dtype=torch.float64, device=device)
    for block in features.split(ROWS_AT_ONCE):
        centred = block.to(device, torch.float64) - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / (n - 1), squares.item() / (n * width)


def rounding_variance(mean_square, largest, width, dtype):
    """The variance up to which a direction is rounding alone: the tolerance of the rank.

    (eps/2)^2 times the mean square bounds the rounding of features in the type `dtype` that they were computed in;
    width (eps32/2)^2 times it, that of the sum of `width` float32 numbers inside the last norm; and an eigenvalue is
    resolved to width eps64 times the largest.
    """
    eps, eps32, eps64 = (torch.finfo(kind).eps for kind in (dtype, torch.float32, torch.float64))
    return max(((eps / 2) ** 2 + width * (eps32 / 2) ** 2) * mean_square, width * eps64 * largest)


def decompose(features, dtype, device="cpu"):
    """The Decomposition of features (n, width) that were computed in the type named `dtype` ("bfloat16").

    Raises ValueError for fewer than 2 samples.
    """
    if len(features) < 2:
        raise ValueError(f"{len(features)} samples have no covariance")
    mean, covariance, mean_square = moments(features, device)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.flip(0).clamp(min=0)
    tolerance = rounding_variance(mean_square, values[0].item(), len(values), getattr(torch, dtype))
    return Decomposition(mean, values, vectors.flip(1), int((values > tolerance).sum()), len(features))


def load_spectra(directory):
    """{context length: entry} of DIRECTORY/spectra.pt, in order; empty if there is none. Exits with code 2 if cut."""
    path = Path(directory) / "spectra.pt"
    return dict(sorted(load_tensors(path, "the spectra").items())) if path.exists() else {}


def spectrum_request(features_identity):
    """What a spectrum is made from."""
    return {"features_sha256": features_identity}


def is_current(spectra, context_length, request):
    """Whether the spectrum of a context length is there and was made by this request."""
    return context_length in spectra and same_request(spectra[context_length]["request"], request)


def save_spectrum(directory, context_length, decomposition, request):
    """Put the spectrum of a context length into DIRECTORY/spectra.pt."""
    spectra = load_spectra(directory)
    spectra[context_length] = {"eigenvalues": decomposition.eigenvalues.cpu(), "rank": decomposition.rank,
                               "n": decomposition.n, "request": request}
    save_tensors(Path(directory) / "spectra.pt", dict(sorted(spectra.items())))
