"""Make the position-weighted subtasks of the ICLR version (paper sections 4.1 and 4.2).

    python generate_tasks.py                                                       # the paper's: 60 bits, 100 subtasks
    python generate_tasks.py --context_bits 16 --first_max_bit 5 --out small_tasks.json

For each bit i from --first_max_bit to --context_bits there are --subtasks_per_bit subtasks whose later bit is i and
whose other bit is drawn below i. A subtask with later bit i has the weight (i - 1)^-exponent, so that R_Bayes(l) falls
as a power of l. Writes the JSON that generate_data.py and train_transformer.py read: [[i, other bit, weight], ...].
"""

from utils import Parser, fail, non_negative_float, positive_int, run_main, seed

import json
from pathlib import Path

from files import make_directory, replacing
from tasks import as_lists, bayes_risk, position_weighted_tasks


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--context_bits", type=positive_int, default=60, help="bits of a sample (L)")
    parser.add_argument("--first_max_bit", type=positive_int, default=11, help="earliest later bit of a subtask")
    parser.add_argument("--subtasks_per_bit", type=positive_int, default=2, help="subtasks with the same later bit")
    parser.add_argument("--exponent", type=non_negative_float, default=1.15, help="of the frequency law")
    parser.add_argument("--seed", type=seed, default=114, help="of the other bits")
    parser.add_argument("--out", default="weighted_tasks.json", help="file to write")
    args = parser.parse_args()
    if not args.subtasks_per_bit < args.first_max_bit <= args.context_bits:
        fail(f"a first later bit of {args.first_max_bit} needs at least {args.subtasks_per_bit + 1} and at most "
             f"--context_bits {args.context_bits}; choose another --first_max_bit")
    return args


def main():
    args = parse_args()
    tasks = position_weighted_tasks(args.context_bits, args.first_max_bit, args.subtasks_per_bit, args.exponent,
                                    args.seed)
    make_directory(Path(args.out).parent)
    with replacing(args.out) as temporary:
        lines = ",\n".join(f"    {json.dumps(entry)}" for entry in as_lists(tasks))
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    lengths = sorted({args.first_max_bit, 17, 50, args.context_bits} & {*range(args.context_bits + 1)})
    risks = ", ".join(f"{length}: {bayes_risk(tasks, length):.4f}" for length in lengths)
    print(f"{len(tasks)} subtasks -> {args.out}; Bayes risk (nats) by context length: {risks}")


if __name__ == "__main__":
    run_main(main)
