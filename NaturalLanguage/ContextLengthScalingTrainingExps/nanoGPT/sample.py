"""Continue a text with a trained run.

    python sample.py outputs/runs/ctl256_tok7852092_seed0 --prompt "Returns the" --max_new_tokens 100

The model sees the last tokens up to its context length. The same seed gives the same text on the same machine.
"""

from utils import Parser, choose_device, non_negative_float, non_negative_int, positive_int, run_main, seed

import torch

from run import load_run, load_tokenizer


@torch.no_grad()
def continue_tokens(model, tokens, n_new, context_length, n_known, temperature, top_k, generator):
    """Append n_new tokens, drawn from the n_known tokens of the vocabulary, to tokens (T,): (T + n_new,)."""
    for _ in range(n_new):
        states = model.hidden(tokens[None, -context_length:])[0, -1]
        logits = (model.output_weight @ states)[:n_known]
        if top_k:
            logits[logits < logits.topk(min(top_k, n_known)).values[-1]] = -torch.inf
        if temperature:
            token = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)
        else:
            token = logits.argmax(keepdim=True)
        tokens = torch.cat((tokens, token))
    return tokens


def main():
    parser = Parser(__doc__)
    parser.add_argument("run", help="directory of a finished run of train.py")
    parser.add_argument("--prompt", default="", help="text to continue (default: the beginning of a document)")
    parser.add_argument("--num_samples", type=positive_int, default=1, help="continuations")
    parser.add_argument("--max_new_tokens", type=positive_int, default=200, help="tokens of each")
    parser.add_argument("--temperature", type=non_negative_float, default=0.8, help="0: always the likeliest token")
    parser.add_argument("--top_k", type=non_negative_int, default=0, help="draw from so many likeliest (0: from all)")
    parser.add_argument("--seed", type=seed, default=0, help="of the draws")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    args = parser.parse_args()
    device = choose_device(args.device)
    model, arguments = load_run(args.run, device)
    tokenizer = load_tokenizer(args.run)
    prompt = tokenizer.encode(args.prompt).ids or [tokenizer.token_to_id("<|endoftext|>")]
    generator = torch.Generator(device=device).manual_seed(args.seed)
    for number in range(args.num_samples):
        tokens = continue_tokens(model, torch.tensor(prompt, device=device), args.max_new_tokens,
                                 arguments["context_length"], tokenizer.get_vocab_size(), args.temperature, args.top_k,
                                 generator)
        if number:
            print("---")
        print(tokenizer.decode(tokens.tolist()))


if __name__ == "__main__":
    run_main(main)
