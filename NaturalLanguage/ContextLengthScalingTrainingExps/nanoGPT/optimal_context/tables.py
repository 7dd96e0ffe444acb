"""Tables of the results README from committed fits and plans: each a function of the JSON to a header and rows."""

from optimal_context.report import all_reasons, nested_row, shown_optimum
from optimal_context.table import best_baseline, summary


def optima(found):
    """Each size: the measured optimum of the grid, the fitted one, that from the other sizes, whether it is trusted."""
    held_out = {row["train_tokens"]: row for row in found["candidates"][found["law"]] or []}
    lengths = [cell["context_length"] for cell in found["cells"]]
    rows = []
    for row in found["optima"] + found["predictions"]:
        other = held_out.get(row["train_tokens"])
        inside = other and min(lengths) <= other["optimum"] <= max(lengths)
        rows.append([f"{row['train_tokens']:,.0f}", f"{other['measured_optimum']:g}" if other else "",
                     shown_optimum(row["optimum"], 3),
                     (f"{other['optimum']:.3g}" if inside else "outside the grid") if other else "",
                     "yes" if row["trusted"] else "no"])
    return ["size", "measured optimum", "fitted, 95% interval", "from the other sizes", "trusted"], rows


def errors(all_rows):
    """How laws and baselines predict sizes that they have not seen."""
    rows = []
    for name, evaluated in all_rows.items():
        if evaluated:
            row = summary(evaluated)
            rows.append([name, f"{row['within_one_step']} of {row['sizes']}", str(row["same_length"]),
                         *(f"{row[key]:.3g}" for key in ("near_error_rms", "near_error_max")),
                         f"{row['regret_mean']:.3f}"])
    return ["law or baseline", "optimum within a step", "same length", "error near it (nats), root mean square",
            "largest", "cost of the choice"], rows


def held_out(found):
    """The errors on one left-out size at a time."""
    return errors({**found["candidates"], **nested_row(found["check"]), **found["check"]["baselines"]})


def larger_half(found):
    """The errors on the larger half of the sizes, from the smaller half."""
    return errors(found["check"]["larger_half"]["rows"])


def verdict(found):
    """Whether the fit is trusted, and why not."""
    return ["law kept", "trusted", "reasons", "growth of the optimum"], [[
        found["law"], "yes" if found["trusted"] else "no", "; ".join(all_reasons(found)) or "none",
        "" if found["exponent"] is None else
        f"D^{found['exponent']['value']:.2f} [{found['exponent']['low']:.2f}, {found['exponent']['high']:.2f}]"]]


def recovery(found):
    """The share of tables, drawn from the fitted law, whose interval holds the truth."""
    shares = [[name, f"{share:.3f}"] for name, share in found["coverage"].items()]
    cells = [[f"{name} of the cells, mean (lowest)", f"{share['mean']:.3f} ({share['lowest']:.3f})"]
             for name, share in found["coverage_over_cells"].items()]
    return ["95% interval of", "holds the truth in"], shares + cells


def coverage(found):
    """Laws outside the family: lowest share over the sizes of the table, and shares for sizes beyond it."""
    rows = []
    for name, sizes in found["laws"].items():
        table = [row for row in sizes if row["beyond_the_sizes"] == 1]
        beyond = [row for row in sizes if row["beyond_the_sizes"] > 1]
        rows.append([name.replace("_", " "), f"{min(row['holds_or_not_trusted'] for row in table):.3f}",
                     *(f"{sum(row[key] for row in table) / len(table):.3f}" for key in ("holds", "trusted")),
                     *(f"{row['holds_or_not_trusted']:.3f} ({row['trusted']:.2f})" for row in beyond),
                     f"{found['exponents'][name]['holds_or_not_trusted']:.3f}"])
    return ["law", "holds or is not trusted: lowest of the table's sizes", "holds, mean", "trusted, mean",
            *(f"{row['beyond_the_sizes']:.3g} times beyond (trusted)" for row in beyond),
            "exponent holds or is not trusted"], rows


def rms(rows):
    """The root mean square error near the optima of rows of `compared` (nats), as text; "" without rows."""
    return f"{summary(rows)['near_error_rms']:.3f}" if rows else ""


def rms_of_best(rows_of):
    """The lowest of these errors, and whose it is, of {baseline: rows}, as text."""
    name = best_baseline(rows_of)
    return f"{rms(rows_of[name])} ({name})"


def readings(sweeps):
    """Fits {sweep: {name: JSON}}, each of the window mean or of full context: what each predicts of new sizes."""
    rows = []
    for sweep, fits in sweeps.items():
        both = fits["fit_both"]
        for losses, form, found in (("window mean", "C / l^gamma", fits["fit"]),
                                    ("window mean", "its mean over the window", fits["fit_mean"]),
                                    ("window mean", "both readings at once", both),
                                    ("full context", "C / l^gamma", fits["fit_full_context"]),
                                    ("full context", "both readings at once", both["other_reading"])):
            law, check = found["law"], found["check"]
            plain, half = check["baselines"], check["larger_half"]["rows"]
            rows.append([sweep, losses, form, law, rms(found["candidates"][law]), rms(check["nested"]),
                         rms_of_best(plain), rms(half.get(law)), rms_of_best({name: half[name] for name in plain})])
    return ["sweep", "losses", "Bayes risk fitted", "law kept", "left-out size: law kept", "nested choice of a law",
            "best baseline", "larger half: law kept", "best baseline there"], rows


def carry_over(sweeps):
    """Fits {sweep: JSON} of both readings: what the kept law, fitted to one reading alone, leaves of the other."""
    return ["sweep", "fitted, predicted", "constants free", "carried fit (nats)", "own fit", "first reading's curve",
            "flat"], [[sweep, direction, constants.replace("_", " "), *(f"{row[name][constants]:.3f}" for name in row)]
                      for sweep, found in sweeps.items() for direction, row in found["carry_over"].items()
                      for constants in row["error"]]


def plan(found):
    """The grid that plan_context_length.py chose, a row a size."""
    lengths = " ".join(map(str, found["context_lengths"]))
    return ["training tokens", "context lengths", "seeds", "steps of a run, at most", "hours of a slot, at most"], [
        [f"{row['train_tokens']:,}", lengths, found["seeds"], f"{row['schedule']['max_iters']:,}",
         f"{row['hours_at_most']:.2f}"] for row in found["sizes"]]


TABLES = {"fit_optima": optima, "fit_held_out": held_out, "fit_larger_half": larger_half, "fit_verdict": verdict,
          "fit_recovery": recovery, "fit_coverage": coverage, "plan": plan}
