"""The steps of plan_context_length.py before the training: the corpus, the times of a step, the plan, and its cells."""

import glob
import math
import os
import shutil
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

from files import difference, load_json, lock, read_json, same_request, save_json
from jobs import count_gpus, run_script, slots
from optimal_context.pilot import (LEAST_WINDOWS, SHAPES, TOKENS_AN_ENTRY, VALIDATION_WINDOWS, WINDOWS, Limits,
                                   candidate_lengths, costed, least_pilot, least_tokens, model_for, plan, schedule)
from prepared import describe, distinct_tokens
from run import other_arguments
from settings import as_flags, estimated_seconds, parse
from train_cells import TrainCell, dry_run, resources_of
from utils import choose_device, fail, say

FOLDER = Path(__file__).parent
MARGIN = 1.15         # runs beside each other are slower than the one that was timed alone
FINISH_SECONDS = 60   # for the table, the fit and the figures
FORMER = "plan.former.json"  # the plan before this one, until remove_other_runs has been
MAX_VALIDATION_TOKENS = 10_000_000  # prepare.py stops reading them there
PACKED, TABLES = (".gz", ".bz2", ".xz", ".parquet"), (".json", ".jsonl", ".ndjson", ".csv", ".tsv")


class Setup(NamedTuple):
    """What is planned before a step is timed: tokens of prepare.py, the JSON beside them, how many tokens there are for
    validation, "cpu" or "cuda", the model's flags of train.py, and context lengths."""
    train: Path
    corpus: dict
    valid_tokens: int
    device: str
    flags: dict
    lengths: list


def absolute(pattern, folder):
    """A file or pattern as seen from a folder, whose own name is no pattern."""
    path = os.path.join(folder, pattern)
    return path if os.path.exists(path) or os.path.isabs(pattern) else os.path.join(glob.escape(str(folder)), pattern)


def files_of(patterns):
    """The files that patterns match, each once."""
    found = [path for pattern in patterns for path in ([pattern] if os.path.exists(pattern) else
                                                       glob.glob(pattern, recursive=True)) if os.path.isfile(path)]
    return list({os.path.realpath(path): path for path in found}.values())


def choose_tokenizer(n_bytes, gpus):
    """prepare.py's --tokenizer for so many bytes of text: an entry of the vocabulary needs text enough to be learnt."""
    if gpus and n_bytes >= 200e6:
        try:
            import tiktoken
            tiktoken.get_encoding("gpt2")
            return "gpt2"
        except Exception:  # requests raises many types without a network
            say("GPT-2's tokenizer cannot be had without a network, so one of 4,096 entries is trained on the texts")
    return "bpe:1024" if n_bytes < 50e6 else "bpe:4096"


def train_bin(args, out):
    """The training tokens that prepare.py writes for these arguments."""
    return out / "data" / f"{'LONGCONTEXTSUBSET' if args.min_tokens else 'SUBSET'}_train_P100.0_SFrom0.0.bin"


def available_slots(args):
    """jobs.slots on this machine; with --submit as many of its first one as there are tasks at once."""
    found = slots(**resources_of(args))
    return found[:1] * int(os.environ.get("MAX_TASKS", "8")) if args.submit else found


def prepare(args, out):
    """Tokenise the texts, unless it is done; ends the program where prepare.py refuses."""
    gpus = count_gpus(available_slots(args)[0])
    tokenizer, tokens = args.tokenizer, train_bin(args, out)
    if tokenizer is None and tokens.with_suffix(".json").exists() and not args.overwrite:
        tokenizer = describe(tokens)[0]["tokenizer"]["name"]  # the same on a machine with other GPUs
    tokenizer = tokenizer or choose_tokenizer(sum(map(os.path.getsize, files_of(args.texts))), gpus)
    more = words({name: getattr(args, name) for name in ("column", "separator", "encoding", "encoding_errors")
                  if getattr(args, name) is not None})
    run_script(os.path.relpath(FOLDER / "data" / "openwebtext" / "prepare.py"), "--source", "text", "--text_files",
               *args.texts, "--percent", 100, "--min_tokens", args.min_tokens, "--validation_fraction",
               args.validation_fraction, "--tokenizer", tokenizer, "--out_dir", out / "data", *more,
               *(["--overwrite"] if args.overwrite else []))


def make_request(args, flags, out):
    """What the plan depends on: the flags and the tokens. Not the number of slots: another machine may go on."""
    train = train_bin(args, out)
    valid = train.with_name(train.name.replace("train", "val"))
    names = ("target_tokens", "hours", "device", "context_lengths", "passes", "gpus_per_run")
    return {**{name: getattr(args, name) for name in names}, "flags of train.py": flags,
            "train data": describe(train)[1], "valid data": describe(valid)[1]}


def read_plan(args, flags, out, must=True):
    """The plan that is there, or None if it need not be; exits with code 2 if it is one of another request."""
    path = out / "plan.json"
    if not path.exists():
        return fail(f"there is no {path} yet; leave --collect, --missing and --cell out") if must else None
    found = load_json(path, "the plan")
    other = difference(found["request"], make_request(args, flags, out))
    if other:
        fail(f"{path} is a plan with {other}; add --overwrite to plan anew, or choose another --out_dir")
    return found


def choose_lengths(args, shortest, step_tokens, corpus, valid_tokens):
    """The context lengths to time; exits with code 2 where texts or step carry less than four."""
    possible = candidate_lengths(shortest, step_tokens, valid_tokens)
    if args.context_lengths is None:
        possible = [length for length in possible if WINDOWS * length <= corpus["tokens"]]
    else:
        most = valid_tokens // VALIDATION_WINDOWS
        possible = sorted(set(args.context_lengths))
        for length in possible:
            if length > most:
                fail(f"--context_lengths {length}: the {valid_tokens:,} validation tokens have windows enough for "
                     f"lengths up to {most}; give more text or raise --validation_fraction")
            if step_tokens % length or length * LEAST_WINDOWS > step_tokens:
                fail(f"--context_lengths {length}: it must divide the {step_tokens} tokens of a step into at least "
                     f"{LEAST_WINDOWS}; powers of two do, and --tokens_per_step changes the tokens")
    least = SHAPES[-1][1]
    if len(possible) < least:
        fail(f"{len(possible)} context lengths are possible, the fit needs {least}: a length needs {WINDOWS} windows "
             f"in the {corpus['tokens']:,} training tokens, {VALIDATION_WINDOWS} in the {valid_tokens:,} of validation "
             f"and {LEAST_WINDOWS} that fill the {step_tokens:,} tokens of a step; give more text, raise "
             "--validation_fraction, or make --tokens_per_step a larger power of two")
    return possible


def refuse(limits, lengths, run_seconds, shapes, spent, vocabulary_size):
    """Exit with code 2 and one line that says what the smallest pilot needs."""
    smallest = f"the smallest pilot ({shapes[-1][0]} sizes, {shapes[-1][1]} lengths, {shapes[-1][2]} seed)"
    least = least_pilot(lengths, run_seconds, limits, shapes)
    if least is None:
        fail(f"the corpus has {limits.corpus_tokens:,} training tokens, {smallest} needs "
             f"{least_tokens(lengths, limits.least_size, shapes):,} with a vocabulary of {vocabulary_size:,}; give "
             "more text, or a smaller --tokenizer, bpe:N")
    hours = (least.seconds * MARGIN + FINISH_SECONDS + spent) / 3600
    step = 10 ** (math.floor(math.log10(hours)) - 1)
    fail(f"the hours do not suffice for {smallest}: --hours {math.ceil(hours / step * 1.1) * step:.3g} would")


def set_up(args, flags, out, slot_hours, former):
    """The corpus, the model and the lengths to time: a Setup. Exits with code 2 where they do not go together.

    Of the plan `former`, which is extended, the validation tokens are kept if they suit all lengths, and so its runs.
    """
    train = train_bin(args, out)
    corpus, valid = (describe(path)[0] for path in (train, train.with_name(train.name.replace("train", "val"))))
    device, valid_tokens = choose_device(args.device).type, valid["tokens"]
    model = model_for(device, slot_hours)
    chosen = model.flags
    step_tokens = settings_of(Setup(train, corpus, 0, device, chosen, []), flags).tokens_per_step
    lengths = choose_lengths(args, model.shortest, step_tokens, corpus, valid_tokens)
    multiple = math.lcm(*lengths)
    if multiple >= valid_tokens:
        fail(f"the {valid_tokens:,} validation tokens are fewer than {multiple:,}, the common multiple of the context "
             "lengths; take powers of two for them")
    chosen["eval_tokens"] = max(min(chosen["eval_tokens"], valid_tokens - 1) // multiple, 1) * multiple
    if former and former["flags"]["eval_tokens"] % multiple == 0:
        chosen["eval_tokens"] = former["flags"]["eval_tokens"]
    chosen["full_context_targets"] = min(chosen["full_context_targets"], valid_tokens // 2)
    return Setup(train, corpus, valid_tokens, device, chosen, lengths)


def words(flags):
    """A dictionary of flags as words of a command line."""
    return [word for name, value in flags.items() for word in as_flags(name, value)]


def settings_of(setup, flags, planned=None):
    """train.py's settings: the user's flags over those planned for a size, over those of the model."""
    return parse(__doc__, [*words(setup.flags), *words(planned or {}), *flags, "--context_length=1",
                           f"--train_bin={setup.train}"])


def time_lengths(args, flags, setup, slot):
    """{context length: what train.py --dry_run says}, and the seconds that a run takes before its first step."""
    timings, seconds = {}, []
    for length in setup.lengths:
        began = time.monotonic()
        timings[length] = cost = dry_run(length, setup.corpus["tokens"], [
            *words(setup.flags), *flags, "--train_bin", str(setup.train), "--device", args.device], slot)
        seconds.append(time.monotonic() - began)
        say(f"context {length}: {cost['seconds_a_step']:.3g} s a step, {cost['seconds_an_evaluation']:.3g} s an "
            f"evaluation, {cost['peak_memory_gigabytes']:.2f} GB")
    return timings, min(seconds)


def extended_plan(args, flags, out):
    """The plan that is there if the one that is asked for has other context lengths and is the same in all else.

    Then its sizes and seeds are kept, if the runs that are added fit the hours.
    """
    request = make_request(args, flags, out)
    try:
        former = read_json(out / "plan.json")
        stored = {**former["request"], "context_lengths": args.context_lengths}
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is not whole
        return None
    return former if args.context_lengths and same_request(stored, request) else None


def make_plan(args, flags, out, began):
    """Time a step at each context length, choose the grid, write plan.json. began: time.monotonic() of the start."""
    available = available_slots(args)
    former = extended_plan(args, flags, out)
    setup = set_up(args, flags, out, args.hours * len(available), former)
    timings, startup = time_lengths(args, flags, setup, available[0])
    step_tokens, corpus = settings_of(setup, flags).tokens_per_step, setup.corpus

    @cache
    def settings(size):
        return settings_of(setup, flags, schedule(size, step_tokens, args.passes))

    def run_seconds(length, size):
        """Seconds of a run that takes all its steps, with its start and both readings of its best weights."""
        return startup + estimated_seconds(settings(size), settings(size).max_iters, timings[length])

    planned = {**setup.flags, "tokens_per_step": step_tokens}
    if former and planned != former["flags"]:
        changed = ", ".join(name for name in planned if planned[name] != former["flags"].get(name))
        say(f"with these context lengths runs have other {changed} than in the plan before: all of them are made anew")
        former = None
    kept = former["context_lengths"] if former else []

    def added_seconds(length, size):
        """The same of a run that the plan before has not."""
        return 0.0 if length in kept else run_seconds(length, size)

    spent = time.monotonic() - began
    limits = Limits(corpus["tokens"], args.target_tokens, TOKENS_AN_ENTRY * corpus["vocabulary_size"],
                    (args.hours * 3600 - spent - FINISH_SECONDS) / MARGIN, len(available))
    shapes = tuple(dict.fromkeys((sizes, len(setup.lengths) if args.context_lengths else min(count, len(setup.lengths)),
                                  seeds) for sizes, count, seeds in SHAPES))  # those given are all taken
    pilot = former and costed([row["train_tokens"] for row in former["sizes"]], setup.lengths, former["seeds"],
                              added_seconds, limits.slots)
    if not pilot or pilot.seconds > limits.seconds:
        pilot, kept = plan(setup.lengths, run_seconds, limits, shapes), []
    if pilot is None:
        refuse(limits, setup.lengths, run_seconds, shapes, spent, corpus["vocabulary_size"])
    shape = settings(pilot.sizes[0])
    found = {
        "request": make_request(args, flags, out), "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "device": setup.device, "slots": len(available),
        "flags": planned,
        "model": f"{shape.n_layer} layer{'s'[:shape.n_layer - 1]} of width {shape.n_embd}, "
                 f"{corpus['tokenizer']['name']} tokens",
        "corpus": {"train_tokens": corpus["tokens"], "validation_tokens": setup.valid_tokens,
                   "documents": corpus["documents"], "vocabulary_size": corpus["vocabulary_size"],
                   "bytes_per_token": None if args.min_tokens else bytes_per_token(
                       args.texts, corpus["tokens"], setup.valid_tokens)},
        "context_lengths": list(pilot.lengths), "lengths_of_the_plan_before": kept, "seeds": pilot.seeds,
        "sizes": [{"train_tokens": size, "schedule": {**schedule(size, step_tokens, args.passes),
                                                      "max_iters": settings(size).max_iters},
                   "hours_at_most": sum(added_seconds(length, size) for length in pilot.lengths) * pilot.seeds / 3600}
                  for size in pilot.sizes],
        "runs": len(pilot.sizes) * len(pilot.lengths) * pilot.seeds, "hours_before_training": spent / 3600,
        "hours_at_most": pilot.seconds / 3600, "slot_hours_at_most": pilot.slot_seconds / 3600,
        "timings": list(timings.values()), "startup_seconds": startup}
    if (out / "plan.json").exists():
        os.replace(out / "plan.json", out / FORMER)
    save_json(out / "plan.json", found)
    return found


def bytes_per_token(patterns, train_tokens, valid_tokens):
    """Bytes of text a token, or None where it is not known: of packed files, tables, and validation that was cut."""
    paths = files_of(patterns)
    if valid_tokens >= MAX_VALIDATION_TOKENS or any(path.lower().endswith((*PACKED, *TABLES)) for path in paths):
        return None
    return sum(map(os.path.getsize, paths)) / (train_tokens + valid_tokens)


def say_plan(args, found):
    """Print the plan with its cost."""
    corpus, sizes = found["corpus"], [row["train_tokens"] for row in found["sizes"]]
    kept = ", ".join(map(str, found["lengths_of_the_plan_before"]))
    unit = corpus["bytes_per_token"] and f", {corpus['bytes_per_token']:.2g} bytes of text each"
    say(f"\ncorpus  {corpus['train_tokens']:,} training tokens{unit or ''}, {corpus['validation_tokens']:,} of "
        f"validation, a vocabulary of {corpus['vocabulary_size']:,}\n"
        f"model   {found['model']}, {found['flags']['tokens_per_step']:,} tokens a step, on the {found['device']}\n"
        f"sizes   {', '.join(f'{size:,}' for size in sizes)} tokens; the target is "
        f"{args.target_tokens / sizes[-1]:.3g} times the largest\n"
        f"lengths {', '.join(map(str, found['context_lengths']))} tokens{kept and f'; {kept} were planned before'}\n"
        f"seeds   {found['seeds']}, each with weights, batches and a part of the corpus of its own")
    for row in found["sizes"]:
        say(f"        {row['train_tokens']:,} tokens: at most {row['schedule']['max_iters']:,} steps a run, "
            f"{row['hours_at_most']:.2g} hours of a slot")
    for size in sizes:
        distinct = distinct_tokens(corpus["train_tokens"], size, range(found["seeds"]))
        if distinct < size * found["seeds"]:
            say(f"        the parts of {size:,} tokens overlap: {distinct / size:.1f} parts' worth for "
                f"{found['seeds']} seeds")
    on = "1 slot" if found["slots"] == 1 else f"{found['slots']} slots"
    say(f"cost    {found['runs']} runs, at most {found['hours_at_most']:.2g} hours on {on} (a run stops when its loss "
        f"has turned up), of the {args.hours:g} hours given\n")


def cells_of(args, flags, out, found):
    """The cells of the plan, seed by seed, the smaller sizes first."""
    common = ["--train_bin", str(train_bin(args, out)), "--out_dir", str(out / "runs"), "--device", args.device]
    cells = []
    for seed in range(found["seeds"]):
        for row in found["sizes"]:
            cells += [TrainCell(length, row["train_tokens"], seed,
                                [*words(found["flags"]), *words(row["schedule"]), *flags, *common, "--data_seed",
                                 str(seed)])
                      for length in found["context_lengths"]]
    return cells


def remove_other_runs(args, flags, out, found):
    """Remove the runs of a former plan that stand where this one has others; goes on where that was interrupted."""
    if (out / FORMER).exists():
        for cell in cells_of(args, flags, out, found):
            directory, request, _ = cell.run
            if other_arguments(directory, request):
                with lock(directory / "lock", f"another process is training in {directory}; stop it first"):
                    (directory / "args.json").unlink()  # then what is left counts as nothing (run.py)
                    shutil.rmtree(directory)
        (out / FORMER).unlink()
