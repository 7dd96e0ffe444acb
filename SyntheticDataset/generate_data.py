"""Make the training and validation samples of multitask sparse parity (paper section 4, first version).

    python generate_data.py                                        # the paper's 12,000,000 samples: 180 MB of files
    python generate_data.py --train_size 85000 --valid_size 20000  # the first 85,000 of the same training samples

Writes OUT_DIR/train.pt and OUT_DIR/valid.pt, dictionaries that torch.load(..., weights_only=True) reads:
    packed_bits      uint8 (n, ceil(context_bits / 8)), bits in np.packbits order
    task             uint8 (n,), the active subtask, counted from 0: i mod T for sample i, or drawn by their weights
    answer           uint8 (n,), bit_a XOR bit_b of the active subtask, or a random bit if one of them is not there
    context_bits, task_definition, seed
Runs on the CPU (a GPU would gain nothing here). Interrupted, it leaves no file half-written: start it again. Files that
are there already and hold what is asked for are kept.
"""

import math

import numpy as np
import torch
from tqdm import tqdm

from utils import Parser, fail, make_directory, non_negative_int, positive_int, save_tensors
from tasks import load_task_definition, task_weights

CHUNK_SIZE = 1_000_000  # bit strings drawn at a time; the samples do not depend on it
TRAIN, VALID = 0, 1


def generator_for(seed, split, purpose):
    """A numpy generator of its own for each seed, split and purpose ("bits", "answers" or "tasks")."""
    return np.random.default_rng([seed, split, ("bits", "answers", "tasks").index(purpose)])


def first_occurrences(words):
    """Mark the rows of uint64 (n, w) that equal no earlier row: bool (n,)."""
    first_words = np.sort(words[:, 0])
    shared = first_words[1:][first_words[1:] == first_words[:-1]]
    suspects = np.flatnonzero(np.isin(words[:, 0], shared))  # few or none of 100 bits: sort whole rows here only
    is_first = np.ones(len(words), dtype=bool)
    if len(suspects):
        _, first_places = np.unique(words[suspects], axis=0, return_index=True)
        is_first[suspects] = False
        is_first[suspects[first_places]] = True
    return is_first


def distinct_bit_strings(size, context_bits, rng, others, chunk_size=CHUNK_SIZE, bar=None):
    """The first `size` distinct strings of a random stream that are not among `others` either.

    Returns uint64 (size, w) with w = ceil(context_bits / 64), the bytes of a row in np.packbits order, zeros behind
    the last bit. A longer request begins with the strings of a shorter one, and chunk_size changes nothing: every
    draw takes exactly one output of the generator per word.
    """
    n_words = math.ceil(context_bits / 64)
    keep_bits = np.packbits(np.arange(n_words * 64) < context_bits).view("<u8")
    found = np.empty((0, n_words), dtype="<u8")
    while len(found) < size:
        missing = size - len(found)
        drawn = [others, found]
        while missing > 0:
            n_rows = min(chunk_size, missing)
            drawn.append(rng.integers(0, 2**64, size=(n_rows, n_words), dtype=np.uint64).astype("<u8") & keep_bits)
            missing -= n_rows
            if bar is not None:
                bar.update(n_rows)
        drawn = np.concatenate(drawn)
        found = drawn[len(others) :][first_occurrences(drawn)[len(others) :]]
    return found


def choose_tasks(n, pairs, rng):
    """Active subtask of every sample (n,): i mod T for sample i, or drawn by the subtasks' weights."""
    if len(pairs[0]) == 3:
        task = np.searchsorted(np.cumsum(task_weights(pairs))[:-1], rng.random(n), side="right")
    else:
        task = np.arange(n) % len(pairs)
    return task.astype(np.uint8 if len(pairs) <= 256 else np.int32)


def answer_samples(packed_bits, task, pairs, context_bits, rng):
    """The answer of every sample, uint8 (n,), to its active subtask, `task` (n,).

    A subtask with a bit beyond context_bits gets random answers, drawn so that a longer set begins with a shorter one.
    """
    n = len(packed_bits)
    random_words = rng.integers(0, 2**64, size=math.ceil(n / 64), dtype=np.uint64).astype("<u8")
    answer = np.unpackbits(random_words.view(np.uint8), count=n)
    for number, pair in enumerate(pairs):
        if max(pair[:2]) <= context_bits:
            places = slice(number, None, len(pairs)) if len(pair) == 2 else task == number
            rows = packed_bits[places]
            bit_a, bit_b = (rows[:, (p - 1) // 8] >> (7 - (p - 1) % 8) & 1 for p in pair[:2])
            answer[places] = bit_a ^ bit_b
    return answer


def make_splits(train_size, valid_size, context_bits, pairs, seed, chunk_size=CHUNK_SIZE, bar=None):
    """Yield the contents of train.pt, then of valid.pt, as described at the top of this file.

    All bit strings of both are distinct. The first N training samples depend on (seed, context_bits, pairs) alone, not
    on the sizes; validation samples leave out the strings of the training set.
    """
    n_bytes = math.ceil(context_bits / 8)
    others = np.empty((0, math.ceil(context_bits / 64)), dtype="<u8")
    for split, size in ((TRAIN, train_size), (VALID, valid_size)):
        words = distinct_bit_strings(size, context_bits, generator_for(seed, split, "bits"), others, chunk_size, bar)
        packed_bits = np.ascontiguousarray(words.view(np.uint8).reshape(size, -1)[:, :n_bytes])
        task = choose_tasks(size, pairs, generator_for(seed, split, "tasks"))
        answer = answer_samples(packed_bits, task, pairs, context_bits, generator_for(seed, split, "answers"))
        others = words
        yield {
            "packed_bits": torch.from_numpy(packed_bits),
            "task": torch.from_numpy(task),
            "answer": torch.from_numpy(answer),
            "context_bits": context_bits,
            "task_definition": pairs,
            "seed": seed,
        }


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--train_size", type=positive_int, default=10_000_000, help="training samples")
    parser.add_argument("--valid_size", type=positive_int, default=2_000_000, help="validation samples")
    parser.add_argument("--context_bits", type=positive_int, default=100, help="bits of a sample (L)")
    parser.add_argument("--seed", type=non_negative_int, default=114, help="seed of the samples")
    parser.add_argument("--task_definition", default="task_definition.json", help="JSON list of pairs of bit positions")
    parser.add_argument("--out_dir", default="data", help="directory for train.pt and valid.pt")
    args = parser.parse_args()
    if args.train_size + args.valid_size > 2**args.context_bits:
        fail(f"there are only {2**args.context_bits} distinct strings of {args.context_bits} bits, fewer than "
             f"{args.train_size} + {args.valid_size} samples; ask for fewer samples or more --context_bits")
    return args


def already_there(out_dir, args, pairs):
    """Say whether both files exist, whole, and are what these arguments ask for."""
    for name, size in (("train.pt", args.train_size), ("valid.pt", args.valid_size)):
        try:
            contents = torch.load(out_dir / name, weights_only=True, mmap=True)
            found = (len(contents["answer"]), *(contents[key] for key in ("context_bits", "task_definition", "seed")))
        except Exception:  # missing, cut short or another kind of file: make it again
            return False
        if found != (size, args.context_bits, pairs, args.seed):
            return False
    return True


def main():
    args = parse_args()
    pairs = load_task_definition(args.task_definition)
    out_dir = make_directory(args.out_dir)
    if already_there(out_dir, args, pairs):
        print(f"{out_dir}/train.pt and valid.pt are there already")
        return
    with tqdm(total=args.train_size + args.valid_size, unit="sample", unit_scale=True, desc="generating") as bar:
        splits = make_splits(args.train_size, args.valid_size, args.context_bits, pairs, args.seed, bar=bar)
        for name, contents in zip(("train.pt", "valid.pt"), splits):
            save_tensors(out_dir / name, contents)
    random_answers = sum(max(pair[:2]) > args.context_bits for pair in pairs)
    print(f"{args.train_size} + {args.valid_size} samples of {args.context_bits} bits, {len(pairs)} subtasks "
          f"({random_answers} with random answers), seed {args.seed} -> {out_dir}/train.pt, valid.pt")


if __name__ == "__main__":
    main()
