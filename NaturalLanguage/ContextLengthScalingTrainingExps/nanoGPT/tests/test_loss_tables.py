"""Tables as users have them: which are read, whose rows are not averaged, and what cannot carry a fit."""

from argparse import ArgumentTypeError

import numpy as np
import pytest

from fit_optimal_context import separator
from law_tables import LENGTHS, SIZES, fitted, table, true_fit, write_csv
from optimal_context.table import Columns, read_losses


def test_own_columns_one_seed_and_a_given_law(nanogpt, tmp_path):
    cells = table(true_fit("power_constant"), noise=0.004, seeds=1)
    write_csv(tmp_path / "own.csv", cells, ("window", "words", "run", "nats"))
    _, own = fitted(nanogpt, tmp_path, "own.csv", "--length_column", "window", "--size_column", "words",
                    "--loss_column", "nats", "--seed_column", "run", "--law", "power_constant")
    write_csv(tmp_path / "usual.csv", cells)
    _, usual = fitted(nanogpt, tmp_path, "usual.csv", "--law", "power_constant")
    assert own["parameters"] == usual["parameters"] and own["law"] == "power_constant"
    assert own["parameters"]["alpha_ref"]["value"] == pytest.approx(0.8, rel=0.15)
    assert own["lack_of_fit"]["power_constant"]["pooled"] is None is not own["lack_of_fit"]["power_constant"]["smooth"]


def test_tables_are_read_as_users_have_them(tmp_path):
    cells = table(true_fit("power_constant"), noise=0.01)
    write_csv(tmp_path / "comma.csv", cells)
    text = (tmp_path / "comma.csv").read_text()
    for name, changed in {"bom": "\ufeff" + text, "semicolon": text.replace(",", ";"), "tab": text.replace(",", "\t"),
                          "windows": text.replace("\n", "\r\n"), "blank": text + "\n\n"}.items():
        (tmp_path / name).write_bytes(changed.encode())
        found = read_losses([tmp_path / name])
        assert np.array_equal(found.losses, cells.losses) and np.array_equal(found.lengths, cells.lengths), name
    (tmp_path / "bars").write_text(text.replace(",", "|"))
    assert np.array_equal(read_losses([tmp_path / "bars"], Columns(separator="|")).losses, cells.losses)
    assert separator(r"\t") == separator("tab") == separator("\t") == "\t" and separator("|") == "|"
    with pytest.raises(ArgumentTypeError, match="not one character"):
        separator(",;")


def test_rows_that_look_like_other_settings_are_not_averaged(tmp_path, capsys):
    cells = table(true_fit("power_constant"), noise=0.01)
    rows = [(length, size, losses) for length, size, losses in zip(cells.lengths, cells.sizes, cells.seeds)]

    def write(name, more, columns):
        text = "".join(",".join(map(str, (length, size, *values))) + "\n" for length, size, losses in rows
                       for index, loss in enumerate(losses) for values in [more(loss, index)])
        (tmp_path / name).write_text(f"context_length,train_tokens,{columns}\n{text}")
        return [tmp_path / name]

    rates = write("rates", lambda loss, index: (loss, 10.0**-index), "best_valid_loss,learning_rate")
    shifted = write("shifted", lambda loss, index: (loss + index / 10,), "best_valid_loss")
    for path, words in ((rates, "differ in learning_rate"), (shifted, "differ alike")):
        with pytest.raises(SystemExit):
            read_losses(path)
        error = capsys.readouterr().err
        assert words in error and "--seed_column none" in error and error.count("\n") == 1
        assert len(read_losses(path, Columns(seed="none")).seeds[0]) == 3
    plain = write("plain", lambda loss, index: (loss,), "best_valid_loss")
    assert np.allclose(read_losses(plain).losses, cells.losses)


def test_what_cannot_carry_a_fit_is_refused_in_one_line(nanogpt, tmp_path):
    truth = true_fit("power_constant")
    full = table(truth, noise=0.01)
    write_csv(tmp_path / "full.csv", full)
    text = (tmp_path / "full.csv").read_text()
    write_csv(tmp_path / "sizes.csv", table(truth, sizes=SIZES[:2]))
    write_csv(tmp_path / "lengths.csv", table(truth, lengths=LENGTHS[:3]))
    (tmp_path / "words.csv").write_text(text.replace("512,", "long,", 1))
    (tmp_path / "twice.csv").write_text(text + text.splitlines()[1] + "\n")
    (tmp_path / "infinite.csv").write_text(text + "16,100000,9,nan\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes(text.replace("seed", "größe").encode("latin-1"))
    for name, words in {"sizes": "2 training sizes, the fit needs 3", "lengths": "3 context lengths, the fit needs 4",
                        "words": "is not a number", "twice": "came before", "infinite": "is 'nan', which",
                        "empty": "has no row", "latin": "UTF-8", "absent": "cannot read"}.items():
        done = nanogpt("fit_optimal_context.py", "--results", f"{name}.csv", check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, (name, done.stderr)
        assert f"{name}.csv" in done.stderr or name in ("sizes", "lengths")
    for flags, words in ((("--loss_column", "nats"), "no column nats"), (("--draws", 2), "at least 100"),
                         (("--predict_train_tokens", 0), "above 0"), (("--ceiling", 1e300), "--ceiling"),
                         (("--predict_train_tokens", 1e300), "above 0"),
                         (("--predict_train_tokens", "nan"), "above 0")):
        done = nanogpt("fit_optimal_context.py", "--results", "full.csv", *flags, check=False)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    write_csv(tmp_path / "one.csv", table(truth, noise=0.01, seeds=1))
    done = nanogpt("measure_recovery.py", "--results", "one.csv", check=False)
    assert done.returncode == 2 and "only one" in done.stderr


@pytest.mark.parametrize("column, factor, rows, fits", [
    ("context_length", 1e-300, 1, False), ("context_length", 1e300, None, False), ("context_length", -1, 1, False),
    ("train_tokens", 1e300, 1, False), ("train_tokens", 1e-300, None, False), ("best_valid_loss", 1e300, 1, False),
    ("best_valid_loss", 1e-300, 1, True), ("train_tokens", 1e-20, len(LENGTHS), True),
    ("best_valid_loss", -1e8, None, True)])
def test_extreme_numbers_are_refused_or_fitted(nanogpt, tmp_path, column, factor, rows, fits):
    """In the first rows (None: in all): one line, or a fit that is written without a word on stderr."""
    write_csv(tmp_path / "full.csv", table(true_fit("power_constant"), noise=0.01, sizes=SIZES[:3], seeds=1))
    header, *lines = (tmp_path / "full.csv").read_text().splitlines()
    at, lines = header.split(",").index(column), [line.split(",") for line in lines]
    for line in lines[:rows]:
        line[at] = repr(float(line[at]) * factor)
    (tmp_path / "extreme.csv").write_text("\n".join([header, *map(",".join, lines)]) + "\n")
    done = nanogpt("fit_optimal_context.py", "--results", "extreme.csv", "--draws", 100, "--out", "fit.json",
                   check=False)
    assert (tmp_path / "fit.json").exists() == fits and done.returncode == (0 if fits else 2), done.stderr
    assert done.stderr.count("\n") == (0 if fits else 1) and (fits or f"extreme.csv: {column} is " in done.stderr)


def test_a_size_that_shares_no_length_with_others_is_refused(nanogpt, tmp_path):
    cells = table(true_fit("power_constant"), noise=0.01, seeds=1)
    write_csv(tmp_path / "apart.csv", cells.part((cells.sizes < SIZES[-1]) == (cells.lengths < LENGTHS[-1])))
    done = nanogpt("fit_optimal_context.py", "--results", "apart.csv", "--draws", 100, check=False)
    assert done.returncode == 2 and f"the training size {SIZES[-1]:g}" in done.stderr and done.stderr.count("\n") == 1
