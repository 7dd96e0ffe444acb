"""The files of hidden states that save_mid_features.py writes: which there are, and what they hold."""

from pathlib import Path

import torch

from files import load_tensors
from utils import fail, say

ROWS_AT_ONCE = 1024


def context_length_of(path):
    """The context length in the name of a feature_tensors_seq_{l}.pt."""
    return int(path.stem.rpartition("_")[2])


def feature_files(directory):
    """{context length: path} of the feature_tensors_seq_{l}.pt in a directory; exits with code 2 if there are none."""
    found = {context_length_of(path): path for path in Path(directory).glob("feature_tensors_seq_*.pt")
             if path.stem.rpartition("_")[2].isdigit()}
    if not found:
        fail(f"there are no feature_tensors_seq_*.pt in {directory}; make them with save_mid_features.py")
    return dict(sorted(found.items()))


def load_features(path):
    """Features (n, width) of a file of save_mid_features.py and what else it says; exits with code 2 if unusable.

    "dtype" says in which precision the model computed them; a file without it is taken at its tensor's own.
    """
    contents = load_tensors(path, "the features file", mmap=True, kind=(dict, torch.Tensor))
    contents = contents if isinstance(contents, dict) else {"features": contents}
    features = contents.pop("features", None)
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) < 2:
        fail(f'{path} has no "features" of shape (n, width); make it with save_mid_features.py')
    if not features.is_floating_point():
        fail(f"{path} has features that are {features.dtype}, not floating-point numbers; make it again with "
             "save_mid_features.py")
    if not all(block.isfinite().all() for block in features.split(ROWS_AT_ONCE)):
        fail(f"{path} has features that are not finite; save them again with --dtype float32 (or bfloat16)")
    if "dtype" not in contents:
        contents["dtype"] = str(features.dtype).removeprefix("torch.")
        say(f"{path} does not say in which precision the model computed them; taken for {contents['dtype']}, that of "
            "the file")
    if not getattr(getattr(torch, contents["dtype"], None), "is_floating_point", False):
        fail(f'{path} says "dtype": {contents["dtype"]}, which is no floating-point type of torch')
    return features, contents
