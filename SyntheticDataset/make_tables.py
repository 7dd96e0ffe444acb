"""Write the number tables of the READMEs anew from the committed results, the only place where they are rounded.

    python make_tables.py            # rewrites what stands between <!-- table NAME --> and <!-- end -->
    python make_tables.py --check    # exits with 1, and names the tables, if one is not current
"""

from utils import run_main

import json
import re
from functools import cache
from pathlib import Path

from collecting import load_table1, optimum_and_margin, over_seeds, read_numbers, spread
from correlation import correlations, load_by_seed
from entropy import intrinsic_dimension
from measures import load_measures, right_thresholds
from position_weighting import GAMMAS, load_grids, summarise
from readme_tables import markdown, run_make_tables, table_maker
from retrieval_tables import tables

RESULTS = Path(__file__).with_name("results")
READMES = [RESULTS / "README.md", RESULTS / "retrieval" / "README.md",
           Path(__file__).parents[1] / "README.md"]  # the summary, where this folder lies in the whole repository
GAMMAS_SHOWN = (4, 16)  # weightings by position, in the summary
PAPER_TABLE_1 = {17: "0.4648", 50: "0.0613"}
LENGTHS_SHOWN = (11, 14, 17, 20, 25, 30, 40, 50, 60)  # of the 60 bits


def rows_of(experiment, *columns):
    """The runs of an experiment's sweep.csv with these columns and those that say which run it is."""
    return read_numbers(RESULTS / experiment / "sweep.csv",
                        ("context_length", "train_dataset_size", "seed", "bayes_risk", *columns))


def losses(experiment):
    """Lowest validation loss by size and context length, the optimum in bold, and the Bayes risk."""
    rows = rows_of(experiment, "best_valid_loss")
    risks = {int(row["context_length"]): row["bayes_risk"] for row in rows}
    table = []
    for size, (lengths, cells) in over_seeds(rows, "best_valid_loss").items():
        best, _ = optimum_and_margin(lengths, cells)
        texts = [spread(cell) for cell in cells]
        texts[best] = re.sub(r"^[\d.]+", r"**\g<0>**", texts[best])
        table.append([f"{size:,}", *texts])
    return markdown(["training samples", *(f"{length} bits" for length in risks)],
                    [*table, ["Bayes risk", *(f"{risk:.3f}" for risk in risks.values())]])


def margins():
    """By how much the neighbours of each optimum are worse, their best seed beside its worst."""
    table = []
    for size, (lengths, cells) in over_seeds(rows_of("small", "best_valid_loss"), "best_valid_loss").items():
        best, margin = optimum_and_margin(lengths, cells)
        table.append([f"{size:,}", lengths[best], "none: end of the grid" if margin is None else f"{margin:.3f}"])
    return markdown(["training samples", "optimum (bits)", "worst seed below every seed of the neighbours by (nats)"],
                    table)


def last_losses():
    """Training and validation loss at the end, with early stopping and in the control without."""
    table = []
    columns = ("last_step", "last_train_loss", "last_valid_loss")
    for experiment in ("small", "control"):
        rows = [row for row in rows_of(experiment, *columns) if row["context_length"] in (50, 94)]
        by_column = [over_seeds(rows, column) for column in columns]
        for size, (lengths, _) in by_column[0].items():
            for index, length in enumerate(lengths):
                steps, train, valid = (by_size[size][1][index] for by_size in by_column)
                table.append([experiment, f"{size:,}", length, f"{min(steps):.0f} to {max(steps):.0f}"
                              if len(steps) > 1 else f"{steps[0]:.0f}", spread(train, 2), spread(valid, 2)])
    return markdown(["runs", "training samples", "bits", "steps", "training loss", "validation loss"], table)


def parts():
    """The two parts of the approximation loss at the best and at the last epoch, means over the seeds."""
    columns = [f"{epoch}_approximation_loss_{part}" for epoch in ("best", "last")
               for part in ("solvable", "unsolvable")]
    rows = rows_of("small", *columns)
    by_column = [over_seeds(rows, column) for column in columns]
    table = [[f"{size:,}", length, *(f"{by_size[size][1][index].mean():.3f}" for by_size in by_column)]
             for size, (lengths, _) in by_column[0].items() for index, length in enumerate(lengths)]
    return markdown(["training samples", "bits", "best epoch: solvable", "unsolvable", "last epoch: solvable",
                     "unsolvable"], table)


def dimensions():
    """Intrinsic dimension beside the visible subtasks, and the gap behind the last counted eigenvalue."""
    rows = load_measures(RESULTS / "small" / "measures")
    table = []
    for length in sorted({row["visible_context_length"] for row in rows}):
        seeds = [row for row in rows if row["visible_context_length"] == length]
        expected = seeds[0]["n_visible_tasks"]
        found = {intrinsic_dimension(row["eigenvalues"], 0.1) for row in seeds}
        gaps = [(row["eigenvalues"][expected - 1] / row["eigenvalues"][expected]).item() for row in seeds]
        table.append([length, expected, ", ".join(map(str, sorted(found))), len(seeds),
                      f"{min(gaps):.1f} to {max(gaps):.1f}"])
    return (markdown(["bits", "visible subtasks", "dimension at 0.1", "models", "eigenvalue over the next"], table)
            + f"\n\nThresholds with the right dimension everywhere: {', '.join(map(str, right_thresholds(rows)))}.")


def published():
    """The published setting: the best epoch, what the unsolvable subtasks cost then, and the last one."""
    rows = rows_of("published", "best_valid_loss", "best_train_loss", "best_approximation_loss_unsolvable",
                   "last_train_loss", "last_valid_loss")
    tasks = json.loads((RESULTS / "published" / "sweep_about.json").read_text())["data"]["task_definition"]
    table = []
    for row in rows:
        share = sum(max(a, b) > row["context_length"] for a, b in tasks) / len(tasks)
        unsolvable = (row["best_approximation_loss_unsolvable"] + row["bayes_risk"]) / share
        table.append([f"{row['context_length']:.0f}", *(f"{row[name]:.3f}" for name in (
            "best_valid_loss", "bayes_risk", "best_train_loss")), f"{unsolvable:.3f}",
            f"{row['last_train_loss']:.3f}, {row['last_valid_loss']:.3f}"])
    return markdown(["bits", "validation loss", "Bayes risk", "training loss in that epoch",
                     "mean loss of the unsolvable subtasks then", "training, validation loss after 200 epochs"], table)


def table1(experiment, digits, shown=None):
    """Cross entropy of the transformers beside the Bayes risk, at the lengths shown (None: all)."""
    entries = load_table1(RESULTS / experiment / "table1.csv")
    table = [[length, f"{entries[length]['bayes_risk']:.{digits}f}",
              spread(entries[length]["cross_entropy"].values(), digits),
              *([PAPER_TABLE_1.get(length, "")] if shown else [])] for length in shown or entries]
    return markdown(["bits", "Bayes risk", "cross entropy", *(["the paper's"] if shown else [])], table)


def straightness():
    """R of the cross entropy against the measures of the hidden states, and its excess over the Bayes risk."""
    table = []
    for experiment in ("transformer_small", "transformer_paper", "transformer_settled", "transformer_unsettled"):
        path = RESULTS / experiment
        seeds = load_by_seed(path / "measures", path / "table1.csv")
        found = [correlations(rows) for rows in seeds.values()]
        rows = [row for rows in seeds.values() for row in rows]
        excess = max(row["cross_entropy"] - row["bayes_risk"] for row in rows)
        ranks = sorted({row["rank"] for row in rows})
        table.append([experiment, len(seeds), f"{excess:.5f}", f"{ranks[0]} to {ranks[-1]} of {rows[0]['width']}",
                      *(spread((entry[name][1] for entry in found), 4) if name in found[0] else "" for name in (
                          "KDE entropy", "log-determinant part", "absolute eigenvalues", "relative eigenvalues")),
                      *(", ".join(str(entry[f"{kind} eigenvalues"][0]) for entry in found)
                        for kind in ("absolute", "relative"))])
    return markdown(["runs", "seeds", "nats above Bayes at most", "rank", "R: KDE entropy", "its log-determinant part",
                     "sum of log absolute eigenvalues", "of relative ones", "best N (absolute)",
                     "best N (relative)"], table)


def speed():
    """benchmark.json."""
    found = json.loads((RESULTS / "benchmark.json").read_text())
    training, generation, script = found["training"], found["generation"], found["script"]
    return markdown(["what", "ours (s)", "the plain way (s)", "times faster"], [
        [f"an epoch of the MLP, {training['n']:,} samples in batches of {training['batch_size']:,}, against a "
         f"DataLoader of single samples (loading is {100 * training['loading_share']:.1f}% of ours)",
         *(f"{training['seconds'][way]:.2f}" for way in ("ours", "one by one")), f"{training['times_faster']:.2f}"],
        [f"generating {generation['n']:,} samples, against a set of tuples",
         *(f"{generation['seconds'][way]:.3f}" for way in ("ours", "set of tuples")),
         f"{generation['times_faster']:.0f}"],
        *([f"KDE entropy, n = {kde['n']:,}, d = {kde['width']}, against scipy.stats.gaussian_kde",
           *(f"{kde['seconds'][way]:.2f}" for way in ("ours", "scipy")), f"{kde['times_faster']:.1f}"]
          for kde in found["kde"]),
        [f"generate_data.py, {script['train_size'] + script['valid_size']:,} samples: {script['peak_gigabytes']:.1f} GB"
         f" of memory, {script['file_megabytes']:.0f} MB of files", f"{script['seconds']:.0f}", "", ""]])


@cache
def retrieval_tables():
    """All tables of position-weighted retrieval, by name."""
    lengths, grids = load_grids(RESULTS / "retrieval" / "grids.pt")
    return tables(lengths, grids, summarise(lengths, grids, GAMMAS))


def visible_optima():
    """The best visible length of position-weighted retrieval at each size, by gamma, in words."""
    rows = summarise(*load_grids(RESULTS / "retrieval" / "grids.pt"), GAMMAS_SHOWN)
    found = {gamma: [row for row in rows if row["gamma"] == gamma] for gamma in GAMMAS_SHOWN}
    sizes = ", ".join(f"{row['train_dataset_size']:,}" for row in found[GAMMAS_SHOWN[0]])
    return "; ".join(f"gamma {gamma}: " + ", ".join("{:.0f} ± {:.0f}".format(*row["optimum"]) for row in mine)
                     for gamma, mine in found.items()) + f" of 64 pairs at {sizes} samples"


def summary():
    """What is reproduced, in a row a figure: the command, our number, the paper's."""
    def optima(experiment):
        """The optimum of each size, and whether each is below its neighbours with every seed."""
        found = {size: (lengths, *optimum_and_margin(lengths, cells)) for size, (lengths, cells) in
                 over_seeds(rows_of(experiment, "best_valid_loss"), "best_valid_loss").items()}
        beyond = all(margin is not None and margin > 0 for _, _, margin in found.values())
        return (", ".join(f"{lengths[best]} bits at {size:,}" for size, (lengths, best, _) in found.items())
                + f" samples, {'each beyond' if beyond else 'within'} the seeds' spread")

    models = load_measures(RESULTS / "small" / "measures")
    right = sum(intrinsic_dimension(row["eigenvalues"], 0.1) == row["n_visible_tasks"] for row in models)
    paper = load_by_seed(RESULTS / "transformer_paper" / "measures", RESULTS / "transformer_paper" / "table1.csv")
    small = load_by_seed(RESULTS / "transformer_small" / "measures", RESULTS / "transformer_small" / "table1.csv")
    table = load_table1(RESULTS / "transformer_paper" / "table1.csv")
    losses_60 = ", ".join(f"{spread(table[length]['cross_entropy'].values(), 4)} against "
                          f"{table[length]['bayes_risk']:.4f} at {length}" for length in PAPER_TABLE_1)
    r_small = [correlations(rows)["KDE entropy"][1] for rows in small.values()]
    return markdown(["figure", "command", "ours", "the paper's"], [
        ["Fig. 1 left, App. F: optimal context", "`bash SyntheticDataset/reproduce.sh`", optima("small"),
         "an optimum that grows with the size"],
        ["App. F, with a transformer", "[commands](SyntheticDataset/results/README.md)",
         optima("transformer_optimum"), "the same"],
        ["Fig. 18: intrinsic dimension", "`bash SyntheticDataset/reproduce.sh`",
         f"the number of visible subtasks in {right} of {len(models)} models", "the number of visible subtasks"],
        ["Table 1: trained against Bayes", "`bash SyntheticDataset/reproduce_transformer.sh paper`",
         f"{losses_60} bits", ", ".join(f"{loss} at {length}" for length, loss in PAPER_TABLE_1.items())],
        ["Figs. 6, 7: cross entropy against entropy", "the same; 16 bits: its preset `small`",
         f"R = {spread((correlations(rows)['KDE entropy'][1] for rows in paper.values()), 4)}; 16 bits: "
         f"{spread(r_small, 4)}", "a straight line"],
        ["Figs. 3, 4: how much context to show", "`bash SyntheticDataset/reproduce_retrieval.sh`", visible_optima(),
         "an optimum that falls with gamma and is larger for larger models"]])


TABLES = {
    "small_losses": lambda: losses("small"), "small_margins": margins, "small_last": last_losses, "small_parts": parts,
    "dimensions": dimensions, "published": published, "transformer_small": lambda: table1("transformer_small", 4),
    "transformer_paper": lambda: table1("transformer_paper", 5, LENGTHS_SHOWN), "straightness": straightness,
    "transformer_optimum": lambda: losses("transformer_optimum"), "many_sizes": lambda: losses("many_sizes"),
    "speed": speed, "summary_synthetic": summary,
    **{f"retrieval_{name}": lambda name=name: retrieval_tables()[name]
       for name in ("optimum", "losses", "over_gamma", "over_size", "cut_off")},
}


def make(name, path):
    """A table of this part, or None for the summary of another one. Exits with code 2 at an unknown name."""
    maker = table_maker(TABLES, name, path)
    return maker and maker()


def main():
    run_make_tables(__doc__, READMES, make)


if __name__ == "__main__":
    run_main(main)
