"""The flags of the trainers, which a sweep reads those of its cells with too."""

from argparse import BooleanOptionalAction

from utils import Parser, fail, non_negative_float, non_negative_int, positive_float, positive_int, seed

MODELS = ("mlp", "bi_mlp", "transformer")
# The arguments that say which network it is; the paper's widths by default.
WIDTHS = {
    "hidden_size": (400, "MLP: width; the middle layer has half"),
    "task_hidden_size": (400, "Bi-MLP: width of the first layer"),
    "next_size": (80, "Bi-MLP: width of the context feature"),
    "next_hidden_size": (200, "Bi-MLP: width of the third layer"),
    "width": (208, "transformer: of the hidden states"),
    "n_layer": (3, "transformer: layers"),
    "n_head": (8, "transformer: attention heads; of even width"),
}
# Of train_retrieval.py, by default.
VISIBLE_LENGTHS = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64)


def model_parser(description):
    """The flags of train_model.py."""
    parser = Parser(description)
    data = parser.add_argument_group("data")
    data.add_argument("--training_data_position", default="data/train.pt", help="file of generate_data.py")
    data.add_argument("--validation_data_position", default="data/valid.pt", help="file of generate_data.py")
    data.add_argument("--context_length", type=positive_int, required=True, help="visible bits")
    data.add_argument("--train_dataset_size", type=positive_int, help="the first training samples (default: all)")
    data.add_argument("--valid_dataset_size", type=positive_int, help="validation samples (default: all)")
    network = parser.add_argument_group("network")
    network.add_argument("--model", choices=MODELS, default="mlp",
                         help="bi_mlp: a context feature that cannot see the active subtask")
    network.add_argument("--use_bi_mlp", dest="model", action="store_const", const="bi_mlp", help="--model bi_mlp")
    for name, (width, text) in WIDTHS.items():
        network.add_argument(f"--{name}", type=positive_int, default=width, help=text)
    network.add_argument("--output_size", type=int, default=1, choices=[1], help="logits per sample")
    training = parser.add_argument_group("training")
    training.add_argument("--num_epochs", type=positive_int, default=200,
                          help="passes over the training samples at most")
    training.add_argument("--early_stopping", type=positive_int, default=25,
                          help="stop after so many epochs without a lower validation loss ...")
    training.add_argument("--early_stopping_steps", type=non_negative_int, default=2000,
                          help="... and so many optimizer steps (0: epochs alone, as published)")
    training.add_argument("--batch_size", type=positive_int, default=10_000, help="samples a step")
    training.add_argument("--learning_rate", type=non_negative_float, default=1e-3, help="of AdamW")
    training.add_argument("--weight_decay", type=non_negative_float, default=1e-4,
                          help="of AdamW; the paper's sweep has 8e-4")
    training.add_argument("--seed", type=seed, default=0, help="seed of the weights and of the batches")
    add_run_arguments(parser, "outputs/runs", checkpoint_seconds=10.0)
    return parser


def add_run_arguments(parser, save_position, checkpoint_seconds):
    """The flags that say where and how a run is made, of all trainers."""
    run = parser.add_argument_group("run")
    run.add_argument("--save_position", default=save_position, help="directory for the run's directory")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    run.add_argument("--threads", type=positive_int, default=1,
                     help="CPU threads; matrices this small gain nothing from more, so run more runs instead")
    run.add_argument("--checkpoint_seconds", type=non_negative_float, default=checkpoint_seconds,
                     help="seconds between checkpoints, each at the end of a step")
    run.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")


def check_heads(width, n_head):
    """Exit with code 2 if the heads cannot have the same, even width, as rotary positions need."""
    if width % (2 * n_head):
        fail(f"--width {width} does not split into --n_head {n_head} heads of even width; change one of them")


def transformer_parser(description):
    """The flags of train_transformer.py."""
    parser = Parser(description)
    add = parser.add_argument_group("task").add_argument
    add("--task_definition", default="weighted_tasks.json", help="file of generate_tasks.py")
    add("--context_bits", type=positive_int, default=60, help="bits of a sample (L)")
    add("--max_masked", type=non_negative_int, default=50, help="the last 0 to so many bits of half the samples are ?")
    add = parser.add_argument_group("network").add_argument
    add("--width", type=positive_int, default=208, help="of the hidden states; the feed-forward layers have 4 x")
    add("--n_layer", type=positive_int, default=3, help="layers")
    add("--n_head", type=positive_int, default=8, help="attention heads; of even width")
    add("--rope_base", type=positive_float, default=4000.0, help="base of the rotary positions")
    add = parser.add_argument_group("training").add_argument
    add("--batch_size", type=positive_int, default=20, help="contexts a step, each asked every subtask")
    add("--cycle_steps", type=positive_int, default=5000, help="steps in which the learning rate falls to 0")
    add("--max_cycles", type=positive_int, default=4, help="cycles at most; one is enough if every subtask is learned")
    add("--settling_steps", type=non_negative_int, default=10000, help="steps after the cycles")
    add("--learning_rate", type=non_negative_float, default=3e-4, help="of AdamW, after the warm-up")
    add("--warmup_steps", type=positive_int, default=200, help="steps until the learning rate is reached")
    add("--weight_decay", type=non_negative_float, default=0.5, help="of AdamW, in the cycles")
    add("--settling_weight_decay", type=non_negative_float, default=1.0, help="of AdamW, in the settling steps")
    add("--learned_loss", type=non_negative_float, default=0.35,
        help="every subtask is learned when, with all bits visible, its loss is below this (nats)")
    add("--unlearned_weight", type=positive_float, default=1.0,
        help="in the cycles, a subtask not learned at the last evaluation counts so many times in the loss")
    add("--eval_interval", type=positive_int, default=1000, help="steps between evaluations")
    add("--eval_contexts", type=positive_int, default=64, help="of an evaluation, each asked all subtasks")
    add("--final_contexts", type=positive_int, default=1024, help="of the last one, other contexts")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the matrix products in training")
    add("--compile", action=BooleanOptionalAction, default=False, help="compile the model (a GPU)")
    add("--seed", type=seed, default=0, help="of the weights and of the samples")
    add_run_arguments(parser, "outputs/transformer_runs", checkpoint_seconds=30.0)
    return parser


def retrieval_parser(description):
    """The flags of train_retrieval.py."""
    parser = Parser(description)
    task = parser.add_argument_group("task")
    task.add_argument("--n_pairs", type=positive_int, default=64, help="key-value pairs of a sample (L)")
    task.add_argument("--n_keys", type=positive_int, default=256, help="different keys")
    task.add_argument("--n_values", type=positive_int, default=16, help="different values")
    task.add_argument("--visible_lengths", type=positive_int, nargs="+", default=list(VISIBLE_LENGTHS),
                      help="pairs that are shown, in training and when measured")
    task.add_argument("--train_dataset_size", type=positive_int, default=2000, help="training samples")
    task.add_argument("--test_contexts", type=positive_int, default=400, help="measured at the end, for every pair")
    model = parser.add_argument_group("network")
    model.add_argument("--width", type=positive_int, default=64, help="of the hidden states")
    model.add_argument("--n_layer", type=positive_int, default=1, help="layers")
    model.add_argument("--n_head", type=positive_int, default=2, help="attention heads; of even width")
    model.add_argument("--rope_base", type=positive_float, default=1000.0, help="base of the rotary positions")
    training = parser.add_argument_group("training")
    training.add_argument("--num_steps", type=positive_int, default=500, help="steps")
    training.add_argument("--batch_size", type=positive_int, default=128, help="samples a step")
    training.add_argument("--unanswerable_share", type=non_negative_float, default=0.3,
                          help="of a batch's samples: their gold pair is cut off")
    training.add_argument("--learning_rate", type=non_negative_float, default=3e-3, help="of AdamW, after the warm-up")
    training.add_argument("--warmup_steps", type=positive_int, default=50, help="steps of warm-up")
    training.add_argument("--weight_decay", type=non_negative_float, default=0.5, help="of AdamW")
    training.add_argument("--eval_interval", type=positive_int, default=250, help="steps between evaluations")
    training.add_argument("--eval_contexts", type=positive_int, default=50, help="of an evaluation, other contexts")
    training.add_argument("--seed", type=seed, default=0, help="of the weights, the samples and the batches")
    add_run_arguments(parser, "outputs/retrieval/runs", checkpoint_seconds=30.0)
    return parser


def check_transformer(args):
    """Exit with code 2 where flags of train_transformer.py do not fit each other."""
    if args.final_contexts < 2:
        fail("--final_contexts 1 has no standard error; give 2 or more")
    if args.max_masked > args.context_bits:
        fail(f"--max_masked {args.max_masked} is more than the --context_bits {args.context_bits}")


def check_retrieval(args):
    """Exit with code 2 where flags of train_retrieval.py do not fit each other; puts --visible_lengths in order."""
    args.visible_lengths = sorted(set(args.visible_lengths))
    if args.visible_lengths[-1] > args.n_pairs:
        fail(f"--visible_lengths {args.visible_lengths[-1]} is more than the --n_pairs {args.n_pairs}")
    if args.n_keys < args.n_pairs:
        fail(f"--n_keys {args.n_keys} cannot give --n_pairs {args.n_pairs} different keys; raise it")
    if args.unanswerable_share >= 1:
        fail("--unanswerable_share must lie below 1, or nothing can be learned")


PARSERS = {"train_model": model_parser, "train_transformer": transformer_parser, "train_retrieval": retrieval_parser}
CHECKS = {"train_transformer": check_transformer, "train_retrieval": check_retrieval}


def parse(trainer, description, argv=None):
    """The arguments of a trainer, by default the program's. Exits with code 2 where they do not fit each other."""
    args = PARSERS[trainer](description).parse_args(argv)
    check_heads(args.width, args.n_head)
    CHECKS.get(trainer, lambda args: None)(args)
    return args
