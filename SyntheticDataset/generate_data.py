"""Make the training and validation samples of multitask sparse parity (paper section 4, first version).

    python generate_data.py                                        # the paper's 12,000,000 samples: 180 MB of files
    python generate_data.py --train_size 85000 --valid_size 20000  # the first 85,000 of the same training samples

Writes OUT_DIR/train.pt and OUT_DIR/valid.pt, dictionaries that torch.load(..., weights_only=True) reads:
    packed_bits      uint8 (n, ceil(context_bits / 8)), bits in np.packbits order
    task             uint8 (n,), the active subtask, counted from 0: i mod T for sample i, or drawn by their weights
    answer           uint8 (n,), bit_a XOR bit_b of the active subtask, or a random bit if one of them is not there
    context_bits, task_definition, seed
    request          what was asked for
Runs on the CPU (a GPU would gain nothing here). Interrupted, it leaves no file half-written: start it again. Files that
are there already and hold what is asked for are kept.
"""

from utils import Parser, fail, positive_int, progress, run_main, seed

from files import current, make_directory, save_tensors
from samples import make_splits
from tasks import PAPER_TASKS, as_lists, load_task_definition


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--train_size", type=positive_int, default=10_000_000, help="training samples")
    parser.add_argument("--valid_size", type=positive_int, default=2_000_000, help="validation samples")
    parser.add_argument("--context_bits", type=positive_int, default=100, help="bits of a sample (L)")
    parser.add_argument("--seed", type=seed, default=114, help="seed of the samples")
    parser.add_argument("--task_definition", default=PAPER_TASKS,
                        help="JSON list of pairs of bit positions (default: task_definition.json beside this script)")
    parser.add_argument("--out_dir", default="data", help="directory for train.pt and valid.pt")
    args = parser.parse_args()
    if args.train_size + args.valid_size > 2**args.context_bits:
        fail(f"there are only {2**args.context_bits} distinct strings of {args.context_bits} bits, fewer than "
             f"{args.train_size} + {args.valid_size} samples; ask for fewer samples or more --context_bits")
    return args


def main():
    args = parse_args()
    tasks = load_task_definition(args.task_definition)
    out_dir = make_directory(args.out_dir)
    request = {"train_size": args.train_size, "valid_size": args.valid_size, "context_bits": args.context_bits,
               "seed": args.seed, "task_definition": as_lists(tasks)}
    if all(current(out_dir / name, request) for name in ("train.pt", "valid.pt")):
        print(f"{out_dir}/train.pt and valid.pt are there already")
        return
    with progress(total=args.train_size + args.valid_size, unit="samples", desc="generating") as bar:
        splits = make_splits(args.train_size, args.valid_size, args.context_bits, tasks, args.seed, bar=bar)
        for name, contents in zip(("train.pt", "valid.pt"), splits):
            save_tensors(out_dir / name, {**contents, "request": request})
    random_answers = sum(task.last_bit > args.context_bits for task in tasks)
    print(f"{args.train_size} + {args.valid_size} samples of {args.context_bits} bits, {len(tasks)} subtasks "
          f"({random_answers} with random answers), seed {args.seed} -> {out_dir}/train.pt, valid.pt")


if __name__ == "__main__":
    run_main(main)
