"""What the scripts that measure a model and those that start them agree on: names, defaults, flags. Without torch."""

from pathlib import Path

from utils import argument_type, fail, non_negative_int, positive_float, positive_int

TRIM = (100, 50)  # tokens of a document that are dropped at its beginning and end
MADE = ("cross_entropy.csv", "measures.csv", "spectra.pt")  # in a measurement's directory, from losses and features


def measurement_name(model_name):
    """What a measurement of a model is called: the last part of its path or hub name."""
    return Path(model_name).absolute().name


exclusion = argument_type(str, lambda word: word.rpartition(":")[2].isdecimal(),
                          "a context length, or NAME:LENGTH for the measurement NAME alone")


def refuse_unknown_owners(exclusions, names):
    """Exit with code 2 where a word of --exclude names a measurement that is none of `names`."""
    for word in exclusions:
        owner = word.rpartition(":")[0]
        if owner and owner not in names:
            fail(f"--exclude {word}: there is no measurement {owner} here, but {', '.join(names)}")


def excluded_lengths(exclusions, name):
    """The context lengths that the words of --exclude (`exclusion`) leave out of the measurement `name`: a set."""
    return {int(length) for owner, _, length in (word.rpartition(":") for word in exclusions) if owner in ("", name)}


def add_scoring_flags(parser):
    """The flags that say which chunks are measured, and how; in two groups."""
    add = parser.add_argument_group("chunks").add_argument
    add("--n_samples", type=positive_int, help="chunks to measure; fewer than that in the corpus are an error")
    add("--window", type=positive_int, default=2048, help="tokens of a chunk; the last one is the target")
    add("--stride", type=positive_int, help="tokens between chunks (default: the window, so that none overlap)")
    add("--trim", type=non_negative_int, nargs=2, default=list(TRIM), metavar=("FIRST", "LAST"),
        help="tokens dropped at the beginning and the end of a document")
    add_model_flags(parser.add_argument_group("model"))


def add_model_flags(group):
    """The flags that say how a model runs, in a group of a parser. Returns their actions."""
    add = group.add_argument
    return [
        add("--tokens_per_batch", type=positive_int, default=16_384,
            help="tokens that go through the model at once; halves by itself when memory runs out"),
        add("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto",
            help="of the model; auto: bfloat16 on a GPU, float32 on the CPU"),
        add("--rope_scaling", metavar="NAME", help="rotary positions beyond the trained length: none, linear, ntk, "
            "dynamic or yarn, or JSON as transformers takes it"),
        add("--rope_factor", type=positive_float,
            help="how many times longer texts may get, for --rope_scaling by name"),
        add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...; under torchrun one GPU a process"),
        add("--device_map", choices=("auto",), help="spread a large model over all GPUs (needs accelerate)"),
    ]
