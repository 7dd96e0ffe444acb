"""The steps of measuring one model, from a corpus to its measures: their flags, files, and when they are done.

measure_model.py runs them for one model, sweep.py for several. A grid can be given by flags or, as measure.sh is used,
by environment variables; what is for prepare_data.py stands behind ` -- ` or in DATA.
"""

import os
import shlex
from pathlib import Path

from corpora import choose_source, parse_corpus
from files import current, load_json, read_table
from hub import local_revision
from jobs import from_environment, visible_gpus
from settings import MADE, add_scoring_flags, measurement_name
from text_files import CorpusError
from utils import Parser, fail, non_negative_int, positive_int

FEATURE_LENS = "8 12 16 24 32 48 64 128 256 512"
SEQ_LENS = "8 12 16 24 32 48 64 128 256 384 512 768 1024"
DATA = "--percent 10 --max_documents 12000 --splits train"
SCORING = ("window", "stride", "trim", "tokens_per_batch", "dtype", "rope_scaling", "rope_factor",
           "device", "device_map")


def script(name):
    """The path of a script of this folder, from the working directory."""
    return os.path.relpath(Path(__file__).parent / name)


def words(name, default=""):
    """The words of an environment variable, quoted as a shell has them, so that paths may hold spaces."""
    try:
        return shlex.split(os.environ.get(name) or default)
    except ValueError as error:
        fail(f"{name} in the environment cannot be split into words: {error}")


def pipeline_parser(description):
    """The flags of measuring a model; defaults from the environment."""
    parser = Parser(description)
    add = parser.add_argument_group("what to measure").add_argument
    add("--feature_lens", type=positive_int, nargs="+",
        default=from_environment("FEATURE_LENS", FEATURE_LENS, positive_int),
        help="context lengths with hidden states and entropy")
    add("--seq_lens", type=positive_int, nargs="+", default=from_environment("SEQ_LENS", SEQ_LENS, positive_int),
        help="context lengths with a cross entropy")
    add("--draws", type=non_negative_int, default=from_environment("DRAWS", "20", non_negative_int)[0],
        help="half samples for the standard errors of entropies; or 0")
    add("--out_dir", default=os.environ.get("OUT") or "outputs",
        help="directory below which each model has its data and its measurement")
    add_scoring_flags(parser)
    parser.set_defaults(n_samples=from_environment("N_SAMPLES", "10000", positive_int)[0],
                        device=os.environ.get("DEVICE") or "auto", device_map=os.environ.get("DEVICE_MAP") or None)
    return parser


def parse(parser, argv):
    """Parse flags and what stands behind ` -- `: the namespace, whose `data` are the flags of prepare_data.py."""
    split = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_intermixed_args([*words("CHUNKS"), *argv[:split]])
    args.data = argv[split + 1:] or words("DATA", DATA)
    return args


def flags_of(args, names):
    """The flags that say what a namespace says: ["--window", "33", ...]; those that are None are left out."""
    flags = []
    for name in names:
        value = getattr(args, name)
        if value is not None:
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def model_directory(args, model):
    """The directory of a model's measurement."""
    return Path(args.out_dir) / measurement_name(model)


def model_command(args, model):
    """What measures one model as the namespace says."""
    names = ("feature_lens", "seq_lens", "n_samples", "draws", "out_dir", *SCORING)
    return [script("measure_model.py"), model, *flags_of(args, names), "--", *args.data]


def request_of(args, model):
    """What a model's measurement is made from, beside the number of chunks; the corpus by what identifies it now.

    --dtype auto stays so, whatever it meant where the model was measured: a machine that only submits and collects may
    have no GPU. Exits with code 2 if the corpus cannot be read.
    """
    names = ("feature_lens", "seq_lens", "draws", "window", "stride", "trim", "dtype", "rope_scaling")
    try:
        inputs, _ = choose_source(parse_corpus("", args.data))
    except CorpusError as error:
        fail(error)
    return {"model": model, "model_revision": local_revision(model), "data": args.data, "inputs": inputs,
            **{name: getattr(args, name) for name in names},
            **({"rope_factor": args.rope_factor} if args.rope_factor else {})}


def measured_chunks(args, model):
    """The chunks that have been measured at every context length that the namespace says: n_samples or more."""
    return min(int(row[column]) for name, column, lengths in (
        ("cross_entropy.csv", "n_chunks", args.seq_lens), ("measures.csv", "n", args.feature_lens))
        for row in read_table(model_directory(args, model) / name, ("context_length", column))
        if int(row["context_length"]) in lengths and not row.get("draw"))


def is_done(args, model):
    """Whether a model has been measured as the namespace says, on n_samples chunks or more."""
    directory = model_directory(args, model)
    final = directory / "final.json"
    return (all((directory / name).is_file() for name in ("final.json", *MADE))
            and current(final, request_of(args, model))
            and load_json(final, "what was measured")["n_samples"] >= args.n_samples)


def steps(args, model):
    """Yield the commands of all steps for one model, in order; hidden states first: their pass gives losses too."""
    name, directory = measurement_name(model), model_directory(args, model)
    data = Path(args.out_dir) / "data" / name
    yield [script("prepare_data.py"), "--model_name", model, "--save_path", data, *args.data]
    gpus = len(visible_gpus()) if args.device == "auto" and not args.device_map else 0
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", gpus] if gpus > 1 else []
    flags = ["--model_name", model, "--dataset_path", data, "--out_dir", directory,
             *flags_of(args, ("n_samples", *SCORING))]
    yield [*launch, script("save_mid_features.py"), "--seq_lens", *args.feature_lens, *flags]
    yield [*launch, script("evaluate_CE.py"), "--seq_lens", *args.seq_lens, *flags]
    yield [script("measure_entropy.py"), directory, "--device", args.device, "--draws", args.draws]
