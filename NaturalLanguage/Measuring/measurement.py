"""The measuring of one model on the chunks of one corpus, in one process or, under torchrun, several.

What is measured lies in the directory that run.py describes.
"""

import time
from argparse import BooleanOptionalAction
from contextlib import nullcontext
from pathlib import Path

import torch

from chunks import load_chunks
from hub import load_tokenizer, revision
from processes import Processes
from run import Run
from scorer import Scorer, choose_dtype, load_config, load_model, longest_context
from settings import add_scoring_flags, measurement_name
from utils import Parser, StopSignal, Stopped, again, choose_device, describe_environment, fail, progress, say


def measurement_parser(description):
    """The flags that evaluate_CE.py and save_mid_features.py share."""
    parser = Parser(description)
    add = parser.add_argument
    add("--dataset_path", default="./filtered_dataset", help="data set of prepare_data.py")
    add("--split", help="its split (default: train, or the only one)")
    add("--dataset_column_name", default="text", help="column with the text")
    add("--model_name", default="meta-llama/Llama-3.1-8B", help="hub name or directory of a causal language model")
    add("--cache_chunk_file_name", help="file for the chunks (default: a name made from all that they depend on)")
    add("--out_dir", help="directory of the measurement (default: outputs/NAME OF THE MODEL)")
    add("--overwrite", action=BooleanOptionalAction, default=False,
        help="first delete what is there: losses, features, spectra and measures of all context lengths")
    add_scoring_flags(parser)
    return parser


class Measurement:
    """A model, its chunks and its Run, and the processes that fill it (one, or several under torchrun)."""

    def __init__(self, args, layer=None):
        self.processes = Processes(args.device_map)
        self.is_first = self.processes.rank == 0
        self.args, self.layer, self.device = args, layer, choose_device(args.device)
        self.signal = StopSignal(raising=True)
        self.run_directory = args.out_dir or Path("outputs") / measurement_name(args.model_name)
        self.scorer = None

    def prepare(self):
        """Load tokenizer, configuration and chunks, and say what is measured: the Run."""
        args = self.args
        self.processes.join()
        self.tokenizer, tokenizer_sha256 = load_tokenizer(args.model_name)
        self.config = load_config(args.model_name, args.rope_scaling, args.rope_factor)
        if not self.is_first:
            self.processes.barrier()  # the first process builds the chunks, the others then read them
        self.chunks = load_chunks(args, self.tokenizer, tokenizer_sha256)
        if self.is_first:
            self.processes.barrier()
        self.run = Run(self.run_directory, {
            "model_name": args.model_name, "model_revision": revision(args.model_name, self.config),
            "dtype": str(choose_dtype(args.dtype, self.device)).removeprefix("torch."),
            "rope_scaling": args.rope_scaling, "chunks": self.chunks.request,
            **({"rope_factor": args.rope_factor} if args.rope_factor else {})})

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
        text_config = self.config.get_text_config()
        if int(self.chunks.tokens.max()) >= text_config.vocab_size:
            fail(f"the tokenizer of {self.args.model_name} has ids up to {int(self.chunks.tokens.max())}, the model "
                 f"only {text_config.vocab_size}; give a model with its own tokenizer")
        layers = text_config.num_hidden_layers
        if self.layer is not None and not -layers - 1 <= self.layer <= layers:
            fail(f"--layer {self.layer}: the model has {layers} layers")

    def score(self, context_length, n, features):
        """Losses (n,) and features (n, width) or None of the first n chunks: on the first process, None on others."""
        if self.scorer is None:
            dtype = choose_dtype(self.args.dtype, self.device)
            model = load_model(self.args.model_name, self.config, dtype, self.device, self.args.device_map)
            self.scorer = Scorer(model, self.layer, self.args.tokens_per_batch)
        tokens = self.chunks.tokens[self.processes.share(n), -context_length - 1:]
        started = time.perf_counter()
        with progress(total=len(tokens), desc=f"context {context_length}", unit="chunk", leave=False,
                      disable=not self.is_first) as bar:
            losses, states = self.scorer.score(tokens, features, bar.update) if len(tokens) else (None, None)
        parts = self.processes.gather((losses, states))
        if not self.is_first:
            return None
        losses = torch.cat([part[0] for part in parts if part[0] is not None])
        if not losses.isfinite().all():
            fail(f"{int((~losses.isfinite()).sum())} losses at context length {context_length} are not finite; use "
                 "--dtype float32 (or bfloat16)")
        say(f"context {context_length}: cross entropy {losses.mean():.4f} nats, {n} chunks, "
            f"{time.perf_counter() - started:.1f} s")
        return losses, torch.cat([part[1] for part in parts if part[0] is not None]) if features else None

    def measure(self, context_lengths, n, features):
        """Measure the first n chunks at those of the context lengths that are not there yet."""
        with self.run.lock() if self.is_first else nullcontext():
            if self.is_first:
                self.run.open({"dataset_path": self.args.dataset_path, "processes": self.processes.world,
                               **describe_environment(self.device)}, self.args.overwrite, features, self.layer)
            for length in context_lengths:
                if self.processes.from_first(self.is_first and self.run.has(length, n, features)):
                    say(f"context {length}: finished before")
                    continue
                scored = self.score(length, n, features)
                if self.is_first:
                    losses, states = scored
                    self.run.save(length, losses, self.chunks.documents[:n], states, self.layer)
            if self.is_first:
                self.run.write_table()

    def start(self, context_lengths, choose_n, features=False):
        """Measure at these context lengths: losses, and hidden states if `features`.

        choose_n(chunks in the corpus) says how many of them. A signal ends the process, with a line that says what is
        saved.
        """
        context_lengths = sorted(set(context_lengths))
        try:
            self.prepare()
            n = choose_n(len(self.chunks.tokens))
            self.refuse(context_lengths, n)
            self.measure(context_lengths, n, features)
        except Stopped:
            self.signal.end(f"what was measured before is kept in {self.run_directory}, a context length at a time; "
                            f"{again()}")
        self.processes.end()  # nothing runs behind this
