"""Generate and evaluate many tasks at several lengths with several models, one cell each, and draw all figures.

    python -m downstream.sweep MODEL [MODEL ...]                           # all cells here, as many at once as fit
    python -m downstream.sweep MODEL --tasks ruler_qa1 ruler_cwe --max_lengths 8192 16384 --questions 10
    python -m downstream.sweep MODEL --submit | --collect | --missing | --cell N

To be started in the folder Measuring, or by downstream.sh. --generate_flags (or the environment's GENERATE_FLAGS), one
text, go to generate_tasks.py. Samples are made once for each tokenizer. TASKS, MAX_LENGTHS and N_SAMPLES in the
environment are the defaults of their flags. --collect draws what is finished, names what is missing and then exits
with 1.
"""

from utils import Parser, argument_type, fail, positive_int, run_main

import os
import shlex
from argparse import BooleanOptionalAction
from functools import cache
from pathlib import Path

import jobs
from downstream import run, samples
from downstream.arguments import add_evaluation_flags, as_flags, evaluation_parser, generation_parser
from downstream.results import MEASURES
from downstream.tasks import SINGLE_GOLD, TASKS
from files import current, load_json, read_json, same_request
from hub import chat_template_sha256, load_tokenizer
from scorer import load_config
from settings import measurement_name

DEFAULT_TASKS = "ruler_qa1 ruler_cwe ruler_fwe ruler_vt"
words = argument_type(shlex.split, lambda _: True, "words as a shell has them, with every quotation ended")
task_name = argument_type(str, TASKS.__contains__, f"a task; there are {', '.join(TASKS)}")


@cache
def tokenizer_hashes(model):
    """The SHA-256 of a model's tokenizer and that of its chat template, None where it has none."""
    tokenizer, sha256 = load_tokenizer(model)
    return sha256, chat_template_sha256(tokenizer)


@cache
def config_of(model, rope_scaling, rope_factor):
    return load_config(model, rope_scaling, rope_factor)


class Evaluation:
    """The cell of a model, a task and a length: its samples and its run."""

    def __init__(self, args, model, task, length, flags):
        many = ["--questions", args.questions] if TASKS[task].many else []
        generation = ["--task", task, "--tokenizer", model, "--max_length", length, "--n", args.n, *many,
                      *args.generate_flags]
        self.generation = generation_parser("").parse_args([*map(str, generation)])
        self.generation.new_tokens = self.generation.new_tokens or TASKS[task].new_tokens
        tokenizer = "_".join(sha256[:12] for sha256 in tokenizer_hashes(model) if sha256)
        folder = Path(args.out_dir) / "samples" / tokenizer
        self.generation.out = str(folder / f"{samples.sample_name(self.generation)}.jsonl")
        self.flags = ["--model_name", model, "--samples", self.generation.out, "--out_dir", f"{args.out_dir}/runs",
                      *flags]
        self.evaluation = evaluation_parser("").parse_args([*map(str, self.flags)])
        self.directory = run.run_directory(self.evaluation)

    def is_done(self):
        """Whether its run has finished, on the samples that these flags make.

        With --dtype auto in the dtype that the evaluating machine chose: one that only submits may have no GPU.
        """
        about_path, final = Path(self.generation.out).with_suffix(".json"), self.directory / "final.json"
        args = self.evaluation
        wanted = samples.request_of(self.generation, *tokenizer_hashes(args.model_name))
        if not final.exists() or not current(about_path, wanted):
            return False
        about = load_json(about_path, "the description of the samples")
        config = config_of(args.model_name, args.rope_scaling, args.rope_factor)
        stored = (read_json(final) or {}).get("request", {})
        dtype = stored.get("dtype") if args.dtype == "auto" else args.dtype
        return same_request(stored, run.request_of(args, about, config, dtype))

    def cell(self):
        model, generation = measurement_name(self.evaluation.model_name), self.generation
        return jobs.Cell(f"{model}_{generation.task}_{generation.max_length}",
                         ["-m", "downstream.evaluate_tasks", *self.flags], self.is_done, distributed=True)


def draw(args, finished):
    """Draw the figures of the finished runs that have what each needs."""
    for directory in [directory for task, directory, _ in finished if args.entropy and task == "ruler_qa1"]:
        jobs.run_script("measure_entropy.py", directory)
    several = len(set(finished[0][2])) > 1
    figures = {"draw_visible_fraction": several, "draw_position_weighted": several and SINGLE_GOLD,
               "draw_two_needles": several and {"two_needles"}, "draw_by_position": SINGLE_GOLD, "draw_helmet": True}
    for script, tasks in figures.items():
        mine = [directory for task, directory, _ in finished if tasks is True or (tasks and task in tasks)]
        if mine:
            measure = [] if script == "draw_two_needles" else ["--measure", args.measure]
            jobs.run_script("-m", f"downstream.{script}", "--runs", *mine, "--out_dir", f"{args.out_dir}/figures",
                            *measure)


def main():
    parser = Parser(__doc__)
    add = parser.add_argument_group("the grid").add_argument
    add("models", nargs="+", help="hub names or directories of causal language models")
    add("--tasks", nargs="+", choices=TASKS, default=jobs.from_environment("TASKS", DEFAULT_TASKS, task_name),
        help="tasks")
    add("--max_lengths", nargs="+", type=positive_int,
        default=jobs.from_environment("MAX_LENGTHS", "8192", positive_int),
        help="tokens of the prompt and the answer together")
    add("--n", type=positive_int, default=jobs.from_environment("N_SAMPLES", "500", positive_int)[0],
        help="samples of each cell")
    add("--questions", type=positive_int, default=1, help="about each context, for tasks that can have several")
    add("--generate_flags", type=words, default=os.environ.get("GENERATE_FLAGS", ""),
        help="for generate_tasks.py, as one text")
    add("--out_dir", default="outputs/downstream", help="folder of samples, runs, logs and figures")
    add("--measure", choices=MEASURES,
        help="what the figures show (default: score, or cross_entropy with --no-generate)")
    add("--figures", action=BooleanOptionalAction, default=True, help="draw the figures of what is finished")
    add("--entropy", action=BooleanOptionalAction, default=False,
        help="before drawing, measure the entropy of ruler_qa1's hidden states (needs more samples than the width)")
    add("--cores_per_run", type=positive_int, default=1, help="cores of a run without a GPU")
    jobs.add_modes(parser)
    actions = add_evaluation_flags(parser)
    args = parser.parse_args()
    args.measure = args.measure or ("score" if args.generate else "cross_entropy")
    if args.measure == "score" and not args.generate:
        fail("--no-generate makes no answers to score; choose another --measure, or leave it out")
    flags = as_flags(actions, args)
    evaluations = [Evaluation(args, model, task, length, flags)
                   for model in args.models for task in args.tasks for length in args.max_lengths]
    cells = [evaluation.cell() for evaluation in evaluations]

    def collect():
        finished = [(evaluation.generation.task, evaluation.directory, evaluation.evaluation.visible_fractions)
                    for evaluation in evaluations if evaluation.is_done()]
        missing = [evaluation.cell().name for evaluation in evaluations if not evaluation.is_done()]
        if finished and args.figures:
            draw(args, finished)
        if missing:
            print(f"missing: {' '.join(missing)}")
        return int(bool(missing))

    if args.cell is not None and not 0 <= int(args.cell) < len(cells):
        fail(f"there are {len(cells)} cells, no cell {args.cell}: use --array=0-{len(cells) - 1}")
    if not (args.submit or args.collect or args.missing):
        for evaluation in evaluations if args.cell is None else [evaluations[int(args.cell)]]:
            if not evaluation.is_done():
                samples.generate(evaluation.generation)
    jobs.dispatch(args, cells, "downstream/downstream.sh", collect, f"{args.out_dir}/logs",
                  cores_per_run=args.cores_per_run)
    if args.cell is None and not (args.submit or args.missing):
        raise SystemExit(collect())


if __name__ == "__main__":
    run_main(main)
