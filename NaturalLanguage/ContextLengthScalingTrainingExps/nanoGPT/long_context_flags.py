"""The flags of a long context, of attention, memory, positions and fine-tuning, and the settings that follow.

Nothing here needs torch: a sweep reads these flags to know what its runs will be. long_context.py builds what is set.
"""

from argparse import BooleanOptionalAction
from pathlib import Path

from files import identity, load_json
from utils import argument_type, fail, positive_float, positive_int

SHAPE = ("vocab_size", "n_layer", "n_head", "n_embd")
ATTENTIONS = ("full", "shifted_sparse", "dilated", "sliding_window")
ROPE_TYPES = ("linear", "ntk", "yarn")
TRAINABLE = ("norms", "embeddings")  # beside LoRA


# "2048:4" is a segment of 2,048 tokens of which a head sees every fourth; a list, as JSON has it
dilated_pair = argument_type(lambda text: [int(number) for number in text.split(":")],
                             lambda pair: len(pair) == 2 and min(pair) >= 1, "W:R, such as 2048:4")


def add_flags(parser):
    """Add the flags; where none is given, the model is the paper's."""
    attention = parser.add_argument_group("attention")
    attention.add_argument("--attention", choices=ATTENTIONS, help="which earlier tokens are seen (default: full); "
                           "shifted_sparse in training alone")
    attention.add_argument("--attention_group", type=positive_int,
                           help="shifted_sparse: tokens of a group (default: a quarter of the context length)")
    attention.add_argument("--dilated_pairs", type=dilated_pair, nargs="+", metavar="W:R",
                           help="dilated: segments of W tokens of which a head sees every R-th, one with R = 1")
    attention.add_argument("--window", type=positive_int, help="sliding_window: tokens seen, the own one included")
    attention.add_argument("--document_mask", action=BooleanOptionalAction,
                           help="tokens see their own document alone (windows of data/mix.py stay whole)")

    memory = parser.add_argument_group("memory (text is then read in order, row by row)")
    memory.add_argument("--memory_tokens", type=positive_int, help="tokens of earlier windows that are remembered")
    memory.add_argument("--memory_layer", type=positive_int,
                        help="block that remembers them, from 1 (default: after three quarters)")
    memory.add_argument("--memory_neighbours", type=positive_int, help="nearest ones that are used (default: 32)")

    tuning = parser.add_argument_group("going on from a run, positions")
    tuning.add_argument("--init_from", metavar="RUN", help="begin with the best weights of this finished run or, of a "
                        "directory of runs, of the one of --seed")
    tuning.add_argument("--rope_type", choices=ROPE_TYPES, help="how rotary positions are scaled (default: as in "
                        "--init_from, or not)")
    tuning.add_argument("--rope_factor", type=positive_float, help="how many times longer texts may get")
    tuning.add_argument("--lora_rank", type=positive_int, help="train matrices of this rank beside those of attention, "
                        "which are frozen like all others (default: train all)")
    tuning.add_argument("--trainable", nargs="+", choices=TRAINABLE, help="trained too, with --lora_rank")


def described(run_dir):
    """The contents of a finished run's args.json; exits with code 2 if it is none."""
    run_dir = Path(run_dir)
    if not (run_dir / "final.json").exists():
        fail(f"--init_from {run_dir} is no finished run of train.py; give the directory that holds its final.json")
    return load_json(run_dir / "args.json", "the arguments of the run")


def run_of_seed(directory, seed):
    """The directory, if it is that of a run; else the finished run of this seed in it. Exits with code 2 if not one."""
    if (Path(directory) / "final.json").exists():
        return directory
    runs = [path.parent for path in sorted(Path(directory).glob("*/final.json"))]
    found = [str(run_dir) for run_dir in runs if described(run_dir)["arguments"]["seed"] == seed]
    if runs and len(found) != 1:
        fail(f"--init_from {directory} has {len(found)} finished runs of seed {seed}; give the directory of one")
    return found[0] if found else directory


def inherit(args, defaults):
    """Take over the shape of the run of --init_from, if any, and note the identity of its weights."""
    args.attention = None if args.attention == "full" else args.attention
    args.init_weights = None
    if args.init_from is None:
        return check_lora(args)
    args.init_from = run_of_seed(args.init_from, args.seed)
    model = described(args.init_from)["model"]
    for name in SHAPE:
        if getattr(args, name) not in (defaults[name], model[name]):
            fail(f"--{name} {getattr(args, name)} is not that of {args.init_from}, {model[name]}; leave it out")
        setattr(args, name, model[name])
    check_lora(args)
    args.init_weights = identity(Path(args.init_from) / "best.pt")


def attention_config(kind, context_length, n_head, group=None, pairs=None, window=None):
    """Settings of attention.make_attention (None: full attention); exits with code 2 where they do not fit."""
    flags = {"--attention_group": ("shifted_sparse", group), "--dilated_pairs": ("dilated", pairs),
             "--window": ("sliding_window", window)}
    for flag, (needs, value) in flags.items():
        if value is not None and kind != needs:
            fail(f"{flag} is for --attention {needs}, not {kind}")
    if kind == "shifted_sparse":
        group = group or context_length // 4
        if n_head % 2:
            fail(f"--attention shifted_sparse shifts half of the heads; --n_head {n_head} must be even")
        if group < 2 or group % 2 or context_length % group:
            fail(f"groups of {group} tokens (--attention_group) must be even and divide the context length "
                 f"{context_length}")
        return {"kind": kind, "group": group}
    if kind == "dilated":
        if not pairs or all(rate > 1 for _, rate in pairs):
            fail("--dilated_pairs needs a pair of dilation 1, such as 64:1, or some tokens see nothing")
        for width, rate in pairs:
            if width % rate or context_length % width:
                fail(f"--dilated_pairs {width}:{rate}: the dilation must divide the segment, and the segment the "
                     f"context length {context_length}")
            if n_head % rate:
                fail(f"--dilated_pairs {width}:{rate}: the dilation must divide --n_head {n_head}; each part of the "
                     "heads has its own positions")
        return {"kind": kind, "pairs": [list(pair) for pair in pairs]}
    if kind == "sliding_window":
        if window is None or window > context_length:
            fail(f"--attention sliding_window needs --window, up to the context length {context_length}")
        return {"kind": kind, "window": window}
    return None


def rope_config(rope_type, factor, original_length, dims):
    """A configuration from --rope_type and --rope_factor, or None. Exits with code 2 where they do not fit together."""
    if rope_type is None:
        if factor is not None:
            fail("--rope_factor needs --rope_type: linear, ntk or yarn")
        return None
    if factor is None or factor < 1:
        fail(f"--rope_type {rope_type} needs a --rope_factor of at least 1")
    if rope_type == "ntk" and dims < 4:
        fail(f"--rope_type ntk needs at least 4 rotary dimensions (8 a head), here {dims}")
    config = {"rope_type": rope_type, "factor": float(factor)}
    return {**config, "original_max_position_embeddings": original_length} if rope_type == "yarn" else config


def memory_config(tokens, layer, neighbours, n_layer):
    """Settings of GPT's `memory` from the flags, or None without --memory_tokens. Exits with code 2 on bad ones."""
    if not tokens:
        if layer is not None or neighbours is not None:
            fail("--memory_layer and --memory_neighbours need --memory_tokens, the tokens that are remembered")
        return None
    layer = layer or max(1, round(0.75 * n_layer))  # the ninth of twelve
    if layer > n_layer:
        fail(f"--memory_layer {layer} is beyond the {n_layer} blocks of the model")
    return {"tokens": tokens, "layer": layer, "neighbours": neighbours or 32}


def check_lora(args):
    """Exit with code 2 where --lora_rank, --trainable, --init_from and the width do not fit together."""
    rank = args.lora_rank
    if args.trainable and rank is None:
        fail("--trainable says what is trained beside LoRA; it needs --lora_rank")
    if rank is not None and args.init_from is None:
        fail("--lora_rank adapts a trained model; name its run with --init_from")
    if rank is not None and rank > args.n_embd:
        fail(f"--lora_rank {rank} is more than the width {args.n_embd} of the model")


def model_shape(args):
    """The arguments of GPT; exits with code 2 where flags do not fit each other or the context length."""
    former = described(args.init_from) if args.init_from else None
    inherited = former["model"] if former else {}
    rope = inherited.get("rope") or {}
    if args.rope_type == "yarn" and not former:
        fail("--rope_type yarn needs --init_from, a run whose context length is the original one")
    original = rope.get("original_max_position_embeddings") or (former and former["arguments"]["context_length"])
    settings = {
        "attention": attention_config(args.attention or "full", args.context_length, args.n_head, args.attention_group,
                                      args.dilated_pairs, args.window),
        "rope": rope_config(args.rope_type, args.rope_factor, original, args.n_embd // args.n_head // 2) or rope,
        "memory": memory_config(args.memory_tokens, args.memory_layer, args.memory_neighbours, args.n_layer)
        or inherited.get("memory")}
    if args.untied is False and inherited.get("untied"):
        fail(f"--no-untied is not how {args.init_from} was trained; leave it out")
    settings["untied"] = args.untied or inherited.get("untied")
    return {name: getattr(args, name) for name in SHAPE} | {name: value for name, value in settings.items() if value}
