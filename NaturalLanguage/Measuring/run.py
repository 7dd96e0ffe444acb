"""The directory of a measurement: one model on the chunks of one corpus, at several context lengths. It holds

    measurement.json              "request": what is measured (model, precision, chunks); and on which hardware
    losses.pt                     {"losses": {l: float64 (n,)}, "documents": int32 (n,), "request": as above}
    cross_entropy.csv             from it, one row a context length: means, standard errors, differences
    feature_tensors_seq_{l}.pt    {"features": float32 (n, width), "losses", "documents", "dtype", "layer", "request"}

and what is made from the features: spectra.pt, measures.csv; at the end measure_model.py's final.json. Files are
replaced after each context length; one that is there with as many chunks, or more, is not measured again. --overwrite
deletes all of them.
"""

import os

import torch

from files import (begins_anew, difference, load_json, load_tensors, lock, make_directory, same_request, save_json,
                   save_tensors, write_csv)
from settings import MADE
from standard_errors import clustered_error
from utils import fail

COLUMNS = ("context_length", "n_chunks", "n_documents", "cross_entropy", "standard_error", "difference",
           "difference_standard_error")
REPLACE = "add --overwrite to replace it (measure.sh has none: delete it), or choose another --out_dir"


def table_rows(losses, documents):
    """The rows of cross_entropy.csv from losses {context length: float64 (n,)} and documents (n,).

    `difference` is the cross entropy minus that of the next shorter context length, over the chunks that both have.
    """
    rows, shorter = [], None
    for length in sorted(losses):
        values = losses[length]
        row = {"context_length": length, "n_chunks": len(values),
               "n_documents": len(documents[:len(values)].unique()), "cross_entropy": values.mean().item(),
               "standard_error": clustered_error(values, documents[:len(values)])}
        if shorter is not None:
            both = min(len(values), len(shorter))
            gap = values[:both] - shorter[:both]
            row["difference"] = gap.mean().item()
            row["difference_standard_error"] = clustered_error(gap, documents[:both])
        rows.append(row)
        shorter = values
    return rows


class Run:
    """A measurement's directory, what it is of (`request`), and which context lengths are there."""

    def __init__(self, directory, request):
        self.directory, self.request = make_directory(directory), request
        self.losses, self.documents, self.environment = {}, torch.zeros(0, dtype=torch.int32), None

    def lock(self):
        """Hold the directory; exits with code 2 if another process has it."""
        return lock(self.directory / "lock")

    def features_path(self, context_length):
        return self.directory / f"feature_tensors_seq_{context_length}.pt"

    def refuse_other(self, contents, path):
        """Exit with code 2 if a file's contents are of something else than this request, naming the difference."""
        stored = contents.get("request") if isinstance(contents, dict) else None
        if not isinstance(stored, dict):
            fail(f"{path} does not say what it is a measurement of (an older version wrote it); {REPLACE}")
        if other := difference(stored, self.request):
            fail(f"{self.directory} holds a measurement with {other}; {REPLACE}")

    def open(self, environment, overwrite=False, features=False, layer=None):
        """Take up what is there, or with `overwrite` remove it, but once in the lives of a requeued Slurm job.

        Exits with code 2 if it is something else, or if `features` are wanted and those of another layer are there.
        """
        self.environment = environment
        about, losses = self.directory / "measurement.json", self.directory / "losses.pt"
        for path in self.directory.glob("*.tmp"):  # what a killed process was writing
            path.unlink()
        if begins_anew(overwrite, about):
            for path in (self.directory / "final.json", *self.directory.glob("feature_tensors_seq_*.pt"),
                         *(self.directory / name for name in MADE), losses, about):
                path.unlink(missing_ok=True)
        if about.exists():
            self.refuse_other(load_json(about, "the description of the measurement"), about)
        if losses.exists():
            stored = load_tensors(losses, "losses")
            self.refuse_other(stored, losses)
            self.losses, self.documents = stored["losses"], stored["documents"]
        for path in self.directory.glob("feature_tensors_seq_*.pt") if features else ():
            stored = load_tensors(path, "the features", mmap=True).get("layer")
            if stored != layer:
                fail(f"{path} is of --layer {stored}, not {layer}; {REPLACE}")

    def has(self, context_length, n, features=False):
        """Whether n chunks or more have been measured at a context length, with their features if asked."""
        if len(self.losses.get(context_length, ())) < n:
            return False
        path = self.features_path(context_length)
        if not features or not path.exists():
            return not features
        saved = load_tensors(path, "the features", mmap=True)
        return same_request(saved.get("request"), self.request) and len(saved["losses"]) >= n

    def save(self, context_length, losses, documents, features=None, layer=None):
        """Write what was measured at a context length, features first: losses without them are a smaller result.

        losses: float64 (n,); documents: (n,) of the same chunks; features: (n, width) or None.
        """
        save_json(self.directory / "measurement.json", {"request": self.request, "environment": self.environment,
                                                        "slurm_job": os.environ.get("SLURM_JOB_ID")})
        if features is not None:
            save_tensors(self.features_path(context_length), {
                "features": features, "losses": losses, "documents": documents.int(), "context_length": context_length,
                "layer": layer, "dtype": self.request["dtype"], "model_name": self.request["model_name"],
                "request": self.request})
        if len(losses) >= len(self.losses.get(context_length, ())):
            self.losses[context_length] = losses
        if len(documents) > len(self.documents):
            self.documents = documents.int()
        save_tensors(self.directory / "losses.pt", {"losses": dict(sorted(self.losses.items())),
                                                    "documents": self.documents, "request": self.request})
        self.write_table()

    def write_table(self):
        """Write cross_entropy.csv from the losses that are there."""
        write_csv(self.directory / "cross_entropy.csv", table_rows(self.losses, self.documents), COLUMNS)
