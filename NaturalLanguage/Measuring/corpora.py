"""Which corpus is meant: the flags of prepare_data.py, what identifies the inputs that they name, and their reading."""

from argparse import BooleanOptionalAction

import documents
import text_corpora
import text_files
from utils import Parser, argument_type, fail, positive_int

# Flags that change what a source gives, beside those that do for all sources; the inputs themselves are identified.
SOURCE_FLAGS = {**text_corpora.SOURCE_FLAGS, "tokens": (), "docstrings": ()}
COMMON_FLAGS = ("source", "percent", "start_from", "min_tokens", "max_documents", "validation_fraction", "splits",
                "seed")

validation_share = argument_type(float, lambda value: 0 <= value <= 0.99, "a number from 0 to 0.99")


def parse_corpus(description, argv=None):
    """The flags of prepare_data.py, parsed. Exits with code 2 where they do not fit each other."""
    parser = Parser(description)
    group = text_corpora.add_flags(parser, SOURCE_FLAGS).add_argument
    group("--validation_fraction", type=validation_share, default=0.05, help="of the documents, for validation")
    group("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="the splits to prepare")
    group("--max_documents", type=positive_int, help="stop reading a split when so many are kept (default: never)")
    group = parser.add_argument_group("--source docstrings and --source tokens").add_argument
    group("--packages", nargs="+", default=list(documents.DOCSTRING_PACKAGES),
          help="docstrings: installed packages (default: those that requirements.txt pins)")
    group("--tokens_file", help="tokens: a .bin of the training part's prepare.py")
    group = parser.add_argument_group("tokens and files").add_argument
    group("--model_name", default="meta-llama/Llama-3.1-8B", help="model whose tokenizer counts: hub name or directory")
    group("--save_path", default="./filtered_dataset", help="directory for the data set")
    group("--overwrite", action=BooleanOptionalAction, default=False, help="replace the data set that is there")
    args = parser.parse_args(argv)
    text_corpora.check_flags(args)
    if args.source == "tokens" and not args.tokens_file:
        fail("--source tokens needs --tokens_file")
    return args


def choose_source(args):
    """What identifies the inputs that the flags name, and a function that reads them into a Corpus."""
    if args.source == "tokens":
        _, tokenizer_file = documents.describe_tokens(args.tokens_file)
        return ({"tokens": text_files.contents_sha256([args.tokens_file]),
                 "tokenizer of the tokens": text_files.contents_sha256([str(tokenizer_file)])},
                lambda: documents.tokens_file(args.tokens_file, args.seed))
    if args.source == "docstrings":
        distributions = documents.installed(args.packages)
        return documents.versions(distributions), lambda: documents.docstrings(distributions, args.seed)
    return text_corpora.choose_source(args)
