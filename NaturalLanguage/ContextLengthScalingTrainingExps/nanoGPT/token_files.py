"""Token files of data/openwebtext/prepare.py, and the windows that training and validation cut from them.

A token file NAME.bin is one stream of documents, each followed by the end-of-text token, in NAME.json's dtype; windows
cross documents. A window of context length l is l inputs and, one further, their l targets.
"""

from pathlib import Path

import numpy as np
import torch

from files import identity
from prepared import describe, open_tokens, take
from utils import fail


class TokenFile:
    """Tokens of a .bin file: `tokens` (memory map), `about` (the JSON beside it).

    n_tokens: so many of them, the first ones or, with a seed, those from an offset on that follows from it, in a ring.
    Exits with code 2 if the file is missing, cut short, shorter than asked for, or holds ids beyond its vocabulary.
    """

    def __init__(self, path, n_tokens=None, seed=None):
        self.path = path = Path(path)
        self.about, self.identity = describe(path)
        tokens, self.vocabulary_size = open_tokens(path, self.about), self.about["vocabulary_size"]
        self.tokenizer = path.parent / self.about["tokenizer"].get("file", "")
        if not self.tokenizer.is_file():
            fail(f"{self.tokenizer}, the tokenizer of {path.name}, is missing; it belongs beside the tokens")
        if n_tokens is not None and n_tokens > len(tokens):
            fail(f"{path} has {len(tokens)} tokens, fewer than the {n_tokens} asked for; ask for fewer or prepare more")
        if identity(self.tokenizer) != self.identity["tokenizer_sha256"]:
            fail(f"{self.tokenizer} is not the tokenizer of {path.name}, or cut short; make them again with prepare.py "
                 "--overwrite")
        self.tokens = take(tokens, n_tokens, seed, self.about.get("window", 1))
        highest = int(self.tokens.max())
        if highest >= self.vocabulary_size:
            fail(f"{path} holds the token {highest}, beyond its vocabulary of {self.vocabulary_size}; make it again")


class TrainingWindows:
    """Windows for training, a function of (seed, index in an endless sequence) alone.

    In an epoch the stream is taken as a ring, cut into windows from a random token on, and the windows are shuffled:
    each epoch shows every token once as a target (but for a remainder below one window), at another position in its
    window than the epoch before. packed: tokens of the windows of data/mix.py, which are not cut elsewhere.
    """

    def __init__(self, tokens, context_length, seed, packed=1):
        if packed > 1 and (len(tokens) % packed or packed % context_length):
            fail(f"these tokens are packed in windows of {packed}: --context_length must divide it, and {len(tokens)} "
                 "training tokens must be a multiple of it (--train_tokens)")
        if len(tokens) <= context_length:
            fail(f"a context length of {context_length} needs more than the {len(tokens)} tokens of the training set; "
                 "choose a shorter one or more data")
        self.tokens, self.context_length, self.seed, self.packed = tokens, context_length, seed, packed
        self.per_epoch = len(tokens) // context_length
        self.epoch = None

    def starts(self, windows):
        """First tokens of windows (a range of indices in the endless sequence): int64 (len(windows),)."""
        starts = []
        for window in windows:
            epoch, index = divmod(window, self.per_epoch)
            if epoch != self.epoch:
                generator = np.random.default_rng([self.seed, epoch])
                self.epoch = epoch
                self.offset = int(generator.integers(len(self.tokens))) // self.packed * self.packed
                self.order = generator.permutation(self.per_epoch)
            starts.append(self.offset + int(self.order[index]) * self.context_length)
        return np.array(starts)

    def batch(self, windows):
        """Inputs and targets, int64 (len(windows), context_length) each, of a range of windows."""
        return cut(self.tokens, self.starts(windows), self.context_length)


def cut(tokens, starts, context_length):
    """Inputs and targets, int64 (len(starts), context_length) each, of the windows that begin at `starts` in a ring."""
    indices = starts[:, None] + np.arange(context_length + 1)
    rows = torch.from_numpy(np.take(tokens, indices, mode="wrap").astype(np.int64))
    return rows[:, :-1], rows[:, 1:]


def validation_starts(tokens, eval_tokens, context_length):
    """Starts of windows that score the tokens 1 ... eval_tokens once each, at every context length that divides it."""
    if eval_tokens % context_length:
        fail(f"--eval_tokens {eval_tokens} is not a multiple of the context length {context_length}; the same target "
             f"tokens at all context lengths need a multiple of each, here {eval_tokens // context_length or 1} x "
             f"{context_length} = {(eval_tokens // context_length or 1) * context_length}")
    if len(tokens) <= eval_tokens:
        most = (len(tokens) - 1) // context_length * context_length
        fail(f"the validation set has {len(tokens)} tokens, --eval_tokens {eval_tokens} needs one more than it says; "
             + (f"--eval_tokens {most} is the most for this context length" if most else
                f"a context length of {context_length} needs more data"))
    return np.arange(0, eval_tokens, context_length)


def full_context_starts(tokens, n_targets, context_length, packed=1):
    """Starts of windows whose last target is the same token at every context length.

    The targets are spread evenly over the second half of the stream, so that each has the longest context before it.
    In tokens that are packed (data/mix.py) each lies at a random place of its even part, or all could lie at one place
    of their windows.
    """
    first = len(tokens) // 2
    if context_length > first:
        fail(f"a context length of {context_length} needs at least {2 * context_length} tokens of validation, there "
             f"are {len(tokens)}; choose a shorter one or prepare more")
    if n_targets > len(tokens) - first:
        fail(f"--full_context_targets {n_targets} needs as many tokens in half of the validation set, there are "
             f"{len(tokens) - first}; ask for fewer")
    edges = first + np.arange(n_targets + 1) * (len(tokens) - first) // n_targets
    targets = edges[:-1] if packed == 1 else np.random.default_rng(0).integers(edges[:-1], edges[1:])
    return targets - context_length
