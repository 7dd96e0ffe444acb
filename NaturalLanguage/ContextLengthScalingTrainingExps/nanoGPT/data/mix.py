"""Mix long and short documents into token files of one size, a file for each share of long text (ProLong's question).

    python data/mix.py --long long/SUBSET_train_P100.0_SFrom0.0.bin --short short/SUBSET_train_P100.0_SFrom0.0.bin \\
        --long_share 0 0.3 0.6 1 --window 16384 --out_dir data/mixes

Both sources are files of prepare.py with the same tokenizer (make the second one with --tokenizer and the first one's
tokenizer.json). Each is packed: its documents follow each other in windows of --window tokens, and a document is
cut where a window ends, its end-of-text token in the last place. So windows are documents of their own to train.py
--document_mask, which reads the documents off these tokens. The windows of both sources are shuffled together. Take
--window many times the context length: where they are equal, a model learns that every context ends with an end of
text, and fails at this position, and beyond it, on text that goes on. Writes
OUT_DIR/MIX_{train,val}_L{share}_W{window}.bin in prepare.py's format, beside each a JSON that says what it is made of,
and the tokenizer. A mix that is there and whole is skipped.
"""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the modules of this part

from utils import Parser, argument_type, fail, fraction, non_negative_int, positive_int, run_main

import hashlib
import shutil
from argparse import BooleanOptionalAction

import numpy as np

from files import make_directory, replacing, save_json
from prepared import is_prepared, read_tokens


def packed(tokens, window):
    """Windows (window,) of a stream, each of which ends with the end-of-text token; no other token is lost."""
    first, end_of_text = 0, tokens[-1]
    while first + window <= len(tokens):
        row = np.array(tokens[first:first + window])
        first += window if row[-1] == end_of_text else window - 1
        row[-1] = end_of_text
        yield row


def count_windows(args, sources):
    """Windows of a mix: those of --tokens, or the most that all shares can have without showing a token twice."""
    most = {}
    for share in args.long_share:
        parts = [len(sources[name]) // args.window / part for name, part in (("long", share), ("short", 1 - share))
                 if part > 0]
        most[share] = int(min(parts))
    scarce = min(most, key=most.get)
    n = args.tokens // args.window if args.tokens else most[scarce]
    if n < 1 or n > most[scarce]:
        fail(f"a share of {scarce:g} can have {most[scarce] * args.window} tokens of these sources without repeating "
             f"any, not {args.tokens or args.window}; lower --tokens or --window, or prepare more")
    return n


def write_mix(path, sources, share, n_windows, args, about):
    """Write one mix and its description."""
    n_long = round(share * n_windows)
    is_long = np.random.default_rng(args.seed).permutation(n_windows) < n_long
    windows = {name: packed(tokens, args.window) for name, tokens in sources.items()}
    end_of_text, documents, digest = sources["long"][-1], 0, hashlib.sha256()
    path.with_suffix(".json").unlink(missing_ok=True)  # or an interrupt would leave it beside other tokens
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for long in is_long:
            row = next(windows["long" if long else "short"])
            documents += int((row == end_of_text).sum())
            digest.update(row.tobytes())
            file.write(row.tobytes())
    save_json(path.with_suffix(".json"), {
        **about, "documents": documents, "tokens": n_windows * args.window, "sha256": digest.hexdigest(),
        "window": args.window, "long_tokens": n_long * args.window})
    print(f"{path.name}: {n_windows * args.window:,} tokens, {n_long} of {n_windows} windows of long documents")


window = argument_type(int, lambda value: value >= 2, "an integer of at least 2")


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--long", required=True, help="tokens of long documents")
    parser.add_argument("--short", required=True, help="tokens of short documents")
    parser.add_argument("--long_share", type=fraction, nargs="+", default=[0.0, 0.3, 0.6, 1.0],
                        help="of long windows, a mix for each")
    parser.add_argument("--window", type=window, default=16_384,
                        help="tokens of a window, many times the context length")
    parser.add_argument("--tokens", type=positive_int,
                        help="tokens of each mix (default: the most that all shares can have)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the order of the windows")
    parser.add_argument("--out_dir", default="data/mixes", help="directory for the files")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    if args.tokens is not None and args.tokens % args.window:
        fail(f"--tokens {args.tokens} is not a multiple of --window {args.window}")
    return args


def main():
    args = parse_args()
    (long, about), (short, other) = read_tokens(args.long), read_tokens(args.short)
    if about["tokenizer"]["sha256"] != other["tokenizer"]["sha256"]:
        fail(f"{args.long} and {args.short} have different tokenizers; make both with the same one")
    sources, (split, of_short) = {"long": long, "short": short}, (part.get("split", "train") for part in (about, other))
    if split != of_short:
        fail(f"{args.long} is of the split {split}, {args.short} of {of_short}; mix files of one split")
    n_windows = count_windows(args, sources)
    out_dir = make_directory(args.out_dir)
    tokenizer = Path(args.long).with_name(about["tokenizer"]["file"])
    try:
        if not (copy := out_dir / tokenizer.name).exists() or copy.read_bytes() != tokenizer.read_bytes():
            shutil.copyfile(tokenizer, copy)
    except OSError as error:
        fail(f"{error.filename or args.out_dir}: {error.strerror or error}; free space or choose another --out_dir")
    for share in args.long_share:
        path = out_dir / f"MIX_{split}_L{share:g}_W{args.window}.bin"
        request = {"long": about["sha256"], "short": other["sha256"], "long_share": share, "window": args.window,
                   "tokens": n_windows * args.window, "seed": args.seed}
        if not args.overwrite and is_prepared(path, request):
            print(f"{path.name}: mixed before")
            continue
        write_mix(path, sources, share, n_windows, args, {
            "split": split, "dtype": about["dtype"].name,
            "vocabulary_size": about["vocabulary_size"], "tokenizer": about["tokenizer"],
            "source": {"long": about.get("source"), "short": other.get("source")}, "request": request})


if __name__ == "__main__":
    run_main(main)
