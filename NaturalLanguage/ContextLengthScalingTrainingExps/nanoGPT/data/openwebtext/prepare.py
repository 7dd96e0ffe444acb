"""Tokenise a corpus into training and validation tokens (paper section 6).

    python data/openwebtext/prepare.py --percent 2 --start_from 0.0                        # of OpenWebText
    python data/openwebtext/prepare.py --source docstrings --percent 100 --tokenizer bpe:4096      # nothing to download
    python data/openwebtext/prepare.py --source code --percent 100 --tokenizer bpe:4096            # nor here
    python data/openwebtext/prepare.py --source text --text_files 'books/**/*.txt' --percent 100
    python data/openwebtext/prepare.py --source text --text_files mine.jsonl.gz --column body --percent 100
    python data/openwebtext/prepare.py --source dataset --dataset wikitext --config wikitext-103-v1 --percent 100

Writes OUT_DIR/LONGCONTEXTSUBSET_{train,val}_P{percent}_SFrom{start}.bin (uint16, or uint32 for a vocabulary beyond
65,536; every document is followed by the end-of-text token), beside each a JSON that says where it came from, and the
tokenizer. With --min_tokens 0 the names begin with SUBSET. The documents of a corpus have a fixed shuffled order. Its
last 5% are for validation, whatever part is taken; the percent and the start are of the others. So a validation
document is never trained on, and the validation tokens are the same at every percent and start (of one tokenizer).
The code of packages (and with --split_by_package their docstrings) is split by package instead: what is for validation
was written for packages that are not trained on.

Started again, a prepared corpus is kept if the same flags and inputs (the contents of files, the versions of packages)
would give it, and refused if not; an interrupted preparation goes on. --overwrite leaves the files that are there until
the new ones are whole.
"""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # the modules of this part

from utils import Parser, fail, fraction, positive_int, progress, run_main

import os
import shutil
from argparse import BooleanOptionalAction

import corpora
import text_corpora
from bpe import END_OF_TEXT, Bpe, Gpt2, TokenizerError, train_bpe
from corpora import CorpusError
from files import identity, make_directory, replacing, save_json
from prepared import is_prepared
from spool import NothingToWrite, Spool, batches, work_folder

DOCUMENTS_AT_ONCE = 512
DEFAULT_VALIDATION_FRACTION = 0.05
# Flags that change what a source gives, beside those that do for all sources; the inputs themselves are identified.
SOURCE_FLAGS = {**text_corpora.SOURCE_FLAGS, "docstrings": ("validation_packages",), "code": ("validation_packages",)}
COMMON_FLAGS = ("source", "percent", "start_from", "min_tokens", "tokenizer", "validation_fraction",
                "max_validation_tokens", "seed")


def parse_args():
    parser = Parser(__doc__)
    text_corpora.add_flags(parser, SOURCE_FLAGS)
    group = parser.add_argument_group("validation").add_argument
    group("--validation_fraction", type=fraction,
          help=f"of the documents, for validation (default: {DEFAULT_VALIDATION_FRACTION}, unless split by package)")
    group("--max_validation_tokens", type=positive_int, default=10_000_000, help="stop reading them after so many")
    group = parser.add_argument_group("--source docstrings and --source code").add_argument
    group("--packages", nargs="+", default=list(corpora.DOCSTRING_PACKAGES),
          help="installed packages (default: those that requirements.txt pins)")
    group("--split_by_package", action=BooleanOptionalAction,
          help="validate on packages that are not trained on (default: for code only)")
    group("--validation_packages", nargs="+",
          help=f"those packages (default: {' '.join(corpora.VALIDATION_PACKAGES)})")
    group = parser.add_argument_group("tokens and files").add_argument
    group("--tokenizer", default="gpt2", help="gpt2, or bpe:N, a byte-level BPE of N tokens trained on the training "
          "documents, or the tokenizer.json of another corpus")
    group("--workers", type=positive_int, default=os.cpu_count(), help="threads that tokenise")
    group("--out_dir", default=str(Path(__file__).parent), help="directory for the files (default: this script's)")
    group("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    check(args)
    return args


def check(args):
    """Exit with code 2 if flags do not fit together; sets what depends on several of them."""
    text_corpora.check_flags(args)
    kind, _, size = args.tokenizer.partition(":")
    if not (args.tokenizer == "gpt2" or kind == "bpe" and size.isdecimal() and int(size) > 256
            or Path(args.tokenizer).is_file()):
        fail(f"--tokenizer {args.tokenizer} is neither gpt2 nor bpe:N with N above 256 nor a file")
    of_packages = args.source in ("docstrings", "code")
    if args.split_by_package is None:
        args.split_by_package = args.source == "code" or args.validation_packages is not None
    if args.split_by_package and not of_packages or args.validation_packages and not args.split_by_package:
        fail("--split_by_package and --validation_packages are for --source docstrings and code, and go together")
    if args.split_by_package:
        if args.validation_fraction is not None:
            fail("--validation_fraction and a split by package exclude each other; see --validation_packages")
        args.validation_packages = sorted(map(corpora.normalised, args.validation_packages
                                              or corpora.VALIDATION_PACKAGES))
        unknown = set(args.validation_packages) - set(map(corpora.normalised, args.packages))
        if unknown:
            fail(f"--validation_packages {' '.join(sorted(unknown))}: not among --packages; name some of those")
    else:
        if args.validation_fraction is None:
            args.validation_fraction = DEFAULT_VALIDATION_FRACTION
        if not 0 < args.validation_fraction < 1:
            fail("--validation_fraction must lie between 0 and 1")


def choose_source(args):
    """What identifies the inputs that the flags name, and a function that reads them into a Corpus."""
    if args.source in ("docstrings", "code"):
        distributions = corpora.installed(args.packages)
        return corpora.versions(distributions), lambda: corpora.package_texts(
            args.source, distributions, args.validation_packages, args.seed)
    return text_corpora.choose_source(args)


def choose_tokenizer(args, corpus, part, path):
    """The tokenizer that --tokenizer names, saved at `path`; one trained before an interruption is taken from there."""
    os.environ["RAYON_NUM_THREADS"] = str(args.workers)
    if args.tokenizer == "gpt2":
        tokenizer = Gpt2(args.workers)
    elif Path(args.tokenizer).is_file():
        tokenizer = Bpe.from_file(args.tokenizer)
        if tokenizer.end_of_text is None:
            raise TokenizerError(f"{args.tokenizer} has no token {END_OF_TEXT}; take the tokenizer of another prepared "
                                 "corpus")
        shutil.copyfile(args.tokenizer, path)  # the same bytes: the same tokenizer to train.py and mix.py
        return tokenizer
    elif path.exists():
        return Bpe.from_file(path)
    else:
        texts = progress(corpus.read(part.start, part.stop), total=len(part), desc="documents read", unit="doc")
        tokenizer = train_bpe(texts, int(args.tokenizer.partition(":")[2]))
    with replacing(path) as temporary:
        temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    return tokenizer


def write_split(stem, corpus, part, tokenizer, args, about):
    """Tokenise the documents of `part` (a range), keep the long ones, and write STEM.bin and STEM.json."""
    most_tokens = args.max_validation_tokens if about["split"] == "val" else float("inf")
    spool = Spool(stem, about["dtype"])
    state = spool.state
    with progress(total=len(part), initial=state["read"], desc=f"{about['split']} documents", unit="doc") as bar:
        for texts in batches(corpus.read(part.start + state["read"], part.stop), DOCUMENTS_AT_ONCE):
            if state["tokens"] >= most_tokens:
                break
            encoded = tokenizer.encode_batch(texts)
            spool.append(len(texts), [[*ids, tokenizer.end_of_text] for ids in encoded if len(ids) > args.min_tokens],
                         max(map(len, encoded)))
            bar.update(len(texts))
            bar.set_postfix(tokens=f"{state['tokens']:,}")
    if not state["documents"]:
        raise NothingToWrite(
            f"no {about['split']} document is longer than {args.min_tokens} tokens (the longest of {state['read']} has "
            f"{state['longest']}); lower --min_tokens, raise --percent, or split your files less")
    digest = spool.write_shuffled(stem.with_name(f"{stem.name}.bin"), args.seed)
    save_json(stem.with_name(f"{stem.name}.json"), {
        **about, "documents": state["documents"], "documents_read": state["read"], "tokens": state["tokens"],
        "sha256": digest, "source": corpus.source})
    spool.remove()
    print(f"{stem.name}.bin: {state['tokens']:,} tokens in {state['documents']:,} documents, of {state['read']:,} read")


def make_files(args, corpus, folder, names, request):
    """Write the tokens of both splits, their descriptions and the tokenizer into a folder; goes on where it stopped."""
    n_valid = corpus.n_validation or max(1, round(args.validation_fraction * corpus.n_documents))
    n_train = corpus.n_documents - n_valid
    parts = {"train": range(int(n_train * args.start_from / 100),
                            int(n_train * (args.start_from + args.percent) / 100)),
             "val": range(n_train, corpus.n_documents)}
    if not parts["train"]:
        raise NothingToWrite(f"{args.percent} percent of the {n_train} documents that are not for validation are none; "
                             "raise --percent, or give more documents (--separator cuts files into several)")
    path = folder / f"{names['tokenizer']}.json"
    tokenizer = choose_tokenizer(args, corpus, parts["train"], path)
    about = {"dtype": "uint16" if tokenizer.vocabulary_size <= 2**16 else "uint32",
             "vocabulary_size": tokenizer.vocabulary_size,
             "tokenizer": {"name": args.tokenizer, "file": path.name, "sha256": identity(path)}, "request": request}
    for split, part in parts.items():
        if not (folder / f"{names[split]}.json").exists():
            write_split(folder / names[split], corpus, part, tokenizer, args, {"split": split, **about})


def publish(folder, names, out_dir):
    """Move the finished files to their place: the old descriptions go first and the new ones come last.

    So at no moment a description stands beside tokens or a tokenizer of another corpus; this can be done again.
    """
    train, val = (f"{names[split]}.json" for split in ("train", "val"))
    if (folder / train).exists():
        for name in (train, val):
            (out_dir / name).unlink(missing_ok=True)
    for name in (f"{names['train']}.bin", f"{names['val']}.bin", f"{names['tokenizer']}.json", train, val):
        if (folder / name).exists():
            os.replace(folder / name, out_dir / name)


def prepare(args):
    """Prepare the corpus that the flags name, unless it is there. Raises CorpusError, TokenizerError and OSError."""
    out_dir = make_directory(args.out_dir)
    family = "LONGCONTEXTSUBSET" if args.min_tokens else "SUBSET"
    part = f"P{args.percent}_SFrom{args.start_from}"
    names = {name: f"{family}_{name}_{part}" for name in ("train", "val", "tokenizer")}
    inputs, read_corpus = choose_source(args)
    if Path(args.tokenizer).is_file():
        inputs = {**inputs, "tokenizer_sha256": identity(args.tokenizer)}
    request = {name: getattr(args, name) for name in (*COMMON_FLAGS, *SOURCE_FLAGS[args.source])} | {"inputs": inputs}
    there = [not args.overwrite and is_prepared(out_dir / f"{names[split]}.bin", request) for split in ("train", "val")]
    folder = out_dir / f"{family}_{part}.parts"
    if all(there):
        if folder.exists():  # of a preparation that was killed as it ended
            with work_folder(folder, request):
                pass
        print(f"{names['train']}.bin and {names['val']}.bin: prepared before")
        return
    with work_folder(folder, request):
        if not (folder / f"{names['val']}.json").exists():  # the last file that is written, and the last that is moved
            corpus = read_corpus()
            corpora.compare_with_reference(corpus.source)
            make_files(args, corpus, folder, names, request)
        publish(folder, names, out_dir)


def main():
    args = parse_args()
    try:
        prepare(args)
    except (CorpusError, TokenizerError) as error:
        fail(error)
    except OSError as error:
        fail(f"{error.filename or 'the output'}: {error.strerror or error}; free some space or choose another "
             "--out_dir and start again, it goes on from there")


if __name__ == "__main__":
    run_main(main)
