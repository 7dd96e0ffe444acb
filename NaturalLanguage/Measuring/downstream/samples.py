"""A file of samples: what it depends on, making it, and reading it."""

import json
from pathlib import Path

from downstream.prompts import Encoder
from downstream.scoring import SCORES
from downstream.tasks import TASKS, asked, least_units, make_samples, read_source, source_state
from files import difference, identity, load_json, lock, make_directory, replacing, save_json
from hub import chat_template_sha256, load_tokenizer
from settings import measurement_name
from utils import fail, say

DESCRIPTION = {"task", "metric", "n", "comparable", "source", "tokenizer", "tokenizer_sha256", "chat", "new_tokens",
               "max_length", "values", "request", "sha256"}
FILES = ("squad", "nq", "words", "labelled", "essays")  # flags that name files
NO_RESULT = ("out", "out_dir", "overwrite", "tokenizer")  # flags that change no sample


def metric_of(args):
    """The name of the score of an answer (scoring.py)."""
    return "first_word" if args.style == "symbols" else TASKS[args.task].metric


def request_of(args, tokenizer_sha256, template_sha256):
    """What the samples depend on; files by their contents, wherever they lie, other sources by their state."""
    files = {name: [identity(path) for path in (paths if isinstance(paths, list) else [paths])]
             for name in FILES if (paths := getattr(args, name))}
    wanted = {name: value for name, value in vars(args).items() if name not in (*NO_RESULT, *FILES)}
    return {**wanted, "tokenizer_sha256": tokenizer_sha256, "files": files,
            **({"chat_template_sha256": template_sha256} if template_sha256 else {}),
            **({"metric": metric_of(args)} if args.style == "symbols" else {}), **source_state(TASKS[args.task], args)}


def number_of_values(args, source):
    """How many values a right answer is one of, None where that is no number of the task's."""
    if args.style == "symbols":
        return len(source.items[1])
    return args.values if args.task == "two_needles" else None


def sample_name(args):
    """The name of a file of samples, without its suffix."""
    size = f"len{args.max_length}" if args.max_length else f"units{args.units}"
    size += "_symbols" if args.style == "symbols" else ""
    return f"{args.task}_{size}" + (f"_q{args.questions}" if args.questions > 1 else "") + f"_n{args.n}_seed{args.seed}"


def is_made(path, about_path, request):
    """Whether the samples of this request are there; exits with code 2 if those of another request are."""
    if not path.is_file() or not about_path.exists():
        return False
    about = load_json(about_path, "the description of the samples")
    if other := difference(about.get("request") or {}, request):
        fail(f"{path} holds samples with {other}; add --overwrite to replace them (sweep.py has none: delete the "
             "file), or choose another --out_dir")
    return identity(path) == about.get("sha256")


def generate(args):
    """Make the samples of parsed flags unless they are there; returns their path. Exits with code 2 if others are."""
    task = TASKS[args.task]
    args.new_tokens = args.new_tokens or task.new_tokens
    refuse(args, task)
    tokenizer, tokenizer_sha256 = load_tokenizer(args.tokenizer)
    path = Path(args.out or Path(args.out_dir) / measurement_name(args.tokenizer) / f"{sample_name(args)}.jsonl")
    about_path = path.with_suffix(".json")
    if path == about_path:
        fail(f"--out {path} is the name of the description beside the samples; give a name that ends in .jsonl")
    make_directory(path.parent)
    request = request_of(args, tokenizer_sha256, chat_template_sha256(tokenizer))
    with lock(path.with_suffix(".lock"), wait=True):
        if not args.overwrite and is_made(path, about_path, request):
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
            "task": args.task, "metric": metric_of(args), "n": len(samples), "comparable": source.comparable,
            "source": source.about, "tokenizer": args.tokenizer, "tokenizer_sha256": tokenizer_sha256,
            "chat": encoder.chat, "new_tokens": args.new_tokens, "max_length": args.max_length,
            "values": number_of_values(args, source), "longest_prompt": longest, "request": request,
            "sha256": identity(path)})
    mean = sum(sample["prompt_tokens"] for sample in samples) / len(samples)
    say(f"{path}: {len(samples)} samples, prompts of {mean:.1f} tokens, the longest {longest}"
        + ("" if source.comparable else "; source not comparable with published numbers"))
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
    if args.units and args.units < (least := least_units(args, task)):
        fail(f"{args.task} needs {least} units for {asked(args)}, not {args.units} units; raise --units")
    if args.task == "two_needles" and args.values < 2:
        fail("--values 1 makes the needles the same; give at least 2")
    if args.needle_depths[0] > args.needle_depths[1]:
        fail("--needle_depths: needle A comes before B")


def read_samples(path):
    """The samples of generate_tasks.py and what describes them. Exits with code 2 if they are not whole."""
    path = Path(path)
    if not path.is_file():
        fail(f"there are no samples {path}; make them with generate_tasks.py")
    about = load_json(path.with_suffix(".json"), "the description of the samples")
    if not DESCRIPTION <= set(about) or about["metric"] not in [*SCORES] or "units" not in (about["request"] or ()):
        fail(f"{path.with_suffix('.json')} does not describe samples; make them again with generate_tasks.py")
    lines = path.read_bytes().splitlines()
    if not lines:
        fail(f"the samples {path} are empty; make them again with generate_tasks.py")
    if identity(path) != about["sha256"]:
        fail(f"the samples {path} are cut short or were changed ({len(lines)} lines, {about['n']} were written); make "
             "them again with generate_tasks.py --overwrite")
    return [json.loads(line) for line in lines], about
