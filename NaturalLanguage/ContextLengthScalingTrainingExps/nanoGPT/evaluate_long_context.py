"""Measure runs on longer texts than they were trained on, and how well they recall.

    python evaluate_long_context.py outputs/runs/TAG --texts docs=VAL.bin --lengths 64 128 256 512 \\
        --rope_types none linear ntk dynamic yarn --test key_value_test.jsonl --out_csv positions.csv
    python evaluate_long_context.py outputs/memory/TAG --test rounds_test.jsonl --memory_tokens 0 256 1024

Loss (nats): the same targets at every length, the last ones of windows that end where the longest ones end, half as
many as the shortest length has tokens; a run with a memory reads the longest windows alone. Recall: the answers in test
documents of data/retrieval/prepare.py that are no longer than --lengths (without it, in all of them). Both are read
whole; by a run with a memory, or with --windowed, in windows of the run's context length, with --memory_tokens of the
same document (0: none). --rope_types stretches the positions of a run from scratch, by --rope_factor (default: the
longest length over the run's); dynamic by as much as each length needs. A run with --init_from keeps the positions that
it was tuned with. Writes OUT_CSV: variant (the folder that the run's directory lies in), seed, trained_length,
rope_type, length (tokens), memory_tokens, units (of a document), measure (loss or accuracy), of (the text or the task),
value, standard_error (over windows or documents), n (targets or answers). The rows of a run are kept in
OUT_CSV.partial.json until all runs are measured: stopped, the same command goes on with the next run.
"""

from utils import (Parser, choose_device, fail, named_file, non_negative_int, positive_float, positive_int,
                   progress, run_main, say)

import itertools
from pathlib import Path

import numpy as np
import torch

from documents import Documents, end_of_text
from files import identity, make_directory, read_json, same_request, save_json, write_csv
from long_context_flags import ROPE_TYPES
from memory import MemoryStore
from model import cross_entropies
from retrieval_documents import TOKENS_AT_ONCE, describe_test, read_test
from run import load_run
from token_files import TokenFile


def rope_at(kind, factor, trained, length):
    """The settings of rope.py for a text of `length` tokens; dynamic is static NTK by length / trained."""
    if kind == "dynamic":
        kind, factor = "ntk", max(1.0, length / trained)
    if kind == "none":
        return None
    return {"rope_type": kind, "factor": factor} | (
        {"original_max_position_embeddings": trained} if kind == "yarn" else {})


def summary(clusters, per_cluster):
    """Mean over windows or documents, its standard error over them, and how many targets or answers that is."""
    values = np.array(clusters)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"value": float(values.mean()), "standard_error": error, "n": round(len(values) * per_cluster)}


class Measured:
    """A run and how it is measured: `losses` and `recalls` give the rows of the table."""

    def __init__(self, args, run_dir, device):
        self.args, self.device = args, device
        self.model, arguments = load_run(run_dir, device)
        self.trained, self.own = arguments["context_length"], self.model.rope
        self.lengths = sorted(set(args.lengths or [self.trained]))
        self.keeps = bool(self.own or arguments.get("init_from"))
        self.kinds = [(self.own or {"rope_type": "none"})["rope_type"]] if self.keeps else args.rope_types
        self.memory = self.model.memory["tokens"] if self.model.memory else 0
        self.memories = args.memory_tokens if self.memory and args.memory_tokens else [self.memory]
        self.columns = {"variant": Path(run_dir).resolve().parent.name, "seed": arguments["seed"],
                        "trained_length": self.trained}

    def stretch(self, kind, length):
        """Set the model's positions for texts of a length; the columns that say so."""
        if not self.keeps:
            factor = self.args.rope_factor or max(1.0, self.lengths[-1] / self.trained)
            self.model.rope = rope_at(kind, factor, self.trained, length)
        return {**self.columns, "rope_type": kind, "length": length}

    def hidden(self, ids, memory_tokens=0, documents=None):
        """Hidden states (n, T, width) of tokens (n, T), read whole or in windows with what is remembered of the same
        of the `documents` (n, T), one a row by default."""
        window = self.trained if self.memory or self.args.windowed else ids.shape[1]
        documents = torch.zeros_like(ids) if documents is None else documents
        store = MemoryStore.of(self.model, len(ids), memory_tokens, self.device) if memory_tokens else None
        parts = zip(ids.to(self.device).split(window, 1), documents.to(self.device).split(window, 1))
        return torch.cat([self.model.hidden(part, store=store and store.segment(slice(None), numbers))
                          for part, numbers in parts], 1)

    @torch.no_grad()
    def losses(self, name, text):
        """Rows of the loss on a TokenFile."""
        n_targets, tokens = max(1, self.lengths[0] // 2), text.tokens
        lengths = self.lengths[-1:] if self.memory else self.lengths
        documents = Documents(tokens, end_of_text(text)) if self.memory else None
        ends = np.arange(self.lengths[-1], len(tokens) - 1, self.lengths[-1])[:self.args.windows]
        for kind, length, memory_tokens in itertools.product(self.kinds, lengths, self.memories):
            columns, means = self.stretch(kind, length), []
            at_once = max(1, TOKENS_AT_ONCE // length)
            for part in (ends[start:start + at_once] for start in range(0, len(ends), at_once)):
                rows = torch.from_numpy(tokens[part[:, None] + np.arange(-length, 1)].astype(np.int64)).to(self.device)
                ids = documents.ids(part - length, length) if documents else None
                states = self.hidden(rows[:, :-1], memory_tokens, ids)[:, -n_targets:].flatten(0, 1)
                each = cross_entropies(states, self.model.output_weight, rows[:, -n_targets:].flatten())
                means += each.view(len(part), -1).double().mean(1).tolist()
            yield {**columns, "memory_tokens": memory_tokens if self.memory else "", "units": "", "measure": "loss",
                   "of": name, **summary(means, n_targets)}

    @torch.no_grad()
    def recalls(self, name, units, ids, answers):
        """Rows of the accuracy of answers in documents (n, T)."""
        for kind, memory_tokens in itertools.product(self.kinds, self.memories):
            columns, shares = self.stretch(kind, ids.shape[1]), []
            for rows in torch.arange(len(ids)).split(max(1, TOKENS_AT_ONCE // ids.shape[1])):
                for row, states in zip(rows.tolist(), self.hidden(ids[rows], memory_tokens)):
                    at = torch.tensor([answer[0] for answer in answers[row]])
                    likeliest = (states[at - 1] @ self.model.output_weight.T).argmax(-1).cpu()
                    shares.append((likeliest == ids[row, at]).double().mean().item())
            yield {**columns, "memory_tokens": memory_tokens, "units": units, "measure": "accuracy", "of": name,
                   **summary(shares, len(answers[0]))}


def rows_of(measured, run_dir, texts, tests):
    """All rows of a run. Exits with code 2 where a text has another tokenizer or is too short."""
    rows = []
    for name, text in texts.items():
        if text.identity["tokenizer_sha256"] != identity(Path(run_dir) / "tokenizer.json"):
            fail(f"{text.path} and {run_dir} have different tokenizers; prepare the text with the run's")
        if len(text.tokens) < measured.lengths[-1] + 2:
            fail(f"{text.path} has {len(text.tokens)} tokens, too few for --lengths {measured.lengths[-1]}")
        rows += measured.losses(name, text)
    for path, documents in tests.items():
        about = describe_test(path, run_dir)
        for units, (ids, answers) in documents.items():
            if not measured.args.lengths or ids.shape[1] <= measured.lengths[-1]:
                rows += measured.recalls(about["request"]["task"], units, ids, answers)
    return rows


def main():
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", help="directories of finished runs of train.py")
    parser.add_argument("--texts", type=named_file, nargs="+", default=[], metavar="NAME=BIN", help="validation tokens")
    parser.add_argument("--test", nargs="+", default=[], help="TASK_test.jsonl of data/retrieval/prepare.py")
    parser.add_argument("--lengths", type=positive_int, nargs="+", help="tokens seen (default: the run's length)")
    parser.add_argument("--windows", type=positive_int, default=128, help="windows of a text, at most")
    parser.add_argument("--rope_types", nargs="+", choices=("none", "dynamic", *ROPE_TYPES), default=["none"],
                        help="positions")
    parser.add_argument("--rope_factor", type=positive_float, help="how many times longer the texts may get")
    parser.add_argument("--memory_tokens", type=non_negative_int, nargs="+", help="of a run with a memory")
    parser.add_argument("--windowed", action="store_true", help="read in windows of the run's context length")
    parser.add_argument("--out_csv", required=True, help="table to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    texts = {name: TokenFile(path) for name, path in args.texts}
    tests = {path: read_test(path) for path in args.test}
    make_directory(Path(args.out_csv).parent)
    partial = Path(f"{args.out_csv}.partial.json")
    names = ("lengths", "windows", "rope_types", "rope_factor", "memory_tokens", "windowed", "threads")
    shared = {**{name: getattr(args, name) for name in names}, "device": device.type,
              "texts": {name: text.identity for name, text in texts.items()},
              "tests": {path: identity(path) for path in tests}}
    kept, found = (read_json(partial) or {}).get("runs", []), []  # of each run what it was measured with, and its rows
    for run_dir in progress(args.runs, unit="run", desc="evaluating", leave=False):
        measured = Measured(args, run_dir, device)
        request = {**shared, "run": str(run_dir), "weights": identity(Path(run_dir) / "best.pt")}
        entry = next((entry for entry in kept if same_request(entry["request"], request)), None)
        found.append(entry or {"request": request, "rows": rows_of(measured, run_dir, texts, tests)})
        save_json(partial, {"runs": found})
    rows = [row for entry in found for row in entry["rows"]]
    write_csv(args.out_csv, rows)
    partial.unlink(missing_ok=True)
    say(f"{len(rows)} rows of {len(args.runs)} runs -> {args.out_csv}")


if __name__ == "__main__":
    run_main(main)
