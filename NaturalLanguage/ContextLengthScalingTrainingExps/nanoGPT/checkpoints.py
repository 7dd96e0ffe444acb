"""Checkpoints of a run, of which the last two are kept: written in a thread, whole or not at all, seldom enough."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from files import read_tensors, replacing
from utils import fail, say

WRITING_SHARE = 0.02  # of the time, at most, for copying and writing them


def snapshot(value):
    """A copy on the CPU of nested dictionaries, lists and tuples with tensors, which no training changes."""
    import torch
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: snapshot(entry) for name, entry in value.items()}
    return type(value)(map(snapshot, value)) if isinstance(value, (list, tuple)) else value


class Checkpoints:
    """The last two checkpoints of a directory, written by a thread while training goes on."""

    def __init__(self, directory, least_seconds):
        self.last, self.previous = directory / "ckpt_last.pt", directory / "ckpt_prev.pt"
        self.least_seconds, self.thread, self.writing = least_seconds, ThreadPoolExecutor(1), None
        self.next_at = time.monotonic() + least_seconds

    def write(self, contents):
        """Write ckpt_last.pt, the former one becoming ckpt_prev.pt; a full disk costs neither."""
        import torch
        began = time.monotonic()
        with replacing(self.last) as temporary:
            with open(temporary, "wb") as file:
                torch.save(contents, file)
                file.flush()
                os.fsync(file.fileno())
            if self.last.exists():
                os.replace(self.last, self.previous)
        return time.monotonic() - began

    def are_due(self):
        """Whether it is time for another one: the last is written, and cost a small share of the time since."""
        if self.writing is not None and self.writing.done():
            self.wait()
        return self.writing is None and time.monotonic() >= self.next_at

    def start(self, contents):
        """Copy the contents and let the thread write them, once it has written those before."""
        self.wait()
        began = time.monotonic()
        copied = snapshot(contents)
        self.copy_seconds = time.monotonic() - began
        self.writing = self.thread.submit(self.write, copied)

    def wait(self):
        """Until the thread has written; its failure ends the program here."""
        if self.writing is not None:
            cost, self.writing = self.copy_seconds + self.writing.result(), None
            self.next_at = time.monotonic() + max(self.least_seconds, cost / WRITING_SHARE)

    def load(self, device):
        """The last whole checkpoint, or None if there has been none; says so when it had to take the one before.

        Exits with code 2 if there are only damaged ones.
        """
        paths = [path for path in (self.last, self.previous) if path.exists()]
        for path in paths:
            contents = read_tensors(path, device)
            if contents is not None:
                return contents
            say(f"{path} is damaged and not used")
        if paths:
            fail(f"no checkpoint in {self.last.parent} is whole; add --overwrite to begin again")
        return None

    def remove(self):
        for path in (self.last, self.previous):
            path.unlink(missing_ok=True)
