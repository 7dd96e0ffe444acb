"""The flags of generate_tasks.py and evaluate_tasks.py, which sweep.py has too."""

from argparse import BooleanOptionalAction

from downstream.tasks import TASKS
from settings import add_model_flags
from utils import Parser, fraction, non_negative_int, positive_int, seed


def generation_parser(description):
    """The flags of generate_tasks.py."""
    parser = Parser(description)
    add = parser.add_argument
    add("--task", choices=TASKS, required=True, help="which task")
    add("--tokenizer", required=True, help="model whose tokens and chat template count: hub name or directory")
    add("--max_length", type=positive_int, help="tokens of the prompt and the answer together")
    add("--out", help="file to write (default: OUT_DIR/TOKENIZER/TASK_lenL_nN_seedS.jsonl)")
    add("--out_dir", default="outputs/downstream/samples", help="folder for it")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="make again what is there")
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
    return parser


def add_evaluation_flags(parser):
    """The flags of evaluate_tasks.py that sweep.py has too. Returns their actions."""
    group = parser.add_argument_group("evaluation")
    add = group.add_argument
    return [
        add("--visible_fractions", type=fraction, nargs="+", metavar="SHARE",
            default=[0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0],
            help="shares of the context's tokens that stay visible, from its end"),
        add("--query_first", action=BooleanOptionalAction, default=False, help="put the query before the context too"),
        add("--chat", choices=("auto", "on", "off"), default="auto",
            help="use the chat template; auto: if there is one and the samples were made with it"),
        add("--generate", action=BooleanOptionalAction, default=True,
            help="answer by greedy decoding and score it; without, only the right answer's cross entropy is measured"),
        add("--share", action=BooleanOptionalAction, default=True, help="compute the common beginning of prompts once"),
        add("--features", action=BooleanOptionalAction, default=True, help="save the hidden states before the answer"),
        add("--new_tokens", type=positive_int, help="tokens of an answer (default: those kept in the samples)"),
        add("--limit", type=positive_int, help="evaluate only the first so many samples"),
        *add_model_flags(group),
    ]


def as_flags(actions, args):
    """The parsed values of actions as flags again, without those that are defaults."""
    flags = []
    for action in actions:
        name, value = action.option_strings[0], getattr(args, action.dest)
        if value == action.default:
            continue
        if isinstance(action, BooleanOptionalAction):
            flags.append(name if value else f"--no-{name[2:]}")
        else:
            flags += [name, *map(str, value if isinstance(value, list) else [value])]
    return flags


def evaluation_parser(description):
    """The flags of evaluate_tasks.py."""
    parser = Parser(description)
    add = parser.add_argument
    add("--model_name", required=True, help="hub name or directory of a causal language model")
    add("--samples", required=True, help="file of generate_tasks.py, made with this model's tokenizer")
    add("--out_dir", default="outputs/downstream/runs", help="folder of the runs")
    add("--overwrite", action=BooleanOptionalAction, default=False, help="evaluate again what is there")
    add_evaluation_flags(parser)
    return parser
