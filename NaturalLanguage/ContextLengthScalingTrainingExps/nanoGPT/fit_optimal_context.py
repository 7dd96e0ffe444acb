"""Fit the law of loss against context length and training size to a sweep, and say which context length to train at.

    python fit_optimal_context.py --results results/small/sweep.csv --predict_train_tokens 1000000 --check
    python fit_optimal_context.py --results pilot.csv --length_column window --size_column tokens --loss_column nats
    python fit_optimal_context.py --results results/small/sweep.csv --reading both --check

Reads one table or several with a row a run (commas, semicolons or tabs). optimal_context/law.py says what is fitted.
--reading says what a loss is: of targets with exactly l tokens before them (full), or a mean over the positions of a
window of l tokens (mean), as best_valid_loss of train.py is. With both, one set of parameters is fitted to the column
of window means and to that of full context, each by its noise over seeds (optimal_context/readings.py); laws are
compared on the window mean, and what the kept one says of full context stands under "other_reading" of the JSON.
Where the losses of a seed are high or low at all lengths together, as where each seed is a part of the corpus, lengths
are compared by seed (optimal_context/pairing.py), and so are the errors that laws are compared by.
Candidate laws are compared by leaving one training size out: each is fitted to the other sizes and predicts the losses
at the left-out size's best length and the lengths on either side. A law that leaves more than noise of the table
(optimal_context/lack_of_fit.py) is put aside, unless all do. Of those within one standard error of the lowest mean
square error, the one with the fewest parameters is kept, unless --law names one. Laws with as many parameters as cells
left cannot be compared, and a bounded law is not kept if the losses do not come near its fitted bound. 95% intervals
are those of fits to resampled seeds and cells, of the kept law and of others that are as good; they are wider where no
law fits. The first line says whether to trust it, and why not. An optimum that may lie beyond the lengths of the table
is "at least" or "at most" a length. Writes all that is printed, the fitted curves and the errors of the losing laws as
JSON for draw_optimal_context.py: "trusted", "reasons", and for each size "optimum": value (null where it cannot be
told), low, high and bound. Where a plain baseline (the nearest size; at each length a line in log size, or a power
law) predicts the left-out sizes better, the law is not trusted, and the baseline's best length stands beside it. With
--check the law is judged by nested cross-validation (on each size by the law that the others choose), and there are
also the baselines' errors, and how each law, fitted to the smaller half of the sizes, predicts the larger half.
Exits with code 2, and says what is missing, where a table cannot carry a fit.
"""

from utils import Parser, fail, run_main

from argparse import ArgumentTypeError
from pathlib import Path

from files import make_directory, save_json
from optimal_context.analysis import analyse, describe
from optimal_context.bootstrap import DRAWS, LEAST_DRAWS, number_of_draws
from optimal_context.law import LAWS, with_ceiling
from optimal_context.readings import READINGS, carry_over, laws_of, other_reading, read_as_asked
from optimal_context.report import report, report_other
from optimal_context.selection import check_larger_half
from optimal_context.table import Columns, loss_in_nats, number_of_tokens, refuse_what_cannot_carry_a_fit
from utils import seed as seed_number


def separator(text):
    """One character between columns; a tab may be given as \\t, as a shell leaves it, or by its name."""
    mark = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(mark) != 1 or mark in "\r\n\"":
        raise ArgumentTypeError(f"{text!r} is not one character, nor tab")
    return mark


def parse_arguments():
    """The command line."""
    parser = Parser(__doc__)
    parser.add_argument("--results", nargs="+", default=["outputs/sweep.csv"], help="tables, a row a run")
    parser.add_argument("--length_column", default="context_length", help="column of the context length (tokens)")
    parser.add_argument("--size_column", help="column of the training size; default train_tokens or train_dataset_size")
    parser.add_argument("--loss_column", help="column of the loss (nats); default best_valid_loss, val_loss or "
                                              "valid_loss")
    parser.add_argument("--reading", choices=READINGS, default="full",
                        help="of the loss: with full context, a mean over the window, or a column of each at once")
    parser.add_argument("--full_context_column", help="column of the loss with full context, for --reading both, where "
                                                      "--loss_column is the window mean; default: full_context_loss")
    parser.add_argument("--seed_column", help="column of the seed; default: seed; none: there is no such column, and "
                                              "the rows of a cell are its seeds")
    parser.add_argument("--separator", type=separator,
                        help="of the columns; default: comma, semicolon or tab, as the header has")
    parser.add_argument("--law", choices=[law.name for law in LAWS], help="keep this law; default: the best held out")
    parser.add_argument("--ceiling", type=loss_in_nats,
                        help="loss of a model without context (nats), for the bounded laws; default: it is fitted")
    parser.add_argument("--predict_train_tokens", type=number_of_tokens, nargs="+", default=[],
                        help="training sizes, in the table's unit, to predict the optimum for")
    parser.add_argument("--check", action="store_true",
                        help="nested cross-validation, the baselines' errors, and the test on the larger sizes")
    parser.add_argument("--draws", type=number_of_draws, default=DRAWS,
                        help=f"of the bootstrap, at least {LEAST_DRAWS}")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the starts and of the bootstrap")
    parser.add_argument("--out", default="outputs/optimal_context.json", help="file to write")
    args = parser.parse_args()
    if args.full_context_column and args.reading != "both":
        fail("--full_context_column is for --reading both; name the column of one reading with --loss_column")
    return args


def examine(args, cells, name):
    """The Analysis of cells in their reading by the law of this name (None: the best), and all of it for JSON."""
    laws = laws_of([with_ceiling(law, args.ceiling) for law in LAWS], cells)
    analysis = analyse(laws, cells, args.draws, args.seed, name, with_nested=args.check)
    if analysis is None:
        least = min(len(law.parameters) for law in laws if name in (None, law.name))
        fail(f"the table has {len(cells.losses)} cells of length and size, too few for a law of {least} parameters"
             f"{'' if name else ' with a size left out'}; train more cells of the grid")
    found = describe(analysis, args.predict_train_tokens, args.seed)
    if args.check:
        found["check"] = {"baselines": analysis.baselines, "nested": analysis.nested,
                          "larger_half": check_larger_half(laws, cells, args.seed)}
    return analysis, found


def main():
    args = parse_arguments()
    columns = Columns(args.length_column, args.size_column, args.loss_column, args.seed_column, args.separator,
                      (args.full_context_column or "full_context_loss") if args.reading == "both" else None)
    cells = read_as_asked(args.reading, args.results, columns)
    refuse_what_cannot_carry_a_fit(cells)
    analysis, found = examine(args, cells, args.law)
    found = {"results": args.results, "seed": args.seed, "draws": args.draws, **found}
    if args.reading == "both":
        found["other_reading"] = examine(args, other_reading(cells), found["law"])[1]
        del found["other_reading"]["curves"]  # which are not drawn
        found["carry_over"] = carry_over(analysis.kept.law, cells, args.seed)
    make_directory(Path(args.out).parent)
    save_json(args.out, found)
    report(found)
    if args.reading == "both":
        report_other(found)
    print(f"-> {args.out}")


if __name__ == "__main__":
    run_main(main)
