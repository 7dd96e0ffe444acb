"""Make token files of retrieval tasks, on which train.py trains a small model that can retrieve from its context.

    python data/retrieval/prepare.py                                             # key-value recall, a few seconds
    python data/retrieval/prepare.py --gold ends --n_queries 8                   # asked mostly for the ends
    python data/retrieval/prepare.py --task variables
    python data/retrieval/prepare.py --task labels --max_units 8   # in-context learning

Tasks (task_sequences.py): key_value, pairs and then many queries; variables, chains of assignments and queries for the
value of a variable; labels, classes whose labels are drawn anew in each document; gap, definitions, many tokens "." and
queries. The units of a document (pairs, assignments, rounds, tokens of the gap) are --min_units to --max_units many,
log-uniformly in tokens: short ones are learned first. With --order growing their number grows along the file; train.py
shuffles windows within an epoch, so that the default, mixed, is as much of a curriculum, and every first part of the
file holds all lengths.
Writes OUT_DIR/TASK_{train,val}.bin (uint16; every document is followed by the end-of-text token), beside each a JSON
that says where it came from, TASK_tokenizer.json (a word a symbol, for train.py and export_hf.py), and TASK_test.jsonl
for evaluate_retrieval.py: for each number of --test_units, --test_documents documents whose gold units are uniform
whatever --gold is, each an object with "units", "ids" and "answers" (index of the token, gold unit, number of the
query, hops). Files that are there and whole are kept, if the same flags and corpus would give them.
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

from task_sequences import END_OF_TEXT, TASKS, UNKNOWN, stream

SPLITS = {"train": 0, "val": 1, "test": 2}  # what a seed's random numbers are for
ENDINGS = {"train": ".bin", "val": ".bin", "test": ".jsonl"}


def fail(message):
    """End the program with exit code 2 and one line on stderr."""
    print(f"prepare.py: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def replacing(path):
    """Give a temporary path that becomes `path` only when the block has succeeded."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def tokenizer_json(symbols):
    """A tokenizer.json of whole words, white space between them, whose ids are the places in `symbols`."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(symbol, special=True) for symbol in (END_OF_TEXT, UNKNOWN)])
    return tokenizer.to_str()


def file_hash(path):
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_corpus(corpus):
    """The JSON, the end-of-text token and the tokenizer (bytes) of a corpus; exits with code 2 if it is not whole."""
    corpus = Path(corpus)
    try:
        about = json.loads(corpus.with_suffix(".json").read_text(encoding="utf-8"))
        tokens = np.memmap(corpus, {"uint16": np.uint16, "uint32": np.uint32}[about["dtype"]], "r")
        tokenizer = corpus.with_name(about["tokenizer"]["file"]).read_bytes()
        if len(tokens) != about["tokens"] or hashlib.sha256(tokenizer).hexdigest() != about["tokenizer"]["sha256"]:
            raise ValueError("its tokens are cut short, or its tokenizer is another one")
        end, *_ = int(tokens[-1]), about["sha256"], about["vocabulary_size"], about["tokenizer"]["name"]
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}; give a .bin of data/openwebtext/prepare.py")
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{corpus} is no token file with its JSON ({error!r}); give a .bin of data/openwebtext/prepare.py")
    return about, end, tokenizer


def in_tokens_of(corpus, size, end, symbols):
    """The ids (array) that stand for the symbols in a corpus's vocabulary: its own end of text, and its highest ids."""
    free = [i for i in range(size - 1, -1, -1) if i != end][:len(symbols) - 1]
    if len(free) < len(symbols) - 1 or size > 2**16:
        fail(f"{len(symbols)} symbols do not fit into the {size} tokens of {corpus}; ask for fewer keys or values")
    return np.array([end, *free])


def current(out_dir, task, request):
    """Whether the files of this request are there and whole. Exits with code 2 if they are of another request."""
    whole = True
    for split in SPLITS:
        described = out_dir / f"{task}_{split}.json"
        try:
            about = json.loads(described.read_text(encoding="utf-8"))
            if about["request"] != request:
                fail(f"{described} is of other flags or another corpus; add --overwrite to replace it, or choose "
                     "another --out_dir")
            content, tokenizer = described.with_suffix(ENDINGS[split]), out_dir / about["tokenizer"]["file"]
            whole = (whole and file_hash(content) == about["sha256"]
                     and file_hash(tokenizer) == about["tokenizer"]["sha256"])
        except (OSError, ValueError, KeyError, TypeError):  # missing, cut short, or without a hash
            whole = False
    return whole


def write_tokens(path, task, args, split, about, tokens_of):
    """Write the token file of a split and the JSON beside it; tokens_of (array) are the tokens of the symbols."""
    end, documents, n_tokens, n_answers = task.symbols.index(END_OF_TEXT), 0, 0, 0
    digest = hashlib.sha256()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        rng = np.random.default_rng([args.seed, SPLITS[split]])
        for ids, answers in stream(task, args, rng, getattr(args, f"{split}_tokens")):
            content = tokens_of[[*ids, end]].astype(np.uint16).tobytes()
            digest.update(content)
            file.write(content)
            documents, n_tokens, n_answers = documents + 1, n_tokens + len(ids) + 1, n_answers + len(answers)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({
            "split": split, **about, "documents": documents, "tokens": n_tokens, "answers": n_answers,
            "sha256": digest.hexdigest(), "source": f"{args.task} of seed {args.seed}"}, indent=1) + "\n")
    print(f"{path.name}: {n_tokens:,} tokens in {documents:,} documents, {n_answers:,} answers to retrieve")


def write_test(path, task, args, tokens_of):
    """Write the test documents, with gold units drawn uniformly."""
    rng = np.random.default_rng([args.seed, SPLITS["test"]])
    drawn = task.__class__(argparse.Namespace(**{**vars(args), "gold": "uniform"}))
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for units in args.test_units:
            for _ in range(args.test_documents):
                ids, answers = drawn.draw(units, rng, min(args.n_queries, units))  # no unit is asked for twice
                file.write(json.dumps({"units": units, "ids": tokens_of[ids].tolist(), "answers": answers}) + "\n")
    print(f"{path.name}: {args.test_documents} documents of each of {', '.join(map(str, args.test_units))} units")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(f"{message}; see --help")
    add = parser.add_argument_group("the documents").add_argument
    add("--task", choices=TASKS, default="key_value", help="what is to be retrieved (default: key_value)")
    add("--min_units", type=int, default=2, help="pairs, assignments or rounds of the shortest documents (default: 2)")
    add("--max_units", type=int, default=16, help="of the longest documents (default: 16)")
    add("--order", choices=("mixed", "growing"), default="mixed", help="of the documents' lengths (default: mixed)")
    add("--n_queries", type=int, default=16, help="key_value, variables: at the end of a document (default: 16)")
    add("--n_pairs", type=int, default=4, help="gap: pairs, at most (default: 4); its units are the tokens of the gap")
    add("--gold", choices=("uniform", "ends"), default="uniform", help="which units are asked for (default: uniform)")
    add("--ends_power", type=float, default=4.0,
        help="ends: drawn without replacement as the distance from the middle to this power (default: 4)")
    add("--n_keys", type=int, default=64, help="key_value, variables: different keys (default: 64)")
    add("--n_values", type=int, default=16, help="key_value, variables: different values (default: 16)")
    add("--max_hops", type=int, default=4, help="variables: assignments between a variable and a value (default: 4)")
    add("--n_classes", type=int, default=8, help="labels: classes (default: 8)")
    add("--symbols_per_class", type=int, default=8, help="labels: symbols that belong to a class (default: 8)")
    add("--n_labels", type=int, default=16, help="labels: labels that a class can have (default: 16)")
    add = parser.add_argument_group("the files").add_argument
    add("--corpus", help="write the symbols as tokens of this corpus (a .bin of data/openwebtext/prepare.py), its "
        "highest ids, so that data/mix.py can mix both (default: symbols of their own)")
    add("--train_tokens", type=int, default=5_000_000, help="training tokens, or a few more (default: 5,000,000)")
    add("--val_tokens", type=int, default=200_000, help="validation tokens, or a few more (default: 200,000)")
    add("--test_units", type=int, nargs="+", help="units of the test documents (default: --max_units)")
    add("--test_documents", type=int, default=500, help="test documents of each number of units (default: 500)")
    add("--seed", type=int, default=114, help="of the documents (default: 114)")
    add("--out_dir", default=str(Path(__file__).parent), help="directory for the files (default: this script's)")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    args.test_units = sorted(set(args.test_units or [args.max_units]))
    check(args)
    return args


def check(args):
    """Exit with code 2 where the flags do not fit together."""
    for name, value in vars(args).items():
        if isinstance(value, int) and not isinstance(value, bool) and name not in ("seed", "max_hops") and value < 1:
            fail(f"--{name} must be at least 1")
    if not 0 <= args.seed < 2**63 or args.max_hops < 0 or min(args.test_units) < 1:
        fail("--seed must lie from 0 to 2^63 - 1, --max_hops at 0 or above, --test_units at 1 or above")
    if args.min_units > args.max_units:
        fail(f"--min_units {args.min_units} is more than --max_units {args.max_units}")
    if not 0 <= args.ends_power < float("inf"):
        fail("--ends_power must be at least 0")
    most = max(args.max_units, *args.test_units)
    if args.task == "labels":
        if args.gold != "uniform":
            fail("--task labels asks for every example; --gold ends is for key_value and variables")
        if args.n_labels < args.n_classes:
            fail(f"--n_labels {args.n_labels} cannot give --n_classes {args.n_classes} different labels; raise it")
        symbols = args.n_classes * args.symbols_per_class + args.n_labels + 2
    else:
        most = args.n_pairs if args.task == "gap" else most
        if args.n_keys < most:
            fail(f"--n_keys {args.n_keys} cannot give {most} different keys; raise it")
        symbols = args.n_keys + args.n_values + 4
    if symbols > 2**16:
        fail(f"{symbols} symbols are more than the 65,536 that the token files hold; ask for fewer")


def main():
    args = parse_args()
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    task = TASKS[args.task](args)
    request = {name: value for name, value in vars(args).items() if name not in ("out_dir", "overwrite")}
    tokenizer, tokens_of = out_dir / f"{args.task}_tokenizer.json", np.arange(len(task.symbols))
    if args.corpus:
        corpus, end, content = read_corpus(args.corpus)
        request["corpus"] = {"sha256": corpus["sha256"], "tokenizer_sha256": corpus["tokenizer"]["sha256"]}
        size, name = corpus["vocabulary_size"], corpus["tokenizer"]["name"]
        tokens_of = in_tokens_of(args.corpus, size, end, task.symbols)
    else:
        size, name = len(task.symbols), f"{args.task} symbols"
        content = tokenizer_json(task.symbols).encode()
    if not args.overwrite and current(out_dir, args.task, request):
        return print(f"{args.task} in {out_dir}: prepared before")
    with replacing(tokenizer) as temporary:
        temporary.write_bytes(content)
    about = {"dtype": "uint16", "vocabulary_size": size, "request": request, "tokenizer": {
        "name": name, "file": tokenizer.name, "sha256": hashlib.sha256(content).hexdigest()}}
    for split in ("train", "val"):
        write_tokens(out_dir / f"{args.task}_{split}.bin", task, args, split, about, tokens_of)
    test = out_dir / f"{args.task}_test.jsonl"
    write_test(test, task, args, tokens_of)
    with replacing(test.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"request": request, "tokenizer": about["tokenizer"],
                                         "sha256": file_hash(test)}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(f"{error.filename or 'the output'}: {error.strerror or error}; free some space or choose another "
             "--out_dir")
    except KeyboardInterrupt:
        print("interrupted; start the same command again", file=sys.stderr)
        raise SystemExit(130) from None
