"""Select the documents to measure on: those of a corpus that are long enough (paper section 5).

    python prepare_data.py --percent 10 --start_from 0.0 --save_path ./filtered_dataset          # of OpenWebText
    python prepare_data.py --source dataset --dataset wikitext --config wikitext-103-v1 --percent 100
    python prepare_data.py --source text --text_files 'books/**/*.txt' --percent 100
    python prepare_data.py --source docstrings --percent 100 --model_name path/to/model          # nothing to download
    python prepare_data.py --source tokens --tokens_file DATA/LONGCONTEXTSUBSET_val_P100.0_SFrom0.0.bin ...

Writes SAVE_PATH, which datasets.load_from_disk reads, with the splits train and val, and in it provenance.json.
Columns: text, input_ids (tokens of --model_name's tokenizer, so that they are made once) and document (place in the
corpus' order). The order is shuffled (of OpenWebText: its row groups, so that a small part is a small download); the
last 5% are val, --percent and --start_from choose from the others. The documents of --source tokens (the validation
tokens of a model trained here, say) are one split already, and all of them are taken.
Started again, a prepared data set is kept and an interrupted preparation goes on.
"""

import hashlib
import json
import shutil
from argparse import BooleanOptionalAction
from pathlib import Path

from tqdm import tqdm

import documents
from hub import encode, load_tokenizer
from utils import (
    Parser, fail, load_json, lock, make_directory, non_negative_int, number, positive_int, save_json,
)

DOCUMENTS_AT_ONCE = 256


def text_hash(texts):
    """SHA-256 over a sequence of texts."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def filter_split(corpus, part, tokenizer, args, directory, split):
    """Write the documents of `part` (a range) longer than --min_tokens into parquet files of directory, in order.

    A file is a batch of documents read, so that an interruption loses one batch. Returns paths and counts.
    """
    from datasets import Dataset, Features, List, Value
    columns = Features({"text": Value("large_string"), "input_ids": List(Value("int32")), "document": Value("int64")})
    paths, kept, read, longest = [], 0, 0, 0
    with tqdm(total=len(part), desc=f"{split} documents", unit="doc") as bar:
        for start in range(part.start, part.stop, DOCUMENTS_AT_ONCE):
            if args.max_documents and kept >= args.max_documents:
                break
            stop = min(start + DOCUMENTS_AT_ONCE, part.stop)
            path, counts_path = (directory / f"{split}_{start:09d}.{suffix}" for suffix in ("parquet", "json"))
            if not counts_path.exists():
                texts = list(corpus.read(start, stop))
                tokens = encode(tokenizer, texts)
                rows = [{"text": text, "input_ids": ids, "document": start + place}
                        for place, (text, ids) in enumerate(zip(texts, tokens)) if len(ids) > args.min_tokens]
                if rows:
                    Dataset.from_list(rows, features=columns).to_parquet(str(path))
                save_json(counts_path, {"kept": len(rows), "longest": max(map(len, tokens))})
            counts = load_json(counts_path, "counts of a batch")
            paths += [str(path)] if counts["kept"] else []
            kept, read, longest = kept + counts["kept"], read + stop - start, max(longest, counts["longest"])
            bar.update(stop - start)
            bar.set_postfix(kept=kept)
    if not kept and split == args.splits[0]:
        fail(f"no {split} document is longer than {args.min_tokens} tokens (the longest of {read} has {longest}); "
             "lower --min_tokens, raise --percent, or split your files less")
    return paths, {"documents_read": read, "documents": kept}


def choose_documents(args):
    """The Documents that the flags name."""
    if args.source == "text":
        return documents.text_files(args.text_files, args.separator, args.seed)
    if args.source == "dataset":
        return documents.dataset(args.dataset, args.config, args.split, args.column, args.seed)
    if args.source == "tokens":
        return documents.tokens_file(args.tokens_file, args.seed)
    if args.source == "docstrings":
        return documents.docstrings(args.packages, args.seed)
    return documents.openwebtext(args.seed)


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--percent", type=number(float, 0.0, 100.0), default=10.0, help="of the documents that are not for validation")
    add("--start_from", type=number(float, 0.0, 100.0), default=0.0, help="where that part begins, in percent")
    add("--save_path", default="./filtered_dataset", help="directory for the data set")
    add("--model_name", default="meta-llama/Llama-3.1-8B", help="model whose tokenizer counts: hub name or directory")
    add("--source", choices=("openwebtext", "dataset", "text", "tokens", "docstrings"), default="openwebtext",
        help="the corpus")
    add("--dataset", help="dataset: name on the hub, or directory")
    add("--config", help="dataset: its configuration")
    add("--split", default="train", help="dataset: its split")
    add("--column", default="text", help="dataset: the column with the text")
    add("--text_files", nargs="+", help="text: files or patterns (**: any depth), a document each")
    add("--separator", help="text: what stands between documents within a file (default: nothing does)")
    add("--tokens_file", help="tokens: a .bin of the training part's prepare.py")
    add("--packages", nargs="+", default=list(documents.DOCSTRING_PACKAGES),
        help="docstrings: installed packages; default: those that requirements.txt pins")
    add("--min_tokens", type=non_negative_int, default=3000, help="keep documents longer than this")
    add("--max_documents", type=positive_int, help="stop reading a split when so many are kept (default: never)")
    add("--validation_fraction", type=number(float, 0.0, 0.99), default=0.05, help="of the documents, for validation")
    add("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="the splits to prepare")
    add("--seed", type=non_negative_int, default=114, help="of the order of the documents")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="replace the data set that is there")
    args = parser.parse_args()
    if args.percent == 0 or args.start_from + args.percent > 100:
        fail("--percent must lie above 0, and --percent plus --start_from at 100 or below")
    for source, flag in (("text", "text_files"), ("dataset", "dataset"), ("tokens", "tokens_file")):
        if args.source == source and not getattr(args, flag):
            fail(f"--source {source} needs --{flag}")
    return args


def main():
    args = parse_args()
    import datasets
    datasets.disable_progress_bars()
    target = Path(args.save_path)
    tokenizer, tokenizer_sha256 = load_tokenizer(args.model_name)
    request = {name: value for name, value in vars(args).items()
               if name not in ("save_path", "overwrite", "model_name")}
    request["tokenizer_sha256"] = tokenizer_sha256
    if args.source == "tokens":
        request["tokens_sha256"] = documents.describe_tokens(args.tokens_file)["sha256"]
    if target.exists() and any(target.iterdir()) and not args.overwrite:
        if (target / "provenance.json").exists() and load_json(target / "provenance.json", "")["request"] == request:
            return print(f"{target}: prepared before")
        fail(f"{target} holds something else (other flags, another tokenizer, or not a data set of this script); add "
             "--overwrite to replace it, or choose another --save_path")
    parts_name = f"{target.name}.{hashlib.sha256(json.dumps(request).encode()).hexdigest()[:12]}.parts"
    parts = make_directory(target.resolve().parent / parts_name)
    with lock(parts / "lock"):
        corpus = choose_documents(args)
        n_valid = 0 if args.source == "tokens" else round(args.validation_fraction * corpus.count)
        n_rest = corpus.count - n_valid
        start, stop = (int(n_rest * percent / 100) for percent in (args.start_from, args.start_from + args.percent))
        if args.source == "tokens":
            start, stop = 0, corpus.count
        if stop == start:
            fail(f"{args.percent} percent of the {n_rest} documents that are not for validation are none; raise "
                 "--percent, or give more documents (--separator cuts files into several)")
        about = {"request": request, "source": corpus.source, "model_name": args.model_name,
                 "tokenizer_sha256": tokenizer_sha256, "splits": {}}
        files = {}
        for split, part in (("train", range(start, stop)), ("val", range(n_rest, corpus.count))):
            if split not in args.splits:
                continue
            paths, counts = filter_split(corpus, part, tokenizer, args, parts, split)
            if paths:
                files[split], about["splits"][split] = paths, counts
        write_dataset(files, about, parts / "whole")
        if target.exists():
            shutil.rmtree(target)
        (parts / "whole").rename(target)
    shutil.rmtree(parts)
    print(f"{target}: " + ", ".join(f"{counts['documents']:,} {split} documents of {counts['documents_read']:,} read, "
                                    f"{counts['tokens']:,} tokens" for split, counts in about["splits"].items()))


def write_dataset(files, about, directory):
    """Write the parquet files {split: paths} as a data set with provenance.json."""
    from datasets import DatasetDict, load_dataset
    shutil.rmtree(directory, ignore_errors=True)
    cache = directory.with_name("cache")
    splits = DatasetDict({split: load_dataset("parquet", data_files=paths, split="train", cache_dir=str(cache))
                          for split, paths in files.items()})
    for split, rows in splits.items():
        about["splits"][split]["tokens"] = sum(len(row["input_ids"]) for row in rows)
        about["splits"][split]["text_sha256"] = text_hash(row["text"] for row in rows)
    splits.save_to_disk(str(directory))
    save_json(directory / "provenance.json", about)


if __name__ == "__main__":
    main()
