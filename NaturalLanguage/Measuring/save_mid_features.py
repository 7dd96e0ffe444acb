"""Save the hidden states that predict the target tokens, with their losses, in one pass (paper section 2).

    python save_mid_features.py --model_name MODEL --dataset_path ./filtered_dataset --seq_lens 8 32 128 512
    torchrun --standalone --nproc_per_node 8 save_mid_features.py --model_name MODEL --seq_lens 32 384 --layer 16

Chunks, targets and visible tokens are those of evaluate_CE.py, and its losses are written too, so that both need not be
run at the same context length. Writes OUT_DIR/feature_tensors_seq_{l}.pt: {"features": float32 (n, width), "losses":
float64 (n,) of the same chunks in the same order, ...}. The hidden state is the one that the output layer reads (the
last one, after the final norm), or that of --layer. 10,000 chunks, or --n_samples, or --batch_size x --max_iter.
"""

from utils import positive_int, run_main

from measurement import Measurement, measurement_parser


def main():
    parser = measurement_parser(__doc__)
    parser.add_argument("--seq_lens", type=positive_int, nargs="+", default=[32, 384], help="context lengths (tokens)")
    parser.add_argument("--batch_size", type=positive_int, default=32, help="chunks that count as one iteration")
    parser.add_argument("--max_iter", type=positive_int, help="iterations: batch_size x max_iter chunks")
    parser.add_argument("--layer", type=int, help="index into transformers' hidden_states: 0 is the embedding, 1 the "
                        "first layer's output, -1 the last (default: the last, as the output layer reads it)")
    args = parser.parse_args()
    n = args.n_samples or (args.batch_size * args.max_iter if args.max_iter else 10_000)
    Measurement(args, args.layer).start(args.seq_lens, lambda _: n, features=True)


if __name__ == "__main__":
    run_main(main)
