"""The tables of the READMEs of results/ are those of the committed results."""

import csv
import json
import re
import statistics

import torch

import long_context_tables
from helpers import FOLDER, run_script
from optimal_context.report import all_reasons
from optimal_context.tables import readings


def test_the_tables_are_current():
    done = run_script("make_tables.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_table_that_is_not_current_is_named_and_made_anew(tmp_path):
    (tmp_path / "results").symlink_to(FOLDER / "results")
    kinds = ("losses", "full_context_losses", "optima", "cost")
    path = tmp_path / "README.md"
    tables = [f"<!-- table {kind} results/small/sweep -->old<!-- end -->\n" for kind in kinds]
    path.write_text("Before.\n" + "".join(tables))
    done = run_script("make_tables.py", "--check", "--readme", path)
    assert done.returncode == 1 and "losses results/small/sweep" in done.stdout and "old" in path.read_text()
    assert run_script("make_tables.py", "--readme", path).returncode == 0
    assert run_script("make_tables.py", "--check", "--readme", path).returncode == 0
    assert path.read_text().startswith("Before.\n") and "old" not in path.read_text()


def test_the_losses_are_means_of_the_committed_runs():
    """Of each cell, from the CSV itself."""
    cells = {}
    with open(FOLDER / "results" / "small" / "sweep.csv", newline="") as file:
        for row in csv.DictReader(file):
            cells.setdefault((int(row["train_tokens"]), int(row["context_length"])), []).append(
                float(row["best_valid_loss"]))
    text = (FOLDER / "results" / "small" / "README.md").read_text()
    table = re.search(r"<!-- table losses sweep -->(.*?)<!-- end -->", text, re.S)[1].strip().splitlines()
    lengths = [int(cell) for cell in table[0].strip("| ").split("|")[1:]]
    for line in table[2:]:
        tokens, *shown = [cell.strip() for cell in line.strip("|").split("|")]
        means = [statistics.mean(cells[int(tokens.replace(",", "")), length]) for length in lengths]
        assert [float(re.match(r"\**([\d.]+)", cell)[1]) for cell in shown] == [round(mean, 3) for mean in means]
        assert [cell.startswith("**") for cell in shown] == [mean == min(means) for mean in means]
    assert len(table) - 2 == len({tokens for tokens, _ in cells}) and len(lengths) * (len(table) - 2) == len(cells)


def test_variants_are_compared_by_seed_with_the_first(tmp_path):
    """Differences of 0.1 and 0.3: 0.2 with Student's interval of two, 12.706 standard errors of 0.1 each way."""
    for name, losses in {"full": {16: (3, 4), 64: (2, 5)}, "sliding_window": {64: (2.1, 5.3)}}.items():
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["context_length", "train_tokens", "seed", "at_last_step", "best_valid_loss",
                             "full_context_loss"])
            writer.writerows([length, 1000, seed, 0, loss, 9] for length, seeds in losses.items()
                             for seed, loss in enumerate(seeds))
    path = tmp_path / "README.md"
    path.write_text(f"<!-- table variants {tmp_path}/full {tmp_path}/sliding_window --><!-- end -->")
    assert run_script("make_tables.py", "--readme", path).returncode == 0
    assert [line.strip("| ").split(" | ") for line in path.read_text().splitlines()[-4:-2]] == [
        ["1,000", "full", "3.500", "3.500"], ["1,000", "sliding window", "", "3.700, +0.200 [-1.071, +1.471]"]]


def test_the_control_has_the_training_loss_beside_the_validation_loss(tmp_path):
    """Two seeds at one length, one at another, as if it had both; the last training loss is in the curves alone."""
    columns = ["context_length", "train_tokens", "seed", "best_train_loss", "best_valid_loss", "last_valid_loss"]
    runs = {(16, 0): (2, 4, 5, 1), (16, 1): (2.5, 4.5, 6, 1.5), (64, 0): (3, 3.25, 7, 0.125)}
    with open(tmp_path / "sweep.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([length, 1000, seed, *losses[:3]] for (length, seed), losses in runs.items())
    curves = {f"ctl{length}_tok1000_seed{seed}": torch.tensor([[9.0, 9], [10, losses[3]]], dtype=torch.float64)
              for (length, seed), losses in runs.items()}
    torch.save({"curves": curves, "curve_columns": ["step", "train_loss"]}, tmp_path / "sweep.pt")
    path = tmp_path / "README.md"
    path.write_text(f"<!-- table control {tmp_path}/sweep --><!-- end -->")
    assert run_script("make_tables.py", "--readme", path).returncode == 0
    assert [line.strip("| ").split(" | ") for line in path.read_text().splitlines()[-6:-2]] == [
        ["1,000", "training, where validation was lowest", "2.250", "3.250"],
        ["1,000", "validation, the lowest", "4.250", "3.500"],
        ["1,000", "training, at the last step", "1.250", "0.375"],
        ["1,000", "validation, at the last step", "5.500", "7.500"]]


def write_losses(folder, tables):
    """Tables {name: rows of length, size, seed and both losses}; returns their paths without ending, as one text."""
    columns = ["context_length", "train_tokens", "seed", "at_last_step", "best_valid_loss", "full_context_loss"]
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([*row[:3], 0, *row[3:]] for row in rows)
    return " ".join(str(folder / name) for name in tables)


def test_losses_above_that_of_the_best_length_by_seed(tmp_path):
    """Differences by hand, of the seeds that a length has of the best one's; a length that was not run is blank."""
    path = tmp_path / "README.md"
    of = write_losses(tmp_path, {"small": [(16, 1000, 0, 5, 8), (16, 1000, 1, 6.25, 7), (64, 1000, 0, 4.5, 9),
                                           (16, 1000, 2, 7, 7.5), (64, 1000, 2, 6, 9.5), (256, 1000, 1, 9.5, 10),
                                           (64, 1000, 1, 5.5, 9), (256, 1000, 0, 9, 9)],
                                 "larger": [(64, 2000, 0, 4, 7), (64, 2000, 1, 4, 7), (256, 2000, 0, 3.75, 6),
                                            (256, 2000, 1, 4, 6.5)]})
    for kind, expected in (
            ("above_the_best", ["1,000 | +0.750 [+0.129, +1.371], 3 of 3 | **best** | +4.250 [+1.073, +7.427], 2 of 2",
                                "2,000 |  | +0.125 [-1.463, +1.713], 1 of 2 | **best**"]),
            ("full_context_above_the_best", ["1,000 | **best** | +1.667 [+0.232, +3.101], 3 of 3 | "
                                             "+2.000 [-10.706, +14.706], 2 of 2",
                                             "2,000 |  | +0.750 [-2.427, +3.927], 2 of 2 | **best**"])):
        path.write_text(f"<!-- table {kind} {of} --><!-- end -->")
        assert run_script("make_tables.py", "--readme", path).returncode == 0
        assert [line[2:-2].strip() for line in path.read_text().splitlines()[-4:-2]] == expected


def test_a_mean_loss_is_that_as_if_the_length_had_every_seed(tmp_path):
    """64 lacks the seed that is harder by 1 at the other length: 4.5 of the seed it has is 5 of both, above 4.75."""
    path = tmp_path / "README.md"
    of = write_losses(tmp_path, {"sweep": [(16, 1000, 0, 4.25, 8), (16, 1000, 1, 5.25, 6), (64, 1000, 0, 4.5, 7)]})
    for kind, expected in (("losses", ["1,000", "**4.750** [4.250, 5.250]", "5.000"]),
                           ("full_context_losses", ["1,000", "7.000 [6.000, 8.000]", "**6.000**"])):
        path.write_text(f"<!-- table {kind} {of} --><!-- end -->")
        assert run_script("make_tables.py", "--readme", path).returncode == 0
        assert path.read_text().splitlines()[-3].strip("| ").split(" | ") == expected


def test_the_cost_of_each_size_on_each_machine(tmp_path):
    """Two sizes, one of which ran on both machines; in a table whose rows do not say on which, all are named."""
    machines = [{"threads": 1, "torch": "2", "hardware": name} for name in ("a Xeon", "an EPYC")]
    (tmp_path / "sweep_about.json").write_text(json.dumps({"environments": machines}))
    rows = ["1000,60,0.5,0", "1000,180,0.25,0", "1000,30,1,1", "2000,600,2,1"]
    path = tmp_path / "README.md"
    for environment, expected in ((True, ["1,000 | 2 | 4 | 3.0 | 1 | 0.50 GB | a Xeon | 2",
                                          "1,000 | 1 | 0 | 0.5 | 1 | 1.00 GB | an EPYC | 2",
                                          "2,000 | 1 | 10 | 10.0 | 1 | 2.00 GB | an EPYC | 2"]),
                                  (False, ["1,000 | 3 | 4 | 3.0 | 1 | 1.00 GB | a Xeon, an EPYC | 2",
                                           "2,000 | 1 | 10 | 10.0 | 1 | 2.00 GB | a Xeon, an EPYC | 2"])):
        lines = ["train_tokens,seconds,peak_memory_gigabytes,environment", *rows]
        (tmp_path / "sweep.csv").write_text("\n".join(lines if environment else
                                                      [line.rpartition(",")[0] for line in lines]) + "\n")
        path.write_text(f"<!-- table cost {tmp_path}/sweep --><!-- end -->")
        assert run_script("make_tables.py", "--readme", path).returncode == 0
        assert [line.strip("| ") for line in path.read_text().splitlines()[4:-2]] == expected


def test_losses_above_those_of_one_pass_over_plentiful_tokens(tmp_path):
    """Means over both seeds, as if each length had both; a length that was not run at a size is blank."""
    path = tmp_path / "README.md"
    of = write_losses(tmp_path, {
        "small": [(16, 1000, 0, 5, 8), (16, 1000, 1, 6, 8), (64, 1000, 0, 5.25, 8)], "larger": [(64, 2000, 1, 4, 7)],
        "once": [(16, 9000, 1, 3.5, 7.5), (64, 9000, 1, 3, 6)]})
    for kind, expected in (("approximation", [["1,000", "2.000", "2.750"], ["2,000", "", "1.000"],
                                              ["9,000, once: the loss", "3.500", "3.000"]]),
                           ("full_context_approximation", [["1,000", "0.500", "2.000"], ["2,000", "", "1.000"],
                                                           ["9,000, once: the loss", "7.500", "6.000"]])):
        path.write_text(f"<!-- table {kind} {of} --><!-- end -->")
        assert run_script("make_tables.py", "--readme", path).returncode == 0
        assert [line.strip("| ").split(" | ") for line in path.read_text().splitlines()[-5:-2]] == expected


def test_the_tables_of_fits():
    """Reasons that sizes share are said once; the errors of each reading are those of its rows."""
    sizes = [{"train_tokens": size, "reasons": [reason]} for size, reason in (
        (5e4, "too far"), (1e5, "no"), (2e5, "too far"), (5e4, "too far"))]
    assert all_reasons({"reasons": ["few cells"], "optima": sizes[:3], "predictions": sizes[3:]}) == [
        "few cells", "D = 50000, 200000: too far", "D = 100000: no"]

    def rows(*errors):
        return [{"steps": 0, "near_square": error**2, "near_error": error, "regret": 0} for error in errors]

    def fit(law, *errors):
        kept, nested, near, line, half, half_near, half_line = errors
        plain = {"nearest": rows(near), "line": rows(line)}
        return {"law": law, "candidates": {law: rows(*kept), "other": None}, "check": {
            "baselines": plain, "nested": nested and rows(nested), "larger_half": {"rows": {
                law: half and rows(half), "nearest": rows(half_near), "line": rows(half_line)}}}}

    fits = {"fit": fit("power", (0.3, 0.4), 0.5, 0.2, 0.1, 0.6, 0.7, 0.8),
            "fit_mean": fit("a", (1,), None, 2, 3, None, 4, 3), "fit_full_context": fit("c", (1,), 1, 1, 2, 1, 1, 2)}
    fits["fit_both"] = {**fits["fit_mean"], "other_reading": fits["fit_full_context"]}
    _, found = readings({"sweep": fits})
    assert found[0] == ["sweep", "window mean", "C / l^gamma", "power", "0.354", "0.500", "0.100 (line)", "0.600",
                        "0.700 (nearest)"]
    assert found[1][4:] == ["1.000", "", "2.000 (nearest)", "", "3.000 (line)"]
    assert [row[1:4] for row in found[2:]] == [["window mean", "both readings at once", "a"], ["full context",
                                               "C / l^gamma", "c"], ["full context", "both readings at once", "c"]]


def test_what_was_predicted_stands_beside_what_was_measured(tmp_path):
    """The sizes and lengths that both have; with none the table is refused in one line."""
    lengths = [{"context_length": length, "loss": {"value": loss, "low": loss - 0.1, "high": loss + 0.1},
                "cost": {"value": cost, "low": 0.0, "high": 2 * cost}}
               for length, loss, cost in ((16, 4.0, 0.51), (64, 3.5, 0.01))]
    (tmp_path / "fit.json").write_text(json.dumps({"predictions": [
        {"train_tokens": size, "lengths": lengths} for size in (1000.0, 5000.0)]}))
    of = write_losses(tmp_path, {"runs": [(16, 1000, 0, 4.25, 8), (16, 1000, 1, 4.75, 7), (64, 1000, 0, 3.25, 9),
                                          (256, 1000, 0, 3, 9), (64, 2000, 0, 4, 7)],
                                 "others": [(64, 2000, 0, 4, 7)]}).split()
    path = tmp_path / "README.md"
    path.write_text(f"<!-- table check {tmp_path}/fit {of[0]} --><!-- end -->")
    assert run_script("make_tables.py", "--readme", path).returncode == 0
    assert [line.strip("| ").split(" | ") for line in path.read_text().splitlines()[-4:-2]] == [
        ["1,000", "16", "4.000 [3.900, 4.100]", "4.500 [4.250, 4.750]", "0.510 [0.000, 1.020]", "1.000"],
        ["1,000", "64", "3.500 [3.400, 3.600]", "3.500", "0.010 [0.000, 0.020]", "0.000"]]
    path.write_text(f"<!-- table check {tmp_path}/fit {of[1]} --><!-- end -->")
    done = run_script("make_tables.py", "--readme", path)
    assert done.returncode == 2 and "predicts no training size" in done.stderr and done.stderr.count("\n") == 1


def test_an_unknown_table_is_one_line(tmp_path):
    (tmp_path / "README.md").write_text("<!-- table wishes small/sweep --><!-- end -->")
    done = run_script("make_tables.py", "--readme", tmp_path / "README.md")
    assert done.returncode == 2 and "no kind of table wishes" in done.stderr and done.stderr.count("\n") == 1


def test_the_tables_of_long_contexts():
    """Two seeds become a mean with its range, and a full attention of the square a speed and exponents."""
    times = [{"attention": kind, "context_length": str(n), "seconds": str(n**power), "peak_megabytes": str(n)}
             for kind, power in (("full", 2), ("dilated", 1)) for n in (4, 8)]
    header, (full, dilated) = long_context_tables.attention_time(times)
    assert header[1:3] == ["4 tokens", "8 tokens"] and dilated[2] == "8 s (8.0 times as fast)"
    assert (str(full[3]), str(dilated[3]), str(full[5])) == ("2.00", "1.00", "1.00")
    rows = [{"variant": "base", "rope_type": "none", "measure": measure, "of": "text", "length": "64", "units": "48",
             "memory_tokens": "0", "value": value} for measure in ("loss", "accuracy") for value in ("0.25", "0.75")]
    assert long_context_tables.long_measures(rows) == (
        ["run", "positions", "loss, text, 64 tokens", "recall, 64 tokens"],
        [["base", "none", "0.500 [0.250, 0.750]", "0.500 [0.250, 0.750]"]])
    assert long_context_tables.memory_recall(rows[2:])[1] == [["48", "0.500 [0.250, 0.750]"]]
