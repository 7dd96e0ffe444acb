"""The flags of train.py, from the command line and a JSON configuration, and what follows from them and the corpus."""

import math
import sys
from argparse import BooleanOptionalAction
from pathlib import Path

from files import load_json
from long_context_flags import SHAPE, add_flags, inherit
from nanogpt_keys import ALWAYS, REFUSED, SWITCHES, translate
from utils import Parser, argument_type, fail, non_negative_float, non_negative_int, positive_float, positive_int, seed

FORWARD_TOKENS = {"cpu": 16_384, "cuda": 61_440}  # tokens of a forward pass, where --batch_size is not given

beta = argument_type(float, lambda value: 0 <= value < 1, "a number of at least 0 and below 1")  # of AdamW


def add_optimization_flags(parser):
    """Add the flags of the optimizer, its schedule and when to stop."""
    training = parser.add_argument_group("optimization")
    training.add_argument("--tokens_per_step", type=positive_int, default=491_520,
                          help="tokens of an optimizer step, at every context length and number of processes")
    training.add_argument("--learning_rate", type=non_negative_float, default=6e-4, help="highest, of AdamW")
    training.add_argument("--min_lr", type=non_negative_float, default=6e-5, help="lowest, at the end of the cosine")
    training.add_argument("--lr_decay_iters", type=positive_int, default=600_000, help="steps to the end of the cosine")
    training.add_argument("--warmup_iters", type=non_negative_int, default=2000, help="steps of warm-up")
    training.add_argument("--warmup_epochs", type=non_negative_float,
                          help="warm-up in passes over the training tokens instead of steps")
    training.add_argument("--max_iters", type=positive_int, default=600_000, help="steps at most")
    training.add_argument("--weight_decay", type=non_negative_float, default=0.1, help="of the matrices")
    training.add_argument("--beta1", type=beta, default=0.9, help="of AdamW")
    training.add_argument("--beta2", type=beta, default=0.95, help="of AdamW")
    training.add_argument("--grad_clip", type=non_negative_float, default=1.0,
                          help="norm of the gradient (0: no limit)")
    training.add_argument("--eval_interval", type=positive_int, default=45, help="steps between evaluations")
    training.add_argument("--patience", type=positive_int, default=5,
                          help="stop after so many evaluations without a lower validation loss")


def build_parser(description):
    """The parser of train.py's flags, in groups."""
    parser = Parser(description)
    parser.add_argument("config", nargs="?", help="JSON file of these flags (create_config.py writes one)")

    data = parser.add_argument_group("data")
    data.add_argument("--context_length", "--block_size", type=positive_int, help="tokens of a window (needed)")
    data.add_argument("--train_bin", help="training tokens of prepare.py (needed)")
    data.add_argument("--val_bin", help="validation tokens (default: those beside the training tokens)")
    data.add_argument("--train_tokens", type=positive_int, help="train on so many tokens (default: all)")
    data.add_argument("--data_seed", type=seed, help="train on tokens from an offset on that follows from this seed, "
                      "the corpus taken as a ring (default: the first ones)")
    data.add_argument("--eval_tokens", type=positive_int, default=491_520,
                      help="validation tokens scored, a multiple of every context length to be compared")
    data.add_argument("--full_context_targets", type=positive_int, default=2048,
                      help="tokens scored with the full context, at the end")

    model = parser.add_argument_group("model")
    model.add_argument("--n_layer", type=positive_int, default=6, help="blocks")
    model.add_argument("--n_head", type=positive_int, default=12, help="attention heads")
    model.add_argument("--n_embd", type=positive_int, default=768, help="width")
    model.add_argument("--vocab_size", type=positive_int,
                       help="rows of the embedding (default: the corpus's vocabulary, up to a multiple of 64)")
    model.add_argument("--untied", action=BooleanOptionalAction,
                       help="an output layer of its own, beside embeddings that begin with standard deviation 1")
    model.add_argument("--init_std", type=positive_float, help="standard deviation of the first weights (default: "
                       "0.02, GPT-2's; a narrow model starts as a wide one does with 0.02 x sqrt(768 / width))")
    model.add_argument("--seed", type=seed, default=0, help="of the weights and of the batches")

    add_flags(parser)
    add_optimization_flags(parser)

    machine = parser.add_argument_group("machine")
    machine.add_argument("--batch_size", type=positive_int, help="windows of a forward pass of a process, halved where "
                         "memory does not suffice (default: about 16 thousand tokens, 61 on a GPU)")
    machine.add_argument("--gradient_accumulation_steps", type=positive_int,
                         help="forward passes of a step over all processes; follows from the above, checked if given")
    machine.add_argument("--dtype", choices=("auto", "float32", "tf32", "bfloat16", "float16"), default="auto",
                         help="of matrix products (auto: bfloat16 on a GPU, float32 on the CPU)")
    machine.add_argument("--compile", action=BooleanOptionalAction,
                         help="compile model and loss (default: on a GPU where triton and a C compiler are there)")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    machine.add_argument("--threads", type=positive_int, help="CPU threads of a process (default: torch's choice)")

    output = parser.add_argument_group("output")
    output.add_argument("--out_dir", default="outputs/runs", help="directory for the run's directory")
    output.add_argument("--keep_tokens", type=positive_int, nargs="+", help="keep the weights after so many tokens "
                        "too, each in kept_TOKENS.pt (for export_hf.py --weights)")
    output.add_argument("--checkpoint_seconds", type=non_negative_float, default=60.0, help="seconds between "
                        "checkpoints at least; more where writing them would take over 2%% of the time")
    output.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")
    output.add_argument("--dry_run", action="store_true",
                        help="measure memory and time of a step and of an evaluation, print them, and write nothing")
    output.add_argument("--dry_run_epochs", type=positive_float, default=30.0,
                        help="passes over the training tokens that --dry_run estimates the time of")
    output.add_argument("--wandb", action=BooleanOptionalAction, default=False, help="log to Weights & Biases too")
    output.add_argument("--wandb_project", default="context_length_scaling", help="its project")
    return parser


def as_flags(name, value):
    """The command line's words for an entry of a JSON configuration."""
    if isinstance(value, list):  # of a pair, as dilated_pairs has them: its numbers with a colon
        return [f"--{name}", *(":".join(map(str, one)) if isinstance(one, list) else str(one) for one in value)]
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}={value}"]


def parse(description, arguments=None):
    """Flags of the command line (or a list of them), over those of the JSON file, over the defaults."""
    parser = build_parser(description)
    arguments = translate(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(arguments)
    if args.config:
        config = load_json(args.config, "the configuration")
        known = {*vars(parser.parse_args([])), "block_size", *ALWAYS, *REFUSED, *SWITCHES} - {"config", "dry_run"}
        unknown = sorted(set(config) - known)
        if unknown:
            fail(f"{args.config} has {', '.join(unknown)}, which train.py does not know; see --help")
        flags = [flag for name, value in config.items() if value is not None for flag in as_flags(name, value)]
        parser.set_defaults(**{**vars(parser.parse_args(translate(flags))), "config": None})
        args = parser.parse_args(arguments)
    for name in ("context_length", "train_bin"):
        if getattr(args, name) is None:
            fail(f"--{name} is needed, on the command line or in the configuration")
    if args.n_embd % args.n_head or args.n_embd // args.n_head % 4:
        fail(f"--n_embd {args.n_embd} must be a multiple of 4 x --n_head {args.n_head}: half of each head rotates in "
             "pairs")
    if args.val_bin is None:
        args.val_bin = str(Path(args.train_bin).with_name(Path(args.train_bin).name.replace("train", "val")))
        if args.val_bin == args.train_bin:
            fail(f"{args.train_bin} has no \"train\" in its name to replace by \"val\"; name the validation tokens "
                 "with --val_bin")
    return args


def complete(args, total_tokens, vocabulary_size):
    """Fill in what follows from --init_from and the corpus: the model's shape, tokens to train on, steps of warm-up."""
    parser = build_parser("")
    inherit(args, {name: parser.get_default(name) for name in SHAPE})
    args.train_tokens = args.train_tokens or total_tokens
    args.vocab_size = args.vocab_size or math.ceil(vocabulary_size / 64) * 64
    if args.vocab_size < vocabulary_size:
        fail(f"--vocab_size {args.vocab_size} is below the corpus's vocabulary of {vocabulary_size}")
    if args.warmup_epochs is not None:
        args.warmup_iters = math.ceil(args.warmup_epochs * args.train_tokens / args.tokens_per_step)


def steps_of_a_dry_run(args):
    """The steps of a run that ends after --dry_run_epochs passes over its training tokens, or after --max_iters."""
    return min(args.max_iters, math.ceil(args.dry_run_epochs * args.train_tokens / args.tokens_per_step))


def estimated_seconds(args, steps, cost):
    """Seconds of a run of `steps` steps and of both readings of its best weights; cost: what --dry_run says of it."""
    evaluations = bool(args.init_from) + math.ceil(steps / args.eval_interval) + 1 + (
        args.full_context_targets * cost["context_length"] / args.eval_tokens)
    return steps * cost["seconds_a_step"] + evaluations * cost["seconds_an_evaluation"]


def divisors(n, most):
    """The divisors of n up to `most`, ascending."""
    return [size for size in range(1, min(n, most) + 1) if n % size == 0]


def divide_batches(args, world, device):
    """Fill in or check the windows of a forward pass; exits with code 2 where tokens per step do not divide."""
    unit = args.context_length * world
    if args.tokens_per_step % unit:
        below = args.tokens_per_step // unit * unit
        fail(f"--tokens_per_step {args.tokens_per_step} is not a multiple of the context length {args.context_length} "
             f"times {world} processes; {f'{below} or ' if below else ''}{below + unit} would be")
    windows = args.tokens_per_step // unit
    if args.batch_size is None:
        args.batch_size = divisors(windows, max(1, FORWARD_TOKENS[device.type] // args.context_length))[-1]
    if windows % args.batch_size:
        fail(f"--batch_size {args.batch_size} does not divide the {windows} windows of a process in a step; "
             f"{', '.join(map(str, divisors(windows, windows)))} would")
    passes = windows // args.batch_size * world
    if args.gradient_accumulation_steps not in (None, passes):
        fail(f"--gradient_accumulation_steps {args.gradient_accumulation_steps} does not give {args.tokens_per_step} "
             f"tokens a step with batches of {args.batch_size} x {args.context_length}; {passes} does, or leave it out")
