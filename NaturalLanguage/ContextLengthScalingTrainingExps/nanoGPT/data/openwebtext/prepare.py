"""Tokenise a corpus into training and validation tokens (paper section 6).

    python data/openwebtext/prepare.py --percent 2 --start_from 0.0                        # of OpenWebText
    python data/openwebtext/prepare.py --source docstrings --percent 100 --tokenizer bpe:4096      # nothing to download
    python data/openwebtext/prepare.py --source text --text_files 'books/**/*.txt' --percent 100
    python data/openwebtext/prepare.py --source dataset --dataset wikitext --config wikitext-103-v1 --percent 100

Writes OUT_DIR/LONGCONTEXTSUBSET_{train,val}_P{percent}_SFrom{start}.bin (uint16, or uint32 for a vocabulary beyond
65,536; every document is followed by the end-of-text token), beside each a JSON that says where it came from, and the
tokenizer. With --min_tokens 0 the names begin with SUBSET. The documents of a corpus have a fixed shuffled order. Its
last 5% are for validation, whatever part is taken; the percent and the start are of the others. So a validation
document is never trained on, and the validation tokens are the same at every percent and start (of one tokenizer).
Started again, a prepared corpus is skipped and an interrupted one goes on.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bpe import Gpt2, TokenizerError, sha256, train_bpe
from corpora import DOCSTRING_PACKAGES, CorpusError, dataset, docstrings, openwebtext, text_files

DOCUMENTS_AT_ONCE = 512


def fail(message):
    """End the program with exit code 2 and one line on stderr."""
    tqdm.write(f"prepare.py: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded."""
    temporary = path.with_name(f"{path.name}.tmp")
    yield temporary
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path, contents):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


class Spool:
    """Token lists of documents in the order of reading, appended to files so that an interruption loses little."""

    def __init__(self, stem, dtype, fingerprint):
        self.dtype = np.dtype(dtype)
        self.paths = {name: stem.with_name(f"{stem.name}.{name}.tmp") for name in ("tokens", "lengths", "progress")}
        self.state = {"fingerprint": fingerprint, "read": 0, "tokens": 0, "documents": 0, "longest": 0}
        try:
            saved = json.loads(self.paths["progress"].read_text())
            if saved["fingerprint"] == fingerprint:
                self.state = saved
        except (OSError, ValueError, KeyError):
            pass
        for name, width, count in (("tokens", self.dtype.itemsize, "tokens"), ("lengths", 8, "documents")):
            self.paths[name].touch()
            os.truncate(self.paths[name], width * self.state[count])  # what came after the last progress is read again

    def append(self, n_read, kept, longest):
        """Note that n_read documents were read, and add those kept (lists of ids)."""
        with open(self.paths["tokens"], "ab") as tokens, open(self.paths["lengths"], "ab") as lengths:
            for ids in kept:
                tokens.write(np.array(ids, self.dtype).tobytes())
            lengths.write(np.array([len(ids) for ids in kept], np.int64).tobytes())
        self.state["read"] += n_read
        self.state["documents"] += len(kept)
        self.state["tokens"] += sum(map(len, kept))
        self.state["longest"] = max(self.state["longest"], longest)
        with replacing(self.paths["progress"]) as temporary:
            temporary.write_text(json.dumps(self.state))

    def write_shuffled(self, path, seed):
        """Write the documents in shuffled order to `path`. Returns the SHA-256 of the file."""
        lengths = np.fromfile(self.paths["lengths"], np.int64)
        tokens = np.memmap(self.paths["tokens"], self.dtype, "r")
        ends = np.cumsum(lengths)
        digest = hashlib.sha256()
        with replacing(path) as temporary, open(temporary, "wb") as file:
            for place in tqdm(np.random.default_rng(seed).permutation(len(lengths)), desc=path.name, unit="doc"):
                document = tokens[ends[place] - lengths[place]:ends[place]].tobytes()
                digest.update(document)
                file.write(document)
        return digest.hexdigest()

    def remove(self):
        for path in self.paths.values():
            path.unlink(missing_ok=True)


def batches(items, size):
    """Lists of up to `size` successive items."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def write_split(stem, corpus, part, tokenizer, min_tokens, most_tokens, seed, about):
    """Tokenise the documents of `part` (a range), keep the long ones, and write STEM.bin and STEM.json."""
    identity = [corpus.source, about["tokenizer"], part.start, part.stop, min_tokens, most_tokens]
    spool = Spool(stem, about["dtype"], sha256(json.dumps(identity)))
    state = spool.state
    with tqdm(total=len(part), initial=state["read"], desc=f"{about['split']} documents", unit="doc") as bar:
        for texts in batches(corpus.read(part.start + state["read"], part.stop), DOCUMENTS_AT_ONCE):
            if state["tokens"] >= most_tokens:
                break
            encoded = tokenizer.encode_batch(texts)
            spool.append(len(texts), [[*ids, tokenizer.end_of_text] for ids in encoded if len(ids) > min_tokens],
                         max(map(len, encoded)))
            bar.update(len(texts))
            bar.set_postfix(tokens=f"{state['tokens']:,}")
    if not state["documents"]:
        spool.remove()
        fail(f"no {about['split']} document is longer than {min_tokens} tokens (the longest of {state['read']} has "
             f"{state['longest']}); lower --min_tokens, raise --percent, or split your files less")
    digest = spool.write_shuffled(stem.with_name(f"{stem.name}.bin"), seed)
    write_json(stem.with_name(f"{stem.name}.json"), {
        **about, "documents": state["documents"], "documents_read": state["read"], "tokens": state["tokens"],
        "sha256": digest, "source": corpus.source})
    spool.remove()
    print(f"{stem.name}.bin: {state['tokens']:,} tokens in {state['documents']:,} documents, of {state['read']:,} read")


def choose_corpus(args):
    """The Corpus that the flags name."""
    if args.source == "text":
        return text_files(args.text_files, args.separator, args.seed)
    if args.source == "dataset":
        return dataset(args.dataset, args.config, args.split, args.column, args.seed)
    if args.source == "docstrings":
        return docstrings(args.packages, args.seed)
    return openwebtext(args.seed)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(f"{message}; see --help")
    parser.add_argument("--percent", type=float, default=10.0, help="of the documents that are not for validation")
    parser.add_argument("--start_from", type=float, default=0.0, help="where that part begins, in percent")
    parser.add_argument("--source", choices=("openwebtext", "text", "dataset", "docstrings"), default="openwebtext",
                        help="the corpus")
    parser.add_argument("--text_files", nargs="+", help="text: files or patterns (**: any depth), a document each")
    parser.add_argument("--separator", help="text: what stands between documents within a file (default: nothing does)")
    parser.add_argument("--dataset", help="dataset: name on the hub, or directory")
    parser.add_argument("--config", help="dataset: its configuration")
    parser.add_argument("--split", default="train", help="dataset: its split")
    parser.add_argument("--column", default="text", help="dataset: the column with the text")
    parser.add_argument("--packages", nargs="+", default=DOCSTRING_PACKAGES,
                        help="docstrings: installed packages; default: those that requirements.txt pins")
    parser.add_argument("--min_tokens", type=int, default=3000, help="keep documents longer than this (0: all)")
    parser.add_argument("--tokenizer", default="gpt2",
                        help="gpt2, or bpe:N, a byte-level BPE of N tokens trained on the training documents")
    parser.add_argument("--validation_fraction", type=float, default=0.05, help="of the documents, for validation")
    parser.add_argument("--max_validation_tokens", type=int, default=10_000_000, help="stop reading them after so many")
    parser.add_argument("--seed", type=int, default=114, help="of the order of the documents")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads that tokenise")
    parser.add_argument("--out_dir", default=str(Path(__file__).parent), help="directory for the files")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    if not 0 < args.percent <= 100 or not 0 <= args.start_from < 100 or args.start_from + args.percent > 100:
        fail("--percent must lie above 0, --start_from at 0 or above, and their sum at 100 or below")
    if not 0 < args.validation_fraction < 1:
        fail("--validation_fraction must lie between 0 and 1")
    if args.min_tokens < 0 or args.max_validation_tokens < 1 or args.workers < 1 or args.seed < 0:
        fail("--min_tokens and --seed must be at least 0, --max_validation_tokens and --workers at least 1")
    for source, flag in (("text", "text_files"), ("dataset", "dataset")):
        if args.source == source and not getattr(args, flag):
            fail(f"--source {source} needs --{flag}")
    kind, _, size = args.tokenizer.partition(":")
    if args.tokenizer != "gpt2" and not (kind == "bpe" and size.isdigit() and int(size) > 256):
        fail(f"--tokenizer {args.tokenizer} is neither gpt2 nor bpe:N with N above 256")
    args.packages = list(args.packages)
    return args


def main():
    args = parse_args()
    family = "LONGCONTEXTSUBSET" if args.min_tokens else "SUBSET"
    out_dir = Path(args.out_dir)
    part = f"P{args.percent}_SFrom{args.start_from}"
    stems = {name: out_dir / f"{family}_{name}_{part}" for name in ("train", "val", "tokenizer")}
    request = {name: value for name, value in vars(args).items() if name not in ("workers", "out_dir", "overwrite")}
    out_dir.mkdir(parents=True, exist_ok=True)
    written = 0
    for split in ("train", "val"):
        described = stems[split].with_name(f"{stems[split].name}.json")
        if described.exists() and not args.overwrite:
            if json.loads(described.read_text()).get("request") != request:
                fail(f"{described} is of other flags; add --overwrite to replace it, or choose another --out_dir")
            written += 1
    if written == 2:
        print(f"{stems['train'].name}.bin and {stems['val'].name}.bin: prepared before")
        return

    corpus = choose_corpus(args)
    n_valid = max(1, round(args.validation_fraction * corpus.n_documents))
    n_rest = corpus.n_documents - n_valid
    parts = {"train": range(int(n_rest * args.start_from / 100),
                            int(n_rest * (args.start_from + args.percent) / 100)),
             "val": range(n_rest, corpus.n_documents)}
    if not parts["train"]:
        fail(f"{args.percent} percent of the {n_rest} documents that are not for validation are none; raise --percent, "
             "or give more documents (--separator cuts files into several)")
    if args.tokenizer == "gpt2":
        tokenizer = Gpt2(args.workers)
    else:
        os.environ["RAYON_NUM_THREADS"] = str(args.workers)
        texts = tqdm(corpus.read(parts["train"].start, parts["train"].stop), total=len(parts["train"]),
                     desc="texts for the tokenizer", unit="doc")
        tokenizer = train_bpe(texts, int(args.tokenizer.partition(":")[2]))
    text = tokenizer.to_json()
    file = stems["tokenizer"].with_name(f"{stems['tokenizer'].name}.json")
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    about = {"dtype": "uint16" if tokenizer.vocabulary_size <= 2**16 else "uint32",
             "vocabulary_size": tokenizer.vocabulary_size,
             "tokenizer": {"name": args.tokenizer, "file": file.name, "sha256": sha256(text)}, "request": request}
    for split in ("train", "val"):
        most = args.max_validation_tokens if split == "val" else float("inf")
        write_split(stems[split], corpus, parts[split], tokenizer, args.min_tokens, most, args.seed,
                    {"split": split, **about})


if __name__ == "__main__":
    try:
        main()
    except (CorpusError, TokenizerError) as error:
        fail(error)
    except OSError as error:
        fail(f"{error.filename or 'the output'}: {error.strerror or error}; free some space or choose another "
             "--out_dir and start again, it goes on from there")
