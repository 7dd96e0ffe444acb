"""Measure how well a run retrieves from its context, by where the answer stands (see data/retrieval/prepare.py).

    python evaluate_retrieval.py outputs/runs/TAG --test data/retrieval/key_value_test.jsonl --out_csv recall.csv

All answers of a test document are read in one pass, each predicted from the true tokens before it. Writes a row for
each number of units and each value of
    gold         index of the unit that is asked for, over all queries of a document
    gold_first   the same, over the first query of each document alone
    number       number of the query in its document (labels: of the example)
    hops         variables: assignments between the one that is asked for and a value
with n answers, how often the right token has the largest logit (accuracy), its mean cross entropy (nats) and the number
of the documents. Answers that nothing in the context says (gold -1) count under number alone.
"""

from utils import Parser, choose_device, fail, positive_int, progress, run_main, say

from collections import defaultdict
from pathlib import Path

import torch
from torch.nn import functional as F

from files import make_directory, write_csv
from retrieval_documents import TOKENS_AT_ONCE, describe_test, read_test
from run import load_run


@torch.no_grad()
def score(model, ids, answers, device):
    """Tuples (gold, number, hops, right, cross entropy) of every answer of documents (n, length) of the same length."""
    scores = []
    at_once = max(1, TOKENS_AT_ONCE // ids.shape[1])
    for first in range(0, len(ids), at_once):
        part = ids[first:first + at_once].to(device)
        logits = model(part[:, :-1]).float()
        targets = part[:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).cpu()
        right = (logits.argmax(-1) == targets).cpu()
        for row, group in enumerate(answers[first:first + at_once]):
            scores += [(gold, number, hops, bool(right[row, at - 1]), losses[row, at - 1].item())
                       for at, gold, number, hops in group]
    return scores


def tabulate(units, scores):
    """Rows of the table for documents with so many units."""
    cells = defaultdict(list)
    for gold, number, hops, *measured in scores:
        cells["number", number].append(measured)
        if gold >= 0:
            cells["gold", gold].append(measured)
            cells["hops", hops].append(measured)
            if number == 0:
                cells["gold_first", gold].append(measured)
    return [{"units": units, "by": by, "index": index, "n": len(measured),
             "accuracy": sum(right for right, _ in measured) / len(measured),
             "cross_entropy": sum(loss for _, loss in measured) / len(measured)}
            for (by, index), measured in sorted(cells.items())]


def main():
    parser = Parser(__doc__)
    parser.add_argument("run", help="directory of a finished run of train.py")
    parser.add_argument("--test", required=True, help="TASK_test.jsonl of data/retrieval/prepare.py")
    parser.add_argument("--out_csv", required=True, help="table to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    model, arguments = load_run(args.run, device)
    if model.memory is not None:
        fail(f"{args.run} reads a text in windows, with a memory; evaluate_long_context.py measures its recall")
    describe_test(args.test, args.run)
    rows = []
    for units, (ids, answers) in progress(read_test(args.test).items(), unit="sizes", desc="evaluating", leave=False):
        scores = score(model, ids, answers, device)
        known = [answer for answer in scores if answer[0] >= 0]
        beyond = "" if ids.shape[1] <= arguments["context_length"] else (
            f"; its documents have {ids.shape[1]} tokens, more than the {arguments['context_length']} of training")
        means = "no answer that the context says" if not known else (
            f"accuracy {sum(answer[3] for answer in known) / len(known):.4f}, cross entropy "
            f"{sum(answer[4] for answer in known) / len(known):.4f}, {len(known)} answers")
        say(f"{units} units: {means} in {len(ids)} documents{beyond}")
        rows += tabulate(units, scores)
    make_directory(Path(args.out_csv).parent)
    write_csv(args.out_csv, rows)


if __name__ == "__main__":
    run_main(main)
