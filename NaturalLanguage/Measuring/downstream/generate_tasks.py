"""Generate samples of a downstream task, each as long as asked in tokens of a model (paper section 7).

    python -m downstream.generate_tasks --tokenizer Qwen/Qwen3-0.6B --task ruler_qa1 --max_length 8192 \\
        --squad dev-v2.0.json
    python -m downstream.generate_tasks --tokenizer MODEL --task ruler_qa1 --max_length 8192 --questions 10 --built_in
    python -m downstream.generate_tasks --tokenizer MODEL --task kv_retrieval --units 140 \\
        --gold_positions 0 34 69 104 139
    python -m downstream.generate_tasks --tokenizer MODEL_OF_SYMBOLS --task kv_retrieval --style symbols --units 32

To be started in the folder Measuring. Writes OUT (one JSON object a line, see downstream/README.md) and beside it a
.json with the request, the source and `comparable`: false where the scores cannot be set beside published ones. The
length holds the prompt, chat template included, and the tokens of the answer; no sample is over it and none is cut.
"""

import json
import os
from argparse import BooleanOptionalAction
from pathlib import Path

from downstream.prompts import Encoder
from downstream.tasks import TASKS, make_samples, read_source
from hub import load_tokenizer
from utils import (
    Parser, current, fail, fraction, identity, load_json, lock, make_directory, non_negative_int, positive_int,
    replacing, run_main, save_json, say, seed,
)

NO_RESULT = ("out", "out_dir", "overwrite", "tokenizer")  # flags that change no sample


def add_sample_flags(parser):
    """The flags that say what samples are made of."""
    add = parser.add_argument_group("samples").add_argument
    add("--n", type=positive_int, default=500, help="samples")
    add("--units", type=positive_int, help="number of units (documents, pairs, words) instead of filling the length")
    add("--questions", type=positive_int, default=1, help="questions about each context, which share its computation")
    add("--gold_positions", type=non_negative_int, nargs="+", metavar="INDEX",
        help="indices of the gold unit, in turn (default: uniform)")
    add("--needle_depths", type=fraction, nargs=2, default=[0.2, 0.7], metavar=("A", "B"),
        help="where the two needles lie, as shares of the context")
    add("--values", type=positive_int, default=90_000, help="two_needles: how many values there are, from 10000 on")
    add("--new_tokens", type=positive_int, help="tokens kept for the answer (default: the benchmark's)")
    add("--chat", choices=("auto", "on", "off"), default="auto",
        help="count the chat template; auto: if there is one, but for HELMET's tasks")
    add("--style", choices=("text", "symbols"), default="text", help="symbols: bare pairs of the tokenizer's symbols")
    add("--keys", default=r"k\d+", help="regular expression of the key symbols")
    add("--values_pattern", default=r"v\d+", help="regular expression of the value symbols")
    add("--symbols_per_class", type=positive_int, default=8, help="helmet_icl in symbols: keys that are one class")
    add("--seed", type=seed, default=42, help="of the samples")
    add = parser.add_argument_group("sources").add_argument
    add("--squad", help="SQuAD's JSON, for ruler_qa1 (and without --nq for the other questions)")
    add("--dataset", help="data set with SQuAD's columns, of the hub or a directory")
    add("--split", default="validation", help="its split")
    add("--nq", help="JSONL(.gz) of questions with retrieved passages: multi_document_qa, helmet_rag, helmet_rerank")
    add("--words", help="file of words, one a line, for ruler_cwe")
    add("--essays", nargs="+", help="text files that hide the needles")
    add("--labelled", help="JSONL or CSV with text and label, for helmet_icl")
    add("--built_in", action=BooleanOptionalAction, default=True,
        help="without a file, use docstrings of pinned packages (not comparable with published numbers)")


def request_of(args, tokenizer_sha256):
    """What the samples depend on; files by their contents."""
    files = [getattr(args, name) for name in ("squad", "nq", "words", "labelled")] + list(args.essays or [])
    wanted = {name: value for name, value in vars(args).items() if name not in NO_RESULT}
    return {**wanted, "tokenizer_sha256": tokenizer_sha256, "files": {path: identity(path) for path in files if path}}


def number_of_values(args, source):
    """How many values a right answer is one of, None where that is no number of the task's."""
    if args.style == "symbols":
        return len(source.items[1])
    return args.values if args.task == "two_needles" else None


def sample_name(args):
    """The name of a file of samples, without its suffix."""
    size = f"len{args.max_length}" if args.max_length else f"units{args.units}"
    return f"{args.task}_{size}" + (f"_q{args.questions}" if args.questions > 1 else "") + f"_n{args.n}_seed{args.seed}"


def generate(args):
    """Make the samples of parsed flags unless they are there; returns their path."""
    task = TASKS[args.task]
    args.new_tokens = args.new_tokens or task.new_tokens
    refuse(args, task)
    tokenizer, tokenizer_sha256 = load_tokenizer(args.tokenizer)
    path = Path(args.out or Path(args.out_dir) / Path(args.tokenizer).absolute().name / f"{sample_name(args)}.jsonl")
    about_path = path.with_suffix(".json")
    if path == about_path:
        fail(f"--out {path} is the name of the description beside the samples; give a name that ends in .jsonl")
    make_directory(path.parent)
    request = request_of(args, tokenizer_sha256)
    with lock(path.with_suffix(".lock"), wait=True):
        if not args.overwrite and current(about_path, request) and path.is_file() \
                and identity(path) == load_json(about_path, "the description of the samples")["sha256"]:
            say(f"{path}: made before")
            return path
        encoder = Encoder(tokenizer, args.tokenizer, args.chat, task.chat)
        source = read_source(task, args, tokenizer)
        samples = make_samples(args, task, source, encoder)
        encoder.prompt(samples[0])  # refuses what the tokenizer does not know
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
        longest = max(sample["prompt_tokens"] for sample in samples)
        save_json(about_path, {
            "task": args.task, "metric": task.metric, "n": len(samples), "comparable": source.comparable,
            "source": source.about, "tokenizer": args.tokenizer, "tokenizer_sha256": tokenizer_sha256,
            "chat": encoder.chat, "chat_task": task.chat, "new_tokens": args.new_tokens,
            "max_length": args.max_length, "values": number_of_values(args, source),
            "longest_prompt": longest, "request": request, "sha256": identity(path)})
    mean = sum(sample["prompt_tokens"] for sample in samples) / len(samples)
    say(f"{path}: {len(samples)} samples, prompts of {mean:.1f} tokens, the longest {longest}"
        + ("" if source.comparable else "; built-in source, not comparable with published numbers"))
    return path


def refuse(args, task):
    """Exit with code 2 where the flags do not fit the task."""
    if args.max_length is None and not args.units:
        fail("give --max_length, or --units for a fixed number of units")
    if args.max_length is not None and args.max_length <= args.new_tokens:
        fail(f"--max_length {args.max_length} leaves nothing beside the {args.new_tokens} tokens of the answer")
    if args.questions > 1 and not task.many:
        fail(f"{args.task} has one question a context; leave --questions out")
    if args.gold_positions and not task.positions:
        fail(f"{args.task} has no single gold unit whose position could be chosen; leave --gold_positions out")
    if args.style == "symbols" and not task.symbols:
        fail(f"{args.task} has no style symbols; kv_retrieval, two_needles, ruler_vt and helmet_icl have")
    if args.units and args.units < max(task.least, args.questions):
        fail(f"--units {args.units} is less than {args.task} needs ({max(task.least, args.questions)})")
    if args.task == "two_needles" and args.values < 2:
        fail("--values 1 makes the needles the same; give at least 2")
    if args.needle_depths[0] > args.needle_depths[1]:
        fail("--needle_depths: needle A comes before B")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--task", choices=TASKS, required=True, help="which task")
    parser.add_argument("--tokenizer", required=True,
                        help="model whose tokens and chat template count: hub name or directory")
    parser.add_argument("--max_length", type=positive_int, help="tokens of the prompt and the answer together")
    parser.add_argument("--out", help="file to write (default: OUT_DIR/TOKENIZER/TASK_lenL_nN_seedS.jsonl)")
    parser.add_argument("--out_dir", default=os.path.join("outputs", "downstream", "samples"), help="folder for it")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="make again what is there")
    add_sample_flags(parser)
    generate(parser.parse_args())


if __name__ == "__main__":
    run_main(main)
