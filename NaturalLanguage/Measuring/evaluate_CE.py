"""Measure the cross entropy of a causal language model against the context length (paper sections 3 and 5).

    python evaluate_CE.py --model_name MODEL --dataset_path ./filtered_dataset --seq_lens 8 16 32 64 128 256 512 1024
    torchrun --standalone --nproc_per_node 8 evaluate_CE.py --model_name MODEL --seq_lens 8 64 512
    python evaluate_CE.py --model_name MODEL --seq_lens 4096 --window 4097 \\
        --rope_scaling yarn --rope_factor 2

At context length l the model sees exactly the l tokens before the target; the targets (the last tokens of windows of
2,048 tokens) are the same at every l; nothing is prepended. Writes into OUT_DIR the loss of every chunk and
cross_entropy.csv: mean and standard error in nats, and the paired difference to the next shorter context length
(standard errors count the chunks of a document as dependent). Measured are --batch_size x --max_iter chunks, or
--n_samples; how many go through the model at once is for --tokens_per_batch to say and changes no result.
"""

from utils import positive_int, run_main, say

from measurement import Measurement, measurement_parser


def main():
    parser = measurement_parser(__doc__)
    parser.add_argument("--seq_lens", type=positive_int, nargs="+", default=[1024], help="context lengths, in tokens")
    parser.add_argument("--batch_size", type=positive_int, default=8, help="chunks that count as one iteration")
    parser.add_argument("--max_iter", type=positive_int, default=400, help="iterations: batch_size x max_iter chunks")
    args = parser.parse_args()

    def choose_n(available):
        wanted = args.batch_size * args.max_iter
        if not args.n_samples and available < wanted:
            say(f"the corpus gives {available} chunks, fewer than {args.batch_size} x {args.max_iter}: "
                "all are measured")
        return args.n_samples or min(available, wanted)

    Measurement(args).start(args.seq_lens, choose_n)


if __name__ == "__main__":
    run_main(main)
