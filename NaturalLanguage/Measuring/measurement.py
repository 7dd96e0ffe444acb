"""A measurement: one model on the chunks of one corpus, at several context lengths. A directory holds it:

    measurement.json              what was measured, how, and on which hardware
    losses_seq_{l}.pt             {"losses": float64 (n,), "documents": (n,), "context_length": l, ...}
    feature_tensors_seq_{l}.pt    {"features": float32 (n, width), "losses": float64 (n,) of the same chunks, ...}
    cross_entropy.csv             one row a context length

Files are written after each context length; a context length that is there with as many chunks is not measured again.
"""

import csv
import os
import sys
import time
from argparse import BooleanOptionalAction
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from chunks import TRIM, load_chunks
from hub import load_tokenizer, revision
from scorer import Scorer, choose_dtype, load_config, load_model, longest_context
from utils import (
    Parser, choose_device, describe_environment, fail, load_json, load_tensors, lock, make_directory, non_negative_int,
    positive_int, replacing, save_json, save_tensors, say,
)

COLUMNS = ("context_length", "n_chunks", "n_documents", "cross_entropy", "standard_error", "difference",
           "difference_standard_error")
# What a measurement is of; two that differ here do not share a directory.
IDENTITY = ("model_name", "model_revision", "dtype", "rope_scaling", "chunks")


def measurement_parser(description):
    """The flags that evaluate_CE.py and save_mid_features.py share."""
    parser = Parser(description)
    add = parser.add_argument
    add("--dataset_path", default="./filtered_dataset", help="data set of prepare_data.py")
    add("--split", help="its split (default: train, or the only one)")
    add("--dataset_column_name", default="text", help="column with the text")
    add("--model_name", default="meta-llama/Llama-3.1-8B", help="hub name or directory of a causal language model")
    add("--n_samples", type=positive_int, help="chunks to measure; fewer than that in the corpus are an error")
    add("--window", type=positive_int, default=2048, help="tokens of a chunk; the last one is the target")
    add("--stride", type=positive_int, help="tokens between chunks (default: the window, so that none overlap)")
    add("--trim", type=non_negative_int, nargs=2, default=list(TRIM), metavar=("FIRST", "LAST"),
        help="tokens dropped at the beginning and the end of a document")
    add("--cache_chunk_file_name", help="file for the chunks (default: a name made from all that they depend on)")
    add("--tokens_per_batch", type=positive_int, default=16_384,
        help="tokens that go through the model at once; halves by itself when memory runs out")
    add("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto",
        help="of the model; auto: bfloat16 on a GPU, float32 on the CPU")
    add("--rope_scaling", help="JSON, as transformers takes it: rotary positions beyond the trained length")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...; under torchrun one GPU a process")
    add("--device_map", choices=("auto",), help="spread a large model over all GPUs (needs accelerate)")
    add("--out_dir", help="directory of the measurement (default: outputs/NAME OF THE MODEL)")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="measure again what is there")
    return parser


def document_standard_error(values, documents):
    """Standard error of the mean of values (n,), clustered: chunks of one document count as dependent."""
    _, owner = torch.unique(documents, return_inverse=True)
    sums = torch.zeros(int(owner.max()) + 1, dtype=torch.float64).index_add_(0, owner, values - values.mean())
    return (sums.square().sum().sqrt() / len(values)).item()


def table_rows(losses, documents):
    """The rows of cross_entropy.csv from losses {context length: float64 (n,)} and documents (n,).

    `difference` is the cross entropy minus that of the next shorter context length, over the chunks that both have.
    """
    rows, shorter = [], None
    for length in sorted(losses):
        mine = losses[length]
        row = {"context_length": length, "n_chunks": len(mine), "n_documents": len(documents[:len(mine)].unique()),
               "cross_entropy": mine.mean().item(),
               "standard_error": document_standard_error(mine, documents[:len(mine)])}
        if shorter is not None:
            both = min(len(mine), len(shorter))
            gap = mine[:both] - shorter[:both]
            row["difference"] = gap.mean().item()
            row["difference_standard_error"] = document_standard_error(gap, documents[:both])
        rows.append(row)
        shorter = mine
    return rows


def write_table(path, rows):
    """Write rows with the columns of cross_entropy.csv, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


class Measurement:
    """The directory of a measurement, and the processes that fill it (one, or several under torchrun)."""

    def __init__(self, args, layer=None):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if args.device_map and self.world > 1:
            fail("--device_map auto takes all GPUs into one process; start it without torchrun")
        self.args, self.layer, self.device = args, layer, choose_device(args.device)
        if self.world > 1:
            dist.init_process_group("gloo", timeout=timedelta(days=1))  # what is sent lies on the CPU
        self.tokenizer, tokenizer_sha256 = load_tokenizer(args.model_name)
        self.config = load_config(args.model_name, args.rope_scaling)
        if self.rank > 0:
            dist.barrier()  # the first process builds the chunks, the others then read them
        self.chunks = load_chunks(args, self.tokenizer, tokenizer_sha256)
        if self.rank == 0 and self.world > 1:
            dist.barrier()
        self.directory = make_directory(args.out_dir or Path("outputs") / Path(args.model_name).absolute().name)
        self.description = {
            "model_name": args.model_name, "model_revision": revision(args.model_name, self.config),
            "dtype": str(choose_dtype(args.dtype, self.device)).removeprefix("torch."),
            "rope_scaling": args.rope_scaling, "chunks": self.chunks.key,
            "dataset_path": args.dataset_path, "processes": self.world,
            "environment": describe_environment(self.device)}
        self.scorer = None

    def refuse(self, context_lengths, n):
        """Exit with code 2, before any work, where the model or the chunks cannot give what was asked for."""
        available, window = self.chunks.tokens.shape
        if n > available:
            fail(f"the corpus gives {available} chunks of {window} tokens, {n} were asked for; lower --n_samples, "
                 "--window or --stride, or prepare more documents")
        if max(context_lengths) >= window:
            fail(f"a window of {window} tokens has {window - 1} before its last one, context length "
                 f"{max(context_lengths)} needs --window {max(context_lengths) + 1}")
        limit = longest_context(self.config)
        if limit and max(context_lengths) > limit:
            fail(f"{self.args.model_name} sees at most {limit} tokens, not {max(context_lengths)}; measure shorter "
                 "contexts, or stretch its positions with --rope_scaling")
        vocabulary = self.config.get_text_config().vocab_size
        if int(self.chunks.tokens.max()) >= vocabulary:
            fail(f"the tokenizer of {self.args.model_name} has ids up to {int(self.chunks.tokens.max())}, the model "
                 f"only {vocabulary}; give a model with its own tokenizer")
        if self.layer is not None and abs(self.layer) > self.config.get_text_config().num_hidden_layers:
            fail(f"--layer {self.layer}: the model has {self.config.get_text_config().num_hidden_layers} layers")

    def refuse_other(self):
        """Exit with code 2 if the directory holds a measurement of something else."""
        path = self.directory / "measurement.json"
        if self.args.overwrite or not path.exists():
            return
        old = load_json(path, "the description of the measurement")
        for name in IDENTITY:
            if old.get(name) != self.description[name]:
                fail(f"{self.directory} holds a measurement with {name} {old.get(name)}, not {self.description[name]}; "
                     "add --overwrite to replace it, or choose another --out_dir")

    def paths(self, kind):
        """{context length: path} of the losses or feature_tensors that are there."""
        found = {int(path.stem.rpartition("_")[2]): path for path in self.directory.glob(f"{kind}_seq_*.pt")}
        return dict(sorted(found.items()))

    def score(self, context_length, n, features):
        """Losses (n,) and features (n, width) or None of the first n chunks: on the first process, None on others."""
        if self.scorer is None:
            dtype = choose_dtype(self.args.dtype, self.device)
            model = load_model(self.args.model_name, self.config, dtype, self.device, self.args.device_map)
            self.scorer = Scorer(model, self.layer, self.args.tokens_per_batch)
        mine = slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)
        tokens = self.chunks.tokens[mine, -context_length - 1:]
        started = time.perf_counter()
        with tqdm(total=len(tokens), desc=f"context {context_length}", unit="chunk", disable=self.rank > 0) as bar:
            losses, states = self.scorer.score(tokens, features, bar.update) if len(tokens) else (None, None)
        parts = [(losses, states)]
        if self.world > 1:
            parts = [None] * self.world if self.rank == 0 else None
            dist.gather_object((losses, states), parts)
        if self.rank > 0:
            return None
        losses = torch.cat([part[0] for part in parts if part[0] is not None])
        if not losses.isfinite().all():
            fail(f"{int((~losses.isfinite()).sum())} losses at context length {context_length} are not finite; use "
                 "--dtype float32 (or bfloat16)")
        say(f"context {context_length}: cross entropy {losses.mean():.4f} nats, {n} chunks, "
            f"{time.perf_counter() - started:.1f} s")
        return losses, torch.cat([part[1] for part in parts if part[0] is not None]) if features else None

    def run(self, context_lengths, n, features=False):
        """Measure the first n chunks at these context lengths: losses, and hidden states if `features`."""
        self.refuse(context_lengths, n)
        with lock(self.directory / "lock") if self.rank == 0 else nullcontext():
            self.refuse_other()
            if self.rank == 0:
                if self.args.overwrite:
                    for path in [*self.paths("losses").values(), *self.paths("feature_tensors").values()]:
                        path.unlink()
                save_json(self.directory / "measurement.json", self.description)
            for length in dict.fromkeys(context_lengths):
                done = [self.is_done(length, n, features)]
                if self.world > 1:
                    dist.broadcast_object_list(done)
                if done[0]:
                    say(f"context {length}: finished before")
                    continue
                scored = self.score(length, n, features)
                if self.rank == 0:
                    self.save(length, n, *scored)
            if self.rank == 0:
                self.write_table()
        if self.world > 1:  # nothing runs behind this: the threads of gloo can turn Python's own shutdown into an abort
            dist.barrier()
            dist.destroy_process_group()
            sys.stdout.flush()
            os._exit(0)

    def is_done(self, context_length, n, features):
        """Whether n chunks or more have been measured at this context length, with the layer's features if asked."""
        paths = [self.directory / f"losses_seq_{context_length}.pt"]
        if features:
            paths.append(self.directory / f"feature_tensors_seq_{context_length}.pt")
        if self.rank > 0 or not all(path.exists() for path in paths):
            return False
        saved = [load_tensors(path, "the results", mmap=True) for path in paths]
        if features and saved[1]["layer"] != self.layer:
            fail(f"{paths[1]} is of --layer {saved[1]['layer']}, not {self.layer}; add --overwrite to replace it, or "
                 "choose another --out_dir")
        return min(len(entry["losses"]) for entry in saved) >= n

    def save(self, context_length, n, losses, features):
        """Write the results of a context length, features first: losses without them are a smaller result."""
        contents = {"losses": losses, "documents": self.chunks.documents[:n].int(), "context_length": context_length,
                    "layer": self.layer, "model_name": self.args.model_name}
        if features is not None:
            path = self.directory / f"feature_tensors_seq_{context_length}.pt"
            save_tensors(path, {"features": features, **contents})
        save_tensors(self.directory / f"losses_seq_{context_length}.pt", contents)
        self.write_table()

    def write_table(self):
        """Write cross_entropy.csv from the losses that are there."""
        losses = {length: load_tensors(path, "losses")["losses"] for length, path in self.paths("losses").items()}
        write_table(self.directory / "cross_entropy.csv", table_rows(losses, self.chunks.documents))
