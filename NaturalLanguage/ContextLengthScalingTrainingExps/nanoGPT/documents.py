"""Which document each token of a stream belongs to, and windows that read a stream in order.

Both rest on the format of the token files: every document is followed by the end-of-text token, which is its last one.
"""

import numpy as np
import torch

from token_files import TrainingWindows


def end_of_text(token_file):
    """The end-of-text token of a TokenFile, the last one of its file."""
    return int(np.memmap(token_file.path, token_file.tokens.dtype, "r")[-1])


class Documents:
    """Numbers of the documents in a stream (taken as a ring): `ids` gives those of windows."""

    def __init__(self, tokens, end):
        self.length, self.ends = len(tokens), np.flatnonzero(tokens == end)

    def ids(self, starts, context_length):
        """The number of each token's document in the windows that begin at `starts`: int64 (len(starts), l)."""
        positions = (np.asarray(starts)[:, None] + np.arange(context_length)) % self.length
        return torch.from_numpy(np.searchsorted(self.ends, positions))


class SequentialWindows(TrainingWindows):
    """Training windows where row r of each step goes on with the text where row r of the step before ended.

    The rows begin evenly spread over the stream, from an offset on that depends on the seed; the stream is a ring, so
    an epoch shows every token once as a target, but for a remainder below one window a row.
    """

    def __init__(self, tokens, context_length, seed, rows):
        super().__init__(tokens, context_length, seed)
        self.rows, self.offset = rows, int(np.random.default_rng(seed).integers(len(tokens)))

    def starts(self, windows):
        """First tokens of windows (a range of indices in the endless sequence): int64 (len(windows),)."""
        segment, row = np.divmod(np.arange(windows.start, windows.stop), self.rows)
        return (self.offset + row * len(self.tokens) // self.rows + segment * self.context_length) % len(self.tokens)


def rows_in_order(starts, rows):
    """Windows side by side, dealt to rows that each read a stretch in order: yields the starts of each step (rows,).

    The first rows are the longest, so row r of a step goes on with row r of the step before.
    """
    stretches = np.array_split(starts, min(rows, len(starts)))
    for step in range(len(stretches[0])):
        yield np.array([stretch[step] for stretch in stretches if step < len(stretch)])
