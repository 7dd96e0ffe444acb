"""A run of evaluate_tasks.py: its directory, what is done, the lines as they come, and what is written at the end."""

import json
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from downstream.results import COLUMNS, summarise
from files import (begins_anew, current, difference, load_json, lock, make_directory, replacing, save_json,
                   save_tensors, write_csv)
from hub import revision
from processes import Processes
from settings import measurement_name
from utils import StopSignal, Stopped, again, describe_environment, fail, say


def run_name(samples, args):
    """The name of a run's directory below the model's, made of what tells runs on the same samples apart."""
    parts = [Path(samples).stem]
    parts += ["query_first"] if args.query_first else []
    parts += [f"chat_{args.chat}"] if args.chat != "auto" else []
    parts += [] if args.generate else ["no_generate"]
    parts += [f"limit{args.limit}"] if args.limit else []
    return "_".join(parts)


def run_directory(args):
    return Path(args.out_dir) / measurement_name(args.model_name) / run_name(args.samples, args)


def request_of(args, about, config, dtype):
    """What the results of a run depend on; `about` describes the samples, `dtype` is the name of the model's."""
    return {"model_name": args.model_name, "model_revision": revision(args.model_name, config),
            "samples_sha256": about["sha256"], "dtype": dtype,
            "new_tokens": (args.new_tokens or about["new_tokens"]) if args.generate else 0,
            "visible_fractions": sorted(set(args.visible_fractions)),
            **{name: getattr(args, name) for name in ("query_first", "chat", "generate", "limit", "features",
                                                      "rope_scaling")},
            **({"rope_factor": args.rope_factor} if args.rope_factor else {})}


class EvaluationRun:
    """The directory of a run, and the processes that fill it (one, or several under torchrun).

    Finished is what has a final.json with this request. Lines are those of all processes, also of an earlier start.
    """

    def __init__(self, args, about, request, device):
        self.processes = Processes(args.device_map)
        self.rank = self.processes.rank
        self.args, self.device, self.about, self.request = args, device, about, request
        self.directory = make_directory(run_directory(args))
        self.overwrite = begins_anew(args.overwrite, self.directory / "args.json")
        self.fractions = request["visible_fractions"]
        self.done, self.files = {}, {}

    def is_finished(self):
        return not self.overwrite and current(self.directory / "final.json", self.request)

    @contextmanager
    def opened(self, prompts, chat):
        """Hold the directory, read what is done, and on a signal say how to go on."""
        signal = StopSignal(raising=True)
        self.lengths = [len(prompt.context) for prompt in prompts]
        lengths = [self.visible_length(fraction) for fraction in self.fractions]
        if self.args.features and len(set(lengths)) < len(lengths):
            fail(f"--visible_fractions {' '.join(map(str, self.fractions))} are of {lengths} tokens, some the same; "
                 "move them apart, or add --no-features")
        self.processes.join()
        with lock(self.directory / "lock") if self.rank == 0 else nullcontext():
            if self.rank == 0:
                self.prepare(chat)
            self.processes.barrier()
            self.done = self.read_lines()
            self.processes.barrier()
            try:
                with open(self.directory / f"lines_{self.rank}.jsonl", "a", encoding="utf-8") as self.lines:
                    yield
            except Stopped:
                signal.end(f"the answers so far are in {self.directory}; {again()}")
        self.processes.end()

    def prepare(self, chat):
        """Refuse a directory of another request, or clear it with --overwrite, and describe this one."""
        path = self.directory / "args.json"
        if path.exists() and not self.overwrite:
            stored = load_json(path, "the arguments of the run").get("request", {})
            if other := difference(stored, self.request):
                fail(f"{self.directory} holds a run with {other}; add --overwrite to replace it (sweep.py has none: "
                     "delete it), or choose another --out_dir")
        else:
            for old in self.directory.iterdir():
                if old.name != "lock" and old.is_file():
                    old.unlink()
        save_json(path, {"request": self.request, "task": self.about["task"], "metric": self.about["metric"],
                         "comparable": self.about["comparable"], "source": self.about["source"],
                         **{name: self.about["request"].get(name) for name in ("units", "gold_positions")},
                         "max_length": self.about["max_length"], "values": self.about["values"], "chat": chat,
                         "samples": str(self.args.samples), "environment": describe_environment(self.device),
                         "slurm_job": os.environ.get("SLURM_JOB_ID")})

    def read_lines(self):
        """{(visible fraction, index): line} of what is written; a line cut short by a crash is dropped from its
        file."""
        found = {}
        for path in sorted(self.directory.glob("lines_*.jsonl")):
            whole = []
            for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
                try:
                    line = json.loads(text)
                except ValueError:
                    line = None
                if line is not None and text.endswith("\n"):
                    whole.append(text)
                    found[line["visible_fraction"], line["index"]] = {**line, "rank": int(path.stem.partition("_")[2])}
            if self.rank == 0 and "".join(whole) != path.read_text(encoding="utf-8"):
                with replacing(path) as temporary:
                    temporary.write_text("".join(whole), encoding="utf-8")
        return found

    def share(self, samples):
        """Indices of the samples that this process answers; questions about one context stay together."""
        contexts = list(dict.fromkeys(sample["context"] for sample in samples))
        mine = set(contexts[self.processes.share(len(contexts))])
        return [index for index, sample in enumerate(samples) if sample["context"] in mine]

    def visible_length(self, fraction):
        """Visible tokens of the mean context: the name of a file of features."""
        return round(fraction * sum(self.lengths) / len(self.lengths))

    def states_path(self, fraction, rank):
        return self.directory / f"states_{fraction!r}_{rank}.f32"

    def states(self, fraction, width):
        """This process's file of hidden states of a visible fraction, a row a sample, for writing in any order."""
        path = self.states_path(fraction, self.rank)
        if fraction not in self.files:
            size = len(self.lengths) * width * 4
            if not path.exists() or path.stat().st_size != size:
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    file.truncate(size)
                    if hasattr(os, "posix_fallocate"):  # or a disk that is full later would end the program at once
                        os.posix_fallocate(file.fileno(), 0, size)
            self.files[fraction] = np.memmap(path, np.float32, "r+", shape=(len(self.lengths), width))
        return self.files[fraction]

    def write(self, fraction, lines, states):
        """Save hidden states and then the lines that say that they are there."""
        try:
            if self.args.features:
                rows = self.states(fraction, len(states[0]))
                for line, state in zip(lines, states):
                    rows[line["index"]] = state.numpy()
                rows.flush()
            self.lines.write("".join(json.dumps(line) + "\n" for line in lines))
            self.lines.flush()
        except OSError as error:
            fail(f"cannot write into {self.directory} ({error.strerror}); free space and start again, it goes on",
                 everywhere=True)

    def finish(self):
        """Write what stands at the end of a run (the first process, once all have come to this)."""
        self.processes.barrier()
        if self.rank > 0:
            return
        lines = [line for _, line in sorted(self.read_lines().items())]
        if len(lines) != len(self.lengths) * len(self.fractions):
            fail(f"{len(lines)} answers are in {self.directory}, not {len(self.lengths)} for each of "
                 f"{len(self.fractions)} visible fractions; {again()}")
        if not all(np.isfinite(line["cross_entropy"]) for line in lines):
            fail("some cross entropies are not finite; use --dtype float32 (or bfloat16) and --overwrite")
        rows = [{name: int(line[name]) if isinstance(line[name], bool) else line[name] for name in COLUMNS}
                for line in lines]
        write_csv(self.directory / "answers.csv", rows, COLUMNS)
        if self.args.generate:
            with replacing(self.directory / "outputs.jsonl") as temporary:
                temporary.write_text("".join(json.dumps({name: line[name] for name in (
                    "index", "visible_fraction", "score", "output")}) + "\n" for line in lines), encoding="utf-8")
        if self.args.features:
            self.write_features(lines)
        summary = summarise(lines)
        save_json(self.directory / "final.json", {"request": self.request, "task": self.about["task"],
                                                  "comparable": self.about["comparable"], "summary": summary})
        for path in [*self.directory.glob("lines_*.jsonl"), *self.directory.glob("states_*.f32")]:
            path.unlink()
        for row in summary:
            score = "" if row["score"] is None else f"score {row['score']:.4f}, "
            say(f"visible {row['visible_fraction']:g}: {score}cross entropy of the answer {row['cross_entropy']:.4f} "
                f"nats in {row['target_tokens']:.1f} tokens")
        say(f"{self.directory}: finished" + ("" if self.about["comparable"] else
                                             "; source not comparable with published numbers"))

    def write_features(self, lines):
        """Write feature_tensors_seq_{l}.pt as save_mid_features.py does, with the answers' cross entropies."""
        import torch
        for fraction in self.fractions:
            mine = [line for line in lines if line["visible_fraction"] == fraction]
            parts = {rank: np.fromfile(self.states_path(fraction, rank), np.float32).reshape(len(mine), -1)
                     for rank in {line["rank"] for line in mine}}
            length = self.visible_length(fraction)
            save_tensors(self.directory / f"feature_tensors_seq_{length}.pt", {
                "features": torch.from_numpy(np.stack([parts[line["rank"]][line["index"]] for line in mine])),
                "losses": torch.tensor([line["cross_entropy"] for line in mine], dtype=torch.float64),
                "documents": torch.tensor([line["context"] for line in mine], dtype=torch.int32),
                "context_length": length, "visible_fraction": fraction, "layer": None, "dtype": self.request["dtype"],
                "model_name": self.args.model_name, "request": self.request})
