"""Gather runs that differ in their settings too: which rate, step or decay is best at each context length?

    python collect_settings.py --runs outputs/settings/* --out_csv outputs/settings.csv

Reads every finished run below the --runs, each of them an --out_dir of train.py, all on the same data. Writes OUT_CSV,
one row a run: context length, training tokens, seed, each other argument in which the runs differ, losses, best step
and last one. Prints the best setting at each length and size, by the mean over seeds. tune_settings.sh makes such runs.
"""

from utils import Parser, fail, run_main

from collections import defaultdict
from pathlib import Path
from statistics import mean

from files import load_json, make_directory, write_csv
from run import AXES, SCHEDULE, request_of

RESULTS = ("best_valid_loss", "full_context_loss", "full_context_standard_error", "best_train_loss", "best_step",
           "last_step")
# Arguments that follow from the others, or say how a run is judged: columns, but no settings to choose from.
NOT_CHOSEN = SCHEDULE - {"max_iters"} | {"min_lr", "data_seed", "full_context_targets"}


def read_runs(folders):
    """(request, final.json) of every finished run below the folders; exits with code 2 if there is none."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*/final.json"))]
    found = [(request_of(load_json(path.with_name("args.json"), "the arguments of the run")),
              load_json(path, "the result")) for path in paths]
    if not found:
        fail(f"there is no finished run below {' '.join(folders)}; name folders that were --out_dir of train.py")
    data = found[0][0]
    for request, _ in found:
        if any(request[name] != data[name] for name in ("train data", "valid data")):
            fail("the runs were trained or validated on different data; give those of one corpus")
    return found


def settings_of(requests):
    """The names of the arguments in which the requests differ, but for AXES; incidental ones last."""
    names = [name for name in requests[0] if name not in AXES
             and any(request.get(name) != requests[0][name] for request in requests)]
    return sorted(names, key=lambda name: name in NOT_CHOSEN)


def print_best(rows, settings):
    """The best setting at each training size and length."""
    swept = [name for name in settings if name not in NOT_CHOSEN]
    losses = defaultdict(lambda: defaultdict(list))
    for row in rows:
        losses[row["train_tokens"], row["context_length"]][tuple(row[name] for name in swept)].append(
            row["best_valid_loss"])
    for (tokens, length), found in sorted(losses.items()):
        best = min(found, key=lambda setting: mean(found[setting]))
        print(f"{tokens} tokens, context {length}: {mean(found[best]):.4f} with "
              + (", ".join(f"{name} {value}" for name, value in zip(swept, best)) or "the only settings"))


def main():
    parser = Parser(__doc__)
    parser.add_argument("--runs", nargs="+", required=True, help="folders of runs, each an --out_dir of train.py")
    parser.add_argument("--out_csv", default="outputs/settings.csv", help="file to write")
    args = parser.parse_args()
    found = read_runs(args.runs)
    settings = settings_of([request for request, _ in found])
    rows = [{**{name: request[name] for name in (*AXES, *settings)}, **{name: result[name] for name in RESULTS}}
            for request, result in found]
    rows.sort(key=lambda row: (row["train_tokens"], row["context_length"], *(str(row[name]) for name in settings)))
    make_directory(Path(args.out_csv).parent)
    write_csv(args.out_csv, rows, rows[0])
    print_best(rows, settings)
    print(f"{len(rows)} runs -> {args.out_csv}")


if __name__ == "__main__":
    run_main(main)
