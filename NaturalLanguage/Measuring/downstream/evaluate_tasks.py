"""Evaluate a causal language model on samples of a task, at several visible fractions of their contexts (section 7).

    python -m downstream.evaluate_tasks --model_name Qwen/Qwen3-0.6B --samples FILE.jsonl --visible_fractions 0.5 1
    python -m downstream.evaluate_tasks --model_name MODEL --samples FILE.jsonl --no-generate --device cpu
    torchrun --standalone --nproc_per_node 4 -m downstream.evaluate_tasks --model_name MODEL --samples FILE.jsonl

To be started in the folder Measuring. The last round(fraction x length) tokens of the context are visible; instruction,
demonstrations, question and prefix stay. Writes into OUT_DIR/MODEL/SAMPLES...
    args.json       the request, the environment, the task
    lines_*.jsonl   a line for each sample and visible fraction, as it goes; started again, the run goes on from there
    answers.csv     at the end: the numbers of these lines (columns in downstream/README.md)
    outputs.jsonl   at the end: the answers as text
    feature_tensors_seq_{l}.pt  hidden states before the answer and losses of the answers; l: visible tokens of the mean
                                context. measure_entropy.py reads this folder as any other
    final.json      at the end: scores and cross entropies with standard errors (over contexts)
"""

from utils import choose_device, fail, progress, run_main, say

from downstream.arguments import evaluation_parser
from downstream.prompts import Encoder
from downstream.run import EvaluationRun, request_of
from downstream.samples import read_samples
from downstream.scoring import SCORES, chance, parsed_share, scored_part
from hub import load_tokenizer
from scorer import choose_dtype, load_config, load_model, longest_context


def encode_samples(args, samples, about, tokenizer):
    """(Prompts of the samples, whether they are a chat): --chat auto takes what the samples were made with."""
    encoder = Encoder(tokenizer, args.model_name, args.chat, about["chat"], args.query_first)
    prompts = [encoder.prompt(sample) for sample in progress(samples, desc="encoding", unit="sample", leave=False)]
    return prompts, encoder.chat


def refuse(args, prompts, config, new_tokens):
    """Exit with code 2, before any work, where the model cannot read the samples."""
    longest = max(len(prompt.visible(max(args.visible_fractions))) + max(new_tokens, len(prompt.target))
                  for prompt in prompts)
    limit = longest_context(config)
    if limit and longest > limit:
        fail(f"{args.model_name} sees at most {limit} tokens, the samples take up to {longest}; generate shorter ones, "
             "or stretch its positions with --rope_scaling")
    vocabulary = config.get_text_config().vocab_size
    highest = max(max(prompt.visible(1.0) + prompt.target) for prompt in prompts)
    if highest >= vocabulary:
        fail(f"the tokenizer of {args.model_name} has ids up to {highest}, the model only {vocabulary}; give a model "
             "with its own tokenizer")
    if not all(prompt.target for prompt in prompts):
        fail("a sample has no answer in the tokenizer's tokens; generate the samples again")
    if min(len(prompt.visible(min(args.visible_fractions))) for prompt in prompts) < 1:
        fail("at the smallest of --visible_fractions a prompt is empty; raise it")


def line_of(sample, prompt, fraction, result, tokenizer, about):
    """What is written of a sample (of the file `about`) at a visible fraction; `result` as Answering.answer gives
    it."""
    losses, hits, _, answer = result
    line = {"index": sample["index"], "context": sample["context"], "visible_fraction": fraction,
            "visible_tokens": prompt.kept(fraction), "context_tokens": len(prompt.context),
            "units": len(sample["units"]), "gold_index": sample["gold"][0] if len(sample["gold"]) == 1 else None,
            "gold_distance": prompt.gold_distance(), "gold_visible": prompt.gold_visible(fraction),
            "needle": sample.get("needle"), "cross_entropy": losses.sum().item(), "target_tokens": len(losses),
            "hits": hits, "score": None, "parsed_share": None, "output": None, "chance": chance(sample)}
    if answer is not None:
        line["output"] = tokenizer.decode(answer, skip_special_tokens=True)
        scored = scored_part(line["output"], about["task"])
        line["score"] = SCORES[about["metric"]](scored, sample)
        if "relevance" in sample:
            line["parsed_share"] = parsed_share(scored, sample)
    return line


def evaluate(args):
    """Evaluate as the parsed flags say; returns the run's directory."""
    samples, about = read_samples(args.samples)
    samples = samples[:args.limit]
    device = choose_device(args.device)
    tokenizer, tokenizer_sha256 = load_tokenizer(args.model_name)
    if tokenizer_sha256 != about["tokenizer_sha256"]:
        fail(f"the samples {args.samples} were made for the tokenizer of {about['tokenizer']}, {args.model_name} has "
             "another one; generate samples with --tokenizer of this model")
    config = load_config(args.model_name, args.rope_scaling, args.rope_factor)
    dtype = choose_dtype(args.dtype, device)
    request = request_of(args, about, config, str(dtype).removeprefix("torch."))
    new_tokens = request["new_tokens"]
    run = EvaluationRun(args, about, request, device)
    if run.is_finished():
        say(f"{run.directory}: finished before")
        return run.directory
    prompts, chat = encode_samples(args, samples, about, tokenizer)
    refuse(args, prompts, config, new_tokens)
    with run.opened(prompts, chat):
        from downstream.answering import Answering
        answering = Answering(load_model(args.model_name, config, dtype, device, args.device_map), tokenizer,
                              args.tokens_per_batch, args.share)
        mine = run.share(samples)
        for fraction in request["visible_fractions"]:
            answered = {row for row, index in enumerate(mine) if (fraction, index) in run.done}
            results = answering.answer(
                [prompts[index].visible(fraction) for index in mine], [prompts[index].target for index in mine],
                [samples[index]["context"] for index in mine], new_tokens, answered) if mine else ()
            with progress(total=len(mine) - len(answered), desc=f"visible {fraction:g}", unit="sample",
                          disable=run.rank > 0) as bar:
                for members, found in results:
                    new = [(mine[row], result) for row, result in zip(members, found) if row not in answered]
                    run.write(fraction, [line_of(samples[index], prompts[index], fraction, result, tokenizer, about)
                                         for index, result in new], [result[2] for _, result in new])
                    bar.update(len(new))
        run.finish()
    return run.directory


def main():
    evaluate(evaluation_parser(__doc__).parse_args())


if __name__ == "__main__":
    run_main(main)
