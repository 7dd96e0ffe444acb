"""Time evaluate_tasks.py's two measures against the plain ways, on a random model of Qwen3-0.6B's shape.

    python -m downstream.benchmark --device cpu --questions 10 --plain_questions 1 --vocabulary 32000
    python -m downstream.benchmark --device cpu --questions 10 --layers 2 --hidden_size 256 --max_length 2048

Plain: for each question a forward pass of its own over prompt and answer (the output layer at the answer alone), and
model.generate of --new_tokens tokens. Ours: the questions about one context share its keys and values, and are decoded
at once. The losses must be the same to 1e-3, and in float32 the answers the same. Writes OUT: seconds of each, the
ratios, the largest difference.
"""

from utils import Parser, choose_device, describe_environment, fail, non_negative_int, positive_int, run_main, say, seed

import shlex
import sys
import time
from pathlib import Path

import torch

from downstream.answering import Answering
from files import make_directory, save_json

END = 0  # the token that ends an answer


class NoTokenizer:
    """What Answering asks of a tokenizer."""
    eos_token_id = pad_token_id = END


def make_model(args, device):
    """A random Qwen3 with the proportions of the 0.6B model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM
    torch.manual_seed(args.seed)
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=args.vocabulary, hidden_size=args.hidden_size, intermediate_size=3 * args.hidden_size,
        num_hidden_layers=args.layers, num_attention_heads=args.hidden_size // 64,
        num_key_value_heads=args.hidden_size // 128, head_dim=128, max_position_embeddings=40_960,
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
def plain_answers(model, prompts, new_tokens):
    """Greedy answers without their end, one prompt at a time."""
    found = []
    for prompt in prompts:
        ids = model.generate(torch.tensor([prompt]).to(model.device), max_new_tokens=new_tokens, do_sample=False,
                             eos_token_id=END, pad_token_id=END)[0, len(prompt):].tolist()
        found.append(ids[:ids.index(END)] if END in ids else ids)
    return found


def our_results(model, prompts, targets, new_tokens, tokens_per_batch):
    """(losses, answers, seconds of decoding the answers) as evaluate_tasks.py has them."""
    answering, found, decoding = Answering(model, NoTokenizer(), tokens_per_batch), {}, []

    def timed(decode):
        def call(*arguments):
            passed, answers = seconds(decode, *arguments)
            decoding.append(passed)
            return answers
        return call

    answering.generate, answering.go_on = timed(answering.generate), timed(answering.go_on)
    for members, results in answering.answer(prompts, targets, [0] * len(prompts), new_tokens):
        found.update(zip(members, results))
    model.get_output_embeddings()._forward_pre_hooks.clear()
    found = [found[index] for index in range(len(prompts))]
    return [result[0].sum().item() for result in found], [result[3] for result in found], sum(decoding)


def seconds(function, *arguments):
    """(seconds, result) of a call: with a GPU by the clock, its queue included, else by the processor's time, which
    other work does not change (with several threads it is the sum of theirs)."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    result = function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started, result


def parse():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--max_length", type=positive_int, default=8192, help="tokens of a prompt")
    add("--questions", type=positive_int, default=10, help="questions about one context")
    add("--plain_questions", type=positive_int, help="of them measured in the plain ways, whose seconds are then "
        "multiplied (default: all)")
    add("--layers", type=positive_int, default=28, help="layers of the model")
    add("--hidden_size", type=positive_int, default=1024, help="width of the model, a multiple of 128")
    add("--vocabulary", type=positive_int, default=151_936, help="tokens of the model")
    add("--new_tokens", type=non_negative_int, default=32, help="tokens of the answers; 0 leaves them out")
    add("--tokens_per_batch", type=positive_int, default=16_384, help="as of evaluate_tasks.py")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--out", default="outputs/downstream/benchmark.json", help="file to write")
    add("--seed", type=seed, default=0, help="of weights and tokens")
    args = parser.parse_args()
    args.plain_questions = min(args.plain_questions or args.questions, args.questions)
    if args.hidden_size % 128:
        fail(f"--hidden_size {args.hidden_size} is not a multiple of 128")
    if args.max_length <= 40:
        fail(f"--max_length {args.max_length} leaves no context beside the 40 tokens of a question")
    return args


def main():
    args = parse()
    device = choose_device(args.device)
    model, generator = make_model(args, device), torch.Generator().manual_seed(args.seed)

    def tokens(n):
        return torch.randint(1, args.vocabulary, (n,), generator=generator).tolist()

    context, n = tokens(args.max_length - 40), args.plain_questions
    prompts = [context + tokens(40 - index % 7) for index in range(args.questions)]
    targets = [tokens(8) for _ in range(args.questions)]
    total, (ours, answers, decoding) = seconds(our_results, model, prompts, targets, args.new_tokens,
                                               args.tokens_per_batch)
    say(f"ours: {total - decoding:.1f} s and {decoding:.1f} s for the answers")
    plain_seconds, plain = seconds(plain_losses, model, prompts[:n], targets[:n])
    say(f"a pass a question: {plain_seconds:.1f} s for {n} of them")
    found = {"ours": total - decoding, "plain": plain_seconds * args.questions / n,
             "generate": None, "ours_with_answers": None}
    difference = max(abs(a - b) for a, b in zip(ours, plain))
    if difference > 1e-3:
        fail(f"the losses differ by {difference:.2g} nats")
    if args.new_tokens:
        generate_seconds, expected = seconds(plain_answers, model, prompts[:n], args.new_tokens)
        found.update(generate=generate_seconds * args.questions / n, ours_with_answers=total)
        if answers[:n] != expected:
            fail("the answers differ from those of model.generate")

    def ratio(slow, fast):
        return found[slow] and found[slow] / found[fast]

    result = {"command": shlex.join(["python", "-m", "downstream.benchmark", *sys.argv[1:]]),
              **{name: value for name, value in vars(args).items() if name not in ("device", "out")},
              "seconds": found, "times_faster_than_plain": ratio("plain", "ours"),
              "times_faster_than_generate": ratio("generate", "ours"),
              "times_faster_with_answers": ratio("generate", "ours_with_answers"),
              "largest_difference": difference, "environment": describe_environment(device)}
    make_directory(Path(args.out).parent)
    save_json(args.out, result)
    print(f"{args.questions} questions at {args.max_length} tokens, {args.layers} layers: {found['ours']:.1f} s, "
          f"{result['times_faster_than_plain']:.2f} times faster than a pass a question ({found['plain']:.1f} s)"
          + (f", {result['times_faster_than_generate']:.2f} times faster than model.generate ({found['generate']:.1f} "
             f"s), which is {result['times_faster_with_answers']:.2f} times ours with answers ({total:.1f} s)"
             if args.new_tokens else "") + f"; losses differ by {difference:.1e}")


if __name__ == "__main__":
    run_main(main)
