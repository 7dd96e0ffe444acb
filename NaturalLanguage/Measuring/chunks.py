"""Chunks: windows of documents' tokens whose last token is the target (paper section 5).

A chunk is the same for every context length, whose l visible tokens are the l before the target; so losses, and hidden
states, at different context lengths are of the same targets. Chunks are built once and kept in a file that names all
that they depend on: the tokenizer, the texts, the window, its stride and the trimming.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch

from files import current, load_json, load_tensors, lock, make_directory, save_tensors, text_hash
from hub import encode
from settings import TRIM
from utils import fail, progress, say

ORDER_SEED = 114
DOCUMENTS_AT_ONCE = 256


class Chunks(NamedTuple):
    """tokens: int32 (n, window), the last column is the target; documents: int64 (n,), each chunk's document."""
    tokens: torch.Tensor
    documents: torch.Tensor
    request: dict


def cut(ids, window, stride, trim=TRIM):
    """Windows of the token ids (T,) of one document after trimming, one every `stride` tokens: (n, window)."""
    kept = torch.as_tensor(ids, dtype=torch.int32)[trim[0]:max(len(ids) - trim[1], 0)]
    return kept.unfold(0, window, stride) if len(kept) >= window else kept.new_zeros(0, window)


def load_split(dataset_path, split, column):
    """A split of a directory of prepare_data.py (or of any saved by datasets), and what provenance.json says of it."""
    from datasets import load_from_disk
    try:
        rows = load_from_disk(dataset_path)
    except Exception as error:  # the library raises many types
        fail(f"cannot read the data set {dataset_path} ({' '.join(str(error).split())[:200]}); make it with "
             "prepare_data.py")
    if isinstance(rows, dict):
        split = split or ("train" if "train" in rows else next(iter(rows)))
        if split not in rows:
            fail(f"{dataset_path} has the splits {', '.join(rows)}, not {split}; choose one with --split")
        rows = rows[split]
    if column not in rows.column_names:
        fail(f"{dataset_path} has the columns {', '.join(rows.column_names)}, not {column}; choose the one with the "
             "text with --dataset_column_name")
    if not len(rows):
        fail(f"the split {split} of {dataset_path} is empty; prepare more documents with prepare_data.py")
    provenance = Path(dataset_path) / "provenance.json"
    return rows, load_json(provenance, "the description of the data set") if provenance.exists() else {}


def batches(rows, column):
    """Yield the rows of a data set, some at a time, as dictionaries of lists.

    Exits with code 2 if they are damaged, or have something else than a text in this column.
    """
    for start in range(0, len(rows), DOCUMENTS_AT_ONCE):
        try:
            batch = rows[start:start + DOCUMENTS_AT_ONCE]
        except Exception as error:  # the library raises many types
            fail(f"the data set is damaged or cut short ({type(error).__name__}); make it again with prepare_data.py "
                 "--overwrite")
        for row, text in enumerate(batch[column], start):
            if not isinstance(text, str):
                fail(f"the column {column} of the data set has no text in row {row}, but {str(text)[:40]}; choose "
                     "another one with --dataset_column_name, or leave such rows out")
        yield batch


def document_tokens(rows, column, tokenizer, prepared):
    """Yield the token ids of each document; `prepared` says that the column input_ids has them."""
    for batch in progress(batches(rows, column), total=-(-len(rows) // DOCUMENTS_AT_ONCE), desc="chunks", unit="batch",
                          leave=False):
        yield from batch["input_ids"] if prepared else encode(tokenizer, batch[column])


def build(rows, column, tokenizer, prepared, key):
    """The Chunks of all documents, in a fixed shuffled order, so that the first n are a sample of all documents.

    Exits with code 2 if no document is long enough for one.
    """
    pieces, owners, longest = [], [], 0
    for number, ids in enumerate(document_tokens(rows, column, tokenizer, prepared)):
        piece = cut(ids, key["window"], key["stride"], key["trim"])
        pieces.append(piece)
        owners += [number] * len(piece)
        longest = max(longest, len(ids))
    if not owners:
        fail(f"no document gives a chunk: the longest has {longest} tokens, of which {sum(key['trim'])} are trimmed, "
             f"and a window has {key['window']}; lower --window or prepare longer documents")
    order = torch.randperm(len(owners), generator=torch.Generator().manual_seed(ORDER_SEED))
    return Chunks(torch.cat(pieces)[order], torch.tensor(owners)[order], key)


def load_chunks(args, tokenizer, tokenizer_sha256):
    """The Chunks that the flags ask for, from the cache if they are there.

    Exits with code 2 if --cache_chunk_file_name names a file of other chunks.
    """
    rows, provenance = load_split(args.dataset_path, args.split, args.dataset_column_name)
    column = args.dataset_column_name
    key = {"tokenizer_sha256": tokenizer_sha256,
           "text_sha256": text_hash(text for batch in batches(rows, column) for text in batch[column]),
           "window": args.window, "stride": args.stride or args.window, "trim": list(args.trim)}
    name = f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.pt"
    path = Path(args.cache_chunk_file_name or Path("outputs") / "chunks" / name)
    make_directory(path.parent)
    with lock(path.with_name(f"{path.name}.lock"), wait=True):  # another model's measurement may be building them
        if current(path, key):
            saved = load_tensors(path, "the cache of chunks", mmap=True)
            return Chunks(saved["tokens"], saved["documents"], key)
        if path.exists() and args.cache_chunk_file_name:
            load_tensors(path, "the cache of chunks", mmap=True)
            fail(f"--cache_chunk_file_name {path} holds chunks of another tokenizer, data set or window; name another "
                 "file, or none: the name is then made from all of these")
        prepared = "input_ids" in rows.column_names and provenance.get("tokenizer_sha256") == tokenizer_sha256
        chunks = build(rows, column, tokenizer, prepared, key)
        save_tensors(path, chunks._asdict())
        say(f"{path}: {len(chunks.tokens):,} chunks of {args.window} tokens in {len(rows):,} documents")
    return chunks
