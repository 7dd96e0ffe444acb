"""Time the teacher-forced measure of evaluate_tasks.py against the plain way, on a random model of Qwen3-0.6B's shape.

    python -m downstream.benchmark --device cpu                              # 28 layers, 8,192 tokens: an hour of a CPU
    python -m downstream.benchmark --device cpu --layers 2 --questions 5

Plain: for each question a forward pass of its own over prompt and answer (the output layer at the answer alone), and
beside it model.generate of --new_tokens tokens. Ours: the questions about one context share its keys and values. The
losses must be the same to 1e-3. Writes OUT: seconds of each, the ratios, the largest difference.
"""

from utils import Parser, choose_device, describe_environment, fail, non_negative_int, positive_int, run_main, seed

import time
from pathlib import Path

import torch

from downstream.answering import Answering
from files import make_directory, save_json


class NoTokenizer:
    """What Answering asks of a tokenizer."""
    eos_token_id = pad_token_id = 0


def make_model(args, device):
    """A random Qwen3 with the widths of the 0.6B model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM
    torch.manual_seed(args.seed)
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=args.layers,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40_960,
        tie_word_embeddings=True)).to(device).eval()


@torch.inference_mode()
def plain_losses(model, prompts, targets):
    """Summed losses of each target, one pass a question."""
    found = []
    for prompt, target in zip(prompts, targets):
        ids = torch.tensor([prompt + target]).to(model.device)
        logits = model(ids, logits_to_keep=len(target) + 1, use_cache=False).logits[0, :-1].float()
        found.append(torch.nn.functional.cross_entropy(logits, ids[0, -len(target):], reduction="sum").item())
    return found


@torch.inference_mode()
def generate(model, prompts, new_tokens):
    """The plain greedy answers, one prompt at a time."""
    return [model.generate(torch.tensor([prompt]).to(model.device), max_new_tokens=new_tokens,
                           min_new_tokens=new_tokens, do_sample=False, pad_token_id=0) for prompt in prompts]


def our_losses(model, prompts, targets):
    """The same losses as evaluate_tasks.py measures them."""
    found = {}
    for members, results in Answering(model, NoTokenizer()).answer(prompts, targets, [0] * len(prompts)):
        found.update({index: result[0].sum().item() for index, result in zip(members, results)})
    return [found[index] for index in range(len(prompts))]


def seconds(function, *arguments):
    """(seconds, result) of a call, the device's queue included."""
    started = time.perf_counter()
    result = function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--max_length", type=positive_int, default=8192, help="tokens of a prompt")
    add("--questions", type=positive_int, default=10, help="questions about one context")
    add("--layers", type=positive_int, default=28, help="layers of the model")
    add("--new_tokens", type=non_negative_int, default=32, help="tokens of the plain answers; 0 leaves them out")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--out", default="outputs/downstream/benchmark.json", help="file to write")
    add("--seed", type=seed, default=0, help="of weights and tokens")
    args = parser.parse_args()
    device = choose_device(args.device)
    model, generator = make_model(args, device), torch.Generator().manual_seed(args.seed)

    def tokens(n):
        return torch.randint(1, 151_936, (n,), generator=generator).tolist()

    context = tokens(args.max_length - 40)
    prompts, targets = [context + tokens(40) for _ in range(args.questions)], [tokens(8) for _ in range(args.questions)]
    ours_seconds, ours = seconds(our_losses, model, prompts, targets)
    model.get_output_embeddings()._forward_pre_hooks.clear()
    plain_seconds, plain = seconds(plain_losses, model, prompts, targets)
    generate_seconds = seconds(generate, model, prompts, args.new_tokens)[0] if args.new_tokens else None
    difference = max(abs(a - b) for a, b in zip(ours, plain))
    result = {"max_length": args.max_length, "questions": args.questions, "layers": args.layers,
              "seconds": {"ours": ours_seconds, "plain": plain_seconds, "generate": generate_seconds},
              "times_faster_than_plain": plain_seconds / ours_seconds,
              "times_faster_than_generate": generate_seconds and generate_seconds / ours_seconds,
              "largest_difference": difference, "environment": describe_environment(device)}
    if difference > 1e-3:
        fail(f"the losses differ by {difference:.2g} nats")
    make_directory(Path(args.out).parent)
    save_json(args.out, result)
    print(f"{args.questions} questions at {args.max_length} tokens, {args.layers} layers: {ours_seconds:.1f} s, "
          f"{result['times_faster_than_plain']:.2f} times faster than a pass a question ({plain_seconds:.1f} s)"
          + (f", {result['times_faster_than_generate']:.2f} times faster than model.generate ({generate_seconds:.1f} s)"
             if generate_seconds else "") + f"; losses differ by {difference:.1e}")


if __name__ == "__main__":
    run_main(main)
