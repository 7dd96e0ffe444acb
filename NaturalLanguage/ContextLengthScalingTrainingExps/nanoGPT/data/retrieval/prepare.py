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

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # the modules of this part

from utils import Parser, fail, non_negative_float, non_negative_int, positive_int, run_main, seed

import argparse
import hashlib
import json
from argparse import BooleanOptionalAction

import numpy as np

from files import identity, make_directory, replacing, save_json
from prepared import is_prepared, read_tokens
from task_sequences import END_OF_TEXT, TASKS, UNKNOWN, stream

SPLITS = {"train": 0, "val": 1, "test": 2}  # what a seed's random numbers are for
ENDINGS = {"train": ".bin", "val": ".bin", "test": ".jsonl"}


def tokenizer_json(symbols):
    """A tokenizer.json of whole words, white space between them, whose ids are the places in `symbols`."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(symbol, special=True) for symbol in (END_OF_TEXT, UNKNOWN)])
    return tokenizer.to_str()


def read_corpus(path):
    """The JSON, the end-of-text token and the tokenizer (bytes) of a corpus; exits with code 2 if it is not whole."""
    tokens, about = read_tokens(path)
    tokenizer = Path(path).with_name(about["tokenizer"]["file"])
    if identity(tokenizer) != about["tokenizer"]["sha256"]:
        fail(f"{tokenizer} is not the tokenizer of {path}, or cut short; make both again with "
             "data/openwebtext/prepare.py")
    return about, int(tokens[-1]), tokenizer.read_bytes()


def in_tokens_of(corpus, size, end, symbols):
    """The ids (array) that stand for the symbols in a corpus's vocabulary: its own end of text, and its highest ids."""
    free = [i for i in range(size - 1, -1, -1) if i != end][:len(symbols) - 1]
    if len(free) < len(symbols) - 1 or size > 2**16:
        fail(f"{len(symbols)} symbols do not fit into the {size} tokens of {corpus}; ask for fewer keys or values")
    return np.array([end, *free])


def write_tokens(path, task, args, split, about, tokens_of):
    """Write the token file of a split and the JSON beside it; tokens_of (array) are the tokens of the symbols."""
    end, documents, n_tokens, n_answers = task.symbols.index(END_OF_TEXT), 0, 0, 0
    digest = hashlib.sha256()
    path.with_suffix(".json").unlink(missing_ok=True)  # or an interrupt would leave it beside other tokens
    with replacing(path) as temporary, open(temporary, "wb") as file:
        rng = np.random.default_rng([args.seed, SPLITS[split]])
        for ids, answers in stream(task, args, rng, getattr(args, f"{split}_tokens")):
            content = tokens_of[[*ids, end]].astype(np.uint16).tobytes()
            digest.update(content)
            file.write(content)
            documents, n_tokens, n_answers = documents + 1, n_tokens + len(ids) + 1, n_answers + len(answers)
    save_json(path.with_suffix(".json"), {
        "split": split, **about, "documents": documents, "tokens": n_tokens, "answers": n_answers,
        "sha256": digest.hexdigest(), "source": f"{args.task} of seed {args.seed}"})
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
    parser = Parser(__doc__)
    add = parser.add_argument_group("the documents").add_argument
    add("--task", choices=TASKS, default="key_value", help="what is to be retrieved")
    add("--min_units", type=positive_int, default=2, help="pairs, assignments or rounds of the shortest documents")
    add("--max_units", type=positive_int, default=16, help="of the longest documents")
    add("--order", choices=("mixed", "growing"), default="mixed", help="of the documents' lengths")
    add("--n_queries", type=positive_int, default=16, help="key_value, variables: at the end of a document")
    add("--n_pairs", type=positive_int, default=4, help="gap: pairs, at most; its units are the tokens of the gap")
    add("--gold", choices=("uniform", "ends"), default="uniform", help="which units are asked for")
    add("--ends_power", type=non_negative_float, default=4.0,
        help="ends: drawn without replacement as the distance from the middle to this power")
    add("--n_keys", type=positive_int, default=64, help="key_value, variables: different keys")
    add("--n_values", type=positive_int, default=16, help="key_value, variables: different values")
    add("--max_hops", type=non_negative_int, default=4, help="variables: assignments between a variable and a value")
    add("--n_classes", type=positive_int, default=8, help="labels: classes")
    add("--symbols_per_class", type=positive_int, default=8, help="labels: symbols that belong to a class")
    add("--n_labels", type=positive_int, default=16, help="labels: labels that a class can have")
    add = parser.add_argument_group("the files").add_argument
    add("--corpus", help="write the symbols as tokens of this corpus (a .bin of data/openwebtext/prepare.py), its "
        "highest ids, so that data/mix.py can mix both (default: symbols of their own)")
    add("--train_tokens", type=positive_int, default=5_000_000, help="training tokens, or a few more")
    add("--val_tokens", type=positive_int, default=200_000, help="validation tokens, or a few more")
    add("--test_units", type=positive_int, nargs="+", help="units of the test documents (default: --max_units)")
    add("--test_documents", type=positive_int, default=500, help="test documents of each number of units")
    add("--seed", type=seed, default=114, help="of the documents")
    add("--out_dir", default=str(Path(__file__).parent), help="directory for the files (default: this script's)")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    args.test_units = sorted(set(args.test_units or [args.max_units]))
    check(args)
    return args


def check(args):
    """Exit with code 2 where the flags do not fit together."""
    if args.min_units > args.max_units:
        fail(f"--min_units {args.min_units} is more than --max_units {args.max_units}")
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
    out_dir = make_directory(args.out_dir)
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
    there = [not args.overwrite and is_prepared(out_dir / f"{args.task}_{split}{ending}", request, hashed=True)
             for split, ending in ENDINGS.items()]
    if all(there):
        return print(f"{args.task} in {out_dir}: prepared before")
    with replacing(tokenizer) as temporary:
        temporary.write_bytes(content)
    about = {"dtype": "uint16", "vocabulary_size": size, "request": request, "tokenizer": {
        "name": name, "file": tokenizer.name, "sha256": hashlib.sha256(content).hexdigest()}}
    for split in ("train", "val"):
        write_tokens(out_dir / f"{args.task}_{split}.bin", task, args, split, about, tokens_of)
    test = out_dir / f"{args.task}_test.jsonl"
    write_test(test, task, args, tokens_of)
    save_json(test.with_suffix(".json"), {
        "request": request, "tokenizer": about["tokenizer"], "sha256": identity(test)})


if __name__ == "__main__":
    run_main(main)
