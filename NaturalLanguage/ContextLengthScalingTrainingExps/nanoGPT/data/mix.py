"""Mix long and short documents into token files of one size, a file for each share of long text (ProLong's question).

    python data/mix.py --long long/SUBSET_train_P100.0_SFrom0.0.bin --short short/SUBSET_train_P100.0_SFrom0.0.bin \\
        --long_share 0 0.3 0.6 1 --window 1024 --out_dir data/mixes

Both sources are files of prepare.py with the same tokenizer (make the second one with --tokenizer and the first one's
tokenizer.json). Each is packed: its documents follow each other in windows of --window tokens, and a document is
cut where a window ends, its end-of-text token in the last place. So windows are documents of their own to train.py
--document_mask, which reads the documents off these tokens. The windows of both sources are shuffled together. Writes
OUT_DIR/MIX_{train,val}_L{share}_W{window}.bin in prepare.py's format, beside each a JSON that says what it is made of,
and the tokenizer. A mix that is there and whole is skipped.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from argparse import BooleanOptionalAction
from pathlib import Path

import numpy as np


def fail(message):
    """End the program with exit code 2 and one line on stderr."""
    print(f"mix.py: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def read(path):
    """Tokens (memory map) of a .bin file and the JSON beside it; exits with code 2 if they do not belong together."""
    path = Path(path)
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        dtype = np.dtype({"uint16": "uint16", "uint32": "uint32"}[about["dtype"]])
        wanted, _, _ = about["tokens"] * dtype.itemsize, about["tokenizer"]["sha256"], about["sha256"]
        if path.stat().st_size != wanted or not wanted:
            fail(f"{path} has {path.stat().st_size} bytes, its description says {wanted}; make it again")
    except OSError as error:
        fail(f"cannot read {error.filename}: {error.strerror}; make it with prepare.py")
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{path.with_suffix('.json')} does not describe tokens ({error!r}); make both with prepare.py")
    return np.memmap(path, dtype, "r"), about


def current(path, request):
    """Whether the mix of this request is there and whole. Exits with code 2 if it is of another request."""
    described = path.with_suffix(".json")
    try:
        about = json.loads(described.read_text(encoding="utf-8"))
        if about["request"] != request:
            fail(f"{described} is of other flags or sources; add --overwrite, or choose another --out_dir")
        return path.stat().st_size == about["tokens"] * np.dtype(about["dtype"]).itemsize
    except (OSError, ValueError, KeyError, TypeError):  # missing or cut short
        return False


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
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb") as file:
        for long in is_long:
            row = next(windows["long" if long else "short"])
            documents += int((row == end_of_text).sum())
            digest.update(row.tobytes())
            file.write(row.tobytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    description = {**about, "documents": documents, "tokens": n_windows * args.window, "sha256": digest.hexdigest(),
                   "window": args.window, "long_tokens": n_long * args.window}
    temporary.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path.with_suffix(".json"))
    print(f"{path.name}: {n_windows * args.window:,} tokens, {n_long} of {n_windows} windows of long documents")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(f"{message}; see --help")
    parser.add_argument("--long", required=True, help="tokens of long documents")
    parser.add_argument("--short", required=True, help="tokens of short documents")
    parser.add_argument("--long_share", type=float, nargs="+", default=[0.0, 0.3, 0.6, 1.0],
                        help="shares of long windows, a mix for each (default: 0 0.3 0.6 1)")
    parser.add_argument("--window", type=int, default=1024, help="tokens of a window (default: 1024)")
    parser.add_argument("--tokens", type=int, help="tokens of each mix (default: the most that all shares can have)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the windows (default: 0)")
    parser.add_argument("--out_dir", default="data/mixes", help="directory for the files (default: data/mixes)")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace files that are there")
    args = parser.parse_args()
    if any(not 0 <= share <= 1 for share in args.long_share):
        fail("--long_share must lie between 0 and 1")
    if args.window < 2 or args.seed < 0:
        fail("--window must be at least 2, --seed at least 0")
    if args.tokens is not None and (args.tokens < 1 or args.tokens % args.window):
        fail(f"--tokens {args.tokens} is not a multiple of --window {args.window}")
    return args


def main():
    args = parse_args()
    (long, about), (short, other) = read(args.long), read(args.short)
    if about["tokenizer"]["sha256"] != other["tokenizer"]["sha256"]:
        fail(f"{args.long} and {args.short} have different tokenizers; make both with the same one")
    sources, split = {"long": long, "short": short}, about.get("split", "train")
    n_windows = count_windows(args, sources)
    try:
        out_dir = Path(args.out_dir)
        out_dir.mkdir(parents=True, exist_ok=True)
        tokenizer = Path(args.long).with_name(about["tokenizer"]["file"])
        if not (copy := out_dir / tokenizer.name).exists() or copy.read_bytes() != tokenizer.read_bytes():
            shutil.copyfile(tokenizer, copy)
        for share in args.long_share:
            path = out_dir / f"MIX_{split}_L{share:g}_W{args.window}.bin"
            request = {"long": about["sha256"], "short": other["sha256"], "long_share": share, "window": args.window,
                       "tokens": n_windows * args.window, "seed": args.seed}
            if not args.overwrite and current(path, request):
                print(f"{path.name}: mixed before")
                continue
            write_mix(path, sources, share, n_windows, args, {
                "split": split, **{name: about[name] for name in ("dtype", "vocabulary_size", "tokenizer")},
                "source": {"long": about.get("source"), "short": other.get("source")}, "request": request})
    except OSError as error:
        fail(f"{error.filename or args.out_dir}: {error.strerror or error}; free space or choose another --out_dir")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("mix.py: interrupted; start the same command again, it goes on", file=sys.stderr)
        raise SystemExit(130) from None
