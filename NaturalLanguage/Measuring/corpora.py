"""Which corpus is meant: the flags of prepare_data.py, what identifies the inputs that they name, and their reading."""

from argparse import BooleanOptionalAction

import documents
import text_corpora
import text_files
from utils import Parser, argument_type, fail, non_negative_int, positive_int, seed

# Flags that change what a source gives, beside those that do for all sources; the inputs themselves are identified.
SOURCE_FLAGS = {"openwebtext": (), "dataset": ("column", "encoding_errors"),
                "text": ("column", "separator", "encoding", "encoding_errors"), "tokens": (), "docstrings": ()}
COMMON_FLAGS = ("source", "percent", "start_from", "min_tokens", "max_documents", "validation_fraction", "splits",
                "seed")

percentage = argument_type(float, lambda value: 0 <= value <= 100, "a number from 0 to 100")
validation_share = argument_type(float, lambda value: 0 <= value <= 0.99, "a number from 0 to 0.99")


def parse_corpus(description, argv=None):
    """The flags of prepare_data.py, parsed. Exits with code 2 where they do not fit each other."""
    parser = Parser(description)
    group = parser.add_argument_group("which documents").add_argument
    group("--source", choices=tuple(SOURCE_FLAGS), default="openwebtext", help="the corpus")
    group("--percent", type=percentage, default=10.0, help="of the documents that are for training")
    group("--start_from", type=percentage, default=0.0, help="where that part begins, in percent")
    group("--validation_fraction", type=validation_share, default=0.05, help="of the documents, for validation")
    group("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="the splits to prepare")
    group("--min_tokens", type=non_negative_int, default=3000, help="keep documents longer than this")
    group("--max_documents", type=positive_int, help="stop reading a split when so many are kept (default: never)")
    group("--seed", type=seed, default=114, help="of the order of the documents")
    group = parser.add_argument_group("--source text").add_argument
    group("--text_files", nargs="+", help="files or patterns (**: any depth): plain text, .jsonl, .json (a list), "
          ".csv, .tsv or .parquet, also as .gz, .bz2 or .xz; a plain file, a line, an entry or a row is a document")
    group("--separator", help="what stands between documents within a plain file (default: nothing does)")
    group("--encoding", default="utf-8", help="of the files, except .parquet")
    group("--encoding_errors", choices=("strict", "replace"), default="strict",
          help="refuse what is not of this encoding, NUL too, or replace and count it")
    group("--column", default="text", help="with the text: of all but plain files, and of data sets")
    group = parser.add_argument_group("--source dataset").add_argument
    group("--dataset", help="name on the hub, or directory")
    group("--config", help="its configuration")
    group("--split", default="train", help="its split")
    group = parser.add_argument_group("--source docstrings and --source tokens").add_argument
    group("--packages", nargs="+", default=list(documents.DOCSTRING_PACKAGES),
          help="docstrings: installed packages (default: those that requirements.txt pins)")
    group("--tokens_file", help="tokens: a .bin of the training part's prepare.py")
    group = parser.add_argument_group("tokens and files").add_argument
    group("--model_name", default="meta-llama/Llama-3.1-8B", help="model whose tokenizer counts: hub name or directory")
    group("--save_path", default="./filtered_dataset", help="directory for the data set")
    group("--overwrite", action=BooleanOptionalAction, default=False, help="replace the data set that is there")
    args = parser.parse_args(argv)
    if args.percent == 0 or args.start_from + args.percent > 100:
        fail("--percent must lie above 0, and --percent plus --start_from at 100 or below")
    for source, flag in (("text", "text_files"), ("dataset", "dataset"), ("tokens", "tokens_file")):
        if args.source == source and not getattr(args, flag):
            fail(f"--source {source} needs --{flag}")
    try:
        b"x".decode(args.encoding, "ignore")
    except (LookupError, ValueError):
        fail(f"--encoding {args.encoding} is none that Python knows; for example utf-8, utf-16, latin-1, cp1252")
    return args


def choose_source(args):
    """What identifies the inputs that the flags name, and a function that reads them into a Corpus."""
    if args.source == "text":
        paths = text_files.find_files(args.text_files)
        reading = text_files.Reading(args.column, args.separator, args.encoding, args.encoding_errors)
        return ({"files": len(paths), "sha256": text_files.contents_sha256(paths)},
                lambda: text_corpora.text_files(paths, reading, args.seed))
    if args.source == "dataset":
        rows = text_corpora.load_rows(args.dataset, args.config, args.split, args.column)
        return {"fingerprint": rows._fingerprint}, lambda: text_corpora.dataset(
            rows, args.dataset, args.config, args.split, args.column, args.encoding_errors, args.seed)
    if args.source == "tokens":
        _, tokenizer_file = documents.describe_tokens(args.tokens_file)
        return ({"tokens": text_files.contents_sha256([args.tokens_file]),
                 "tokenizer of the tokens": text_files.contents_sha256([str(tokenizer_file)])},
                lambda: documents.tokens_file(args.tokens_file, args.seed))
    if args.source == "docstrings":
        distributions = documents.installed(args.packages)
        return documents.versions(distributions), lambda: documents.docstrings(distributions, args.seed)
    return {"revision": text_corpora.OPENWEBTEXT_REVISION}, lambda: text_corpora.openwebtext(args.seed)
