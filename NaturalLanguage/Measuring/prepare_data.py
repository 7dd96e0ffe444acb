"""Select the documents to measure on: those of a corpus that are long enough (paper section 5).

    python prepare_data.py --percent 10 --start_from 0.0 --save_path ./filtered_dataset          # of OpenWebText
    python prepare_data.py --source dataset --dataset wikitext --config wikitext-103-v1 --percent 100
    python prepare_data.py --source text --text_files 'books/**/*.txt' --percent 100
    python prepare_data.py --source text --text_files mine.jsonl.gz --column body --percent 100
    python prepare_data.py --source docstrings --percent 100 --model_name path/to/model          # nothing to download
    python prepare_data.py --source tokens --tokens_file DATA/LONGCONTEXTSUBSET_val_P100.0_SFrom0.0.bin ...

Writes SAVE_PATH, which datasets.load_from_disk reads, with the splits train and val, and in it provenance.json.
Columns: text, input_ids (tokens of --model_name's tokenizer, so that they are made once) and document (index in the
corpus' order). The order is shuffled (of OpenWebText: its row groups, so that a small part is a small download); the
last 5% are val, --percent and --start_from choose from the others. The documents of --source tokens (the validation
tokens of a model trained here, say) are one split already, and all of them are taken.

Started again, a prepared data set is kept if the same flags and inputs (the contents of files, the versions of
packages, the tokenizer) would give it, and refused if not; an interrupted preparation goes on. --overwrite leaves the
data set that is there until the new one is whole.
"""

from utils import fail, progress, run_main

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

from corpora import COMMON_FLAGS, SOURCE_FLAGS, choose_source, parse_corpus
from files import difference, load_json, lock, make_directory, replacing, save_json, text_hash
from hub import encode, load_tokenizer
from text_files import CorpusError

DOCUMENTS_AT_ONCE = 256


class NoDocument(CorpusError):
    """What was asked for cannot be done: no document is long enough."""


def is_prepared(target, request, overwrite):
    """Whether the data set of this request is there. Exits with code 2 if something else is."""
    provenance = target / "provenance.json"
    if not target.exists() or target.is_dir() and not any(target.iterdir()):
        return False
    if not any((target / name).is_file() for name in ("provenance.json", "dataset_dict.json", "dataset_info.json")):
        fail(f"{target} is there and is no data set, so it is not replaced; choose another --save_path")
    if overwrite:
        return False
    stored = load_json(provenance, "the description of the data set").get("request") if provenance.exists() else None
    other = difference(stored, request) if isinstance(stored, dict) else "inputs that were not noted"
    if other:
        fail(f"{target} was prepared with {other}; add --overwrite to replace it (measure.sh has none: delete it), or "
             "choose another --save_path")
    return True


def read_batch(corpus, start, stop, tokenizer, min_tokens, path):
    """Write the documents start ... stop that are longer than min_tokens as a parquet file. Returns counts."""
    from datasets import Dataset, Features, List, Value
    columns = Features({"text": Value("large_string"), "input_ids": List(Value("int32")), "document": Value("int64")})
    texts = list(corpus.read(start, stop))
    tokens = encode(tokenizer, texts)
    rows = [{"text": text, "input_ids": ids, "document": index}
            for index, (text, ids) in enumerate(zip(texts, tokens), start) if len(ids) > min_tokens]
    if rows:
        with replacing(path) as temporary:
            Dataset.from_list(rows, features=columns).to_parquet(str(temporary))
    return {"kept": len(rows), "longest": max(map(len, tokens))}


def filter_split(corpus, part, tokenizer, args, directory, split):
    """Write the documents of `part` (a range) longer than --min_tokens into parquet files of directory, in order.

    A file is a batch of documents read, so that an interruption loses one batch. Returns paths and counts. Raises
    NoDocument if none of the first split is long enough.
    """
    paths, kept, read, longest = [], 0, 0, 0
    with progress(total=len(part), desc=f"{split} documents", unit="doc") as bar:
        for start in range(part.start, part.stop, DOCUMENTS_AT_ONCE):
            if args.max_documents and kept >= args.max_documents:
                break
            stop = min(start + DOCUMENTS_AT_ONCE, part.stop)
            path, counts_path = (directory / f"{split}_{start:09d}.{suffix}" for suffix in ("parquet", "json"))
            if not counts_path.exists():
                save_json(counts_path, read_batch(corpus, start, stop, tokenizer, args.min_tokens, path))
            counts = load_json(counts_path, "counts of a batch")
            paths += [str(path)] if counts["kept"] else []
            kept, read, longest = kept + counts["kept"], read + stop - start, max(longest, counts["longest"])
            bar.update(stop - start)
            bar.set_postfix(kept=kept)
    if not kept and split == args.splits[0]:
        if args.source == "tokens" and split == "val":
            raise NoDocument("--source tokens has no validation split, all of its documents are train; leave --splits "
                             "out")
        raise NoDocument(f"no {split} document is longer than {args.min_tokens} tokens (the longest of {read} has "
                         f"{longest}); lower --min_tokens, raise --percent, or split your files less")
    return paths, {"documents_read": read, "documents": kept}


def choose_parts(corpus, args):
    """{split: range of the corpus' order}: the last documents are for validation, all of --source tokens are train."""
    if args.source == "tokens":
        return {"train": range(corpus.n_documents), "val": range(0)}
    n_train = corpus.n_documents - round(args.validation_fraction * corpus.n_documents)
    start, stop = (int(n_train * percent / 100) for percent in (args.start_from, args.start_from + args.percent))
    if stop == start:
        fail(f"{args.percent} percent of the {n_train} documents that are not for validation are none; raise "
             "--percent, or give more documents (--separator cuts files into several)")
    return {"train": range(start, stop), "val": range(n_train, corpus.n_documents)}


def write_dataset(files, about, directory):
    """Write the parquet files {split: paths} as a data set with provenance.json."""
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetGenerationError
    shutil.rmtree(directory, ignore_errors=True)
    cache = directory.with_name("cache")
    try:
        splits = DatasetDict({split: load_dataset("parquet", data_files=paths, split="train", cache_dir=str(cache))
                              for split, paths in files.items()})
        splits.save_to_disk(str(directory))
    except (OSError, DatasetGenerationError) as error:
        fail(f"cannot write {directory}: {error.__cause__ or error}; free some space and start again")
    for split, rows in splits.items():
        about["splits"][split]["tokens"] = sum(len(row["input_ids"]) for row in rows)
        about["splits"][split]["text_sha256"] = text_hash(row["text"] for row in rows)
    save_json(directory / "provenance.json", about)


@contextmanager
def work_folder(path, request):
    """The folder of work in progress on a request; what is there of another one is deleted, as all of it is at the end.

    Exits with code 2 if another process is at work in it.
    """
    make_directory(path)
    with lock(path / "lock"):
        noted = path / "request.json"
        if not noted.exists() or load_json(noted, "the request in progress") != request:
            for entry in path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            save_json(noted, request)
        try:
            yield
        except BaseException as error:
            nothing_done = {entry.name for entry in path.iterdir()} <= {"lock", "request.json"}
            if nothing_done or isinstance(error, NoDocument):  # else started again, it goes on
                shutil.rmtree(path)
            raise
    shutil.rmtree(path)


def prepare(args):
    """Prepare the data set that the flags name, unless it is there. Raises CorpusError."""
    import datasets
    datasets.disable_progress_bars()
    target = Path(args.save_path)
    tokenizer, tokenizer_sha256 = load_tokenizer(args.model_name)
    inputs, read_corpus = choose_source(args)
    request = json.loads(json.dumps({
        **{name: getattr(args, name) for name in (*COMMON_FLAGS, *SOURCE_FLAGS[args.source])},
        "inputs": {**inputs, "tokenizer": tokenizer_sha256}}))
    parts = target.resolve().parent / f"{target.resolve().name}.parts"
    if is_prepared(target, request, args.overwrite):
        if parts.exists():  # of a preparation that was killed as it ended
            with work_folder(parts, request):
                pass
        print(f"{target}: prepared before")
        return
    corpus = read_corpus()
    chosen = choose_parts(corpus, args)
    with work_folder(parts, request):
        about = {"request": request, "source": corpus.source, "model_name": args.model_name,
                 "tokenizer_sha256": tokenizer_sha256, "splits": {}}
        files = {}
        for split in (split for split in chosen if split in args.splits):
            paths, counts = filter_split(corpus, chosen[split], tokenizer, args, parts, split)
            if paths:
                files[split], about["splits"][split] = paths, counts
        write_dataset(files, about, parts / "whole")
        if target.exists():
            shutil.rmtree(parts / "old", ignore_errors=True)
            target.rename(parts / "old")
        (parts / "whole").rename(target)
    print(f"{target}: " + ", ".join(f"{counts['documents']:,} {split} documents of {counts['documents_read']:,} read, "
                                    f"{counts['tokens']:,} tokens" for split, counts in about["splits"].items()))


def main():
    args = parse_corpus(__doc__)
    try:
        prepare(args)
    except CorpusError as error:
        fail(error)


if __name__ == "__main__":
    run_main(main)
