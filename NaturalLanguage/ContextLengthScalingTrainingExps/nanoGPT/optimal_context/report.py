"""What an analysis says, in print."""

from optimal_context.selection import LEVELS
from optimal_context.table import summary

NAMES = {"full": "full context only", "mean": "mean over the window"}


def shown(entry, digits=4, form="g"):
    """"0.12 [0.1, 0.15]" of an interval; "cannot be told" of one without value. form "f": so many decimals."""
    if entry["value"] is None:
        return "cannot be told"
    return "{value:.{d}{form}} [{low:.{d}{form}}, {high:.{d}{form}}]".format(**entry, d=digits, form=form)


def shown_optimum(entry, digits=4):
    """An optimum in words: its interval, or "at least" and "at most" a length, or that it cannot be told."""
    if entry["value"] is not None:
        return shown(entry, digits)
    guess = f" (best estimate {entry['estimate']:.{digits}g})" if entry["estimate"] else ""
    if entry["bound"]:
        end = entry["low"] if entry["bound"] == "at least" else entry["high"]
        return f"{entry['bound']} {round(end):d}{guess}"
    return f"cannot be told between {entry['low']:g} and {entry['high']:g}{guess}"


def all_reasons(found):
    """Why not to rely on it, sentences: those of the table, then those of sizes that share one ("D = 1, 2: WHY")."""
    sizes = {}
    for row in found["optima"] + found["predictions"]:
        for why in row["reasons"]:
            sizes.setdefault(why, []).append(f"{row['train_tokens']:g}")
    return found["reasons"] + [f"D = {', '.join(dict.fromkeys(those))}: {why}" for why, those in sizes.items()]


def verdict(found):
    """The first line: whether the fit can be trusted, and the first reason why not."""
    if found["trusted"]:
        lack = found["lack_of_fit"][found["law"]]
        p = min(lack[name] for name in LEVELS if lack[name] is not None)
        return f"trusted: the law {found['law']} leaves no more than noise of the table (smallest p = {p:.2g})"
    first, *more = all_reasons(found)
    return f"NOT TRUSTED: {first}" + (f" (and {len(more)} more, below)" if more else "")


def print_errors(title, all_rows):
    """A table: how laws and baselines predict sizes that they have not seen, and the noise of what these measured."""
    print(f"{title}\n  {'':26}{'optimum within':>15}{'same':>8}{'error near it (nats):':>23}{'':18}{'cost of':>12}\n"
          f"  {'':26}{'one step':>15}{'length':>8}{'root mean square':>23}{'largest':>18}{'the choice':>12}")
    for name, rows in all_rows.items():
        if not rows:
            print(f"  {name:26} not compared: too few cells for its parameters")
            continue
        row = summary(rows)
        print(f"  {name:26}{row['within_one_step']:>10} of {row['sizes']}{row['same_length']:>8}"
              f"{row['near_error_rms']:>23.4g}{row['near_error_max']:>18.4g}{row['regret_mean']:>12.4f}")
    noise = [row["near_noise"] for rows in all_rows.values() for row in rows or [] if row["near_noise"] is not None]
    print(f"  (standard error of the measured losses there, over seeds: up to {max(noise):.4f} nats)" if noise else
          "  (the noise of the measured losses is not known from one seed)")


def nested_row(check):
    """{name: rows} of the laws that are chosen without the size left out (selection.nested), if they are there."""
    return {"nested choice of a law": check["nested"]} if check.get("nested") else {}


def print_law(found):
    """The kept law, its parameters, and what it leaves of the table."""
    names = ", ".join(f"{name} {shown(entry)}" for name, entry in found["parameters"].items())
    lack = found["lack_of_fit"][found["law"]]
    tests = ", ".join(f"{name} p = {lack[name]:.2g}" for name in LEVELS if lack[name] is not None)
    seeds = ("" if lack["seed_error"] is None else f"; by their degrees of freedom {lack['residual_error']:.4f}, "
             f"beside {lack['seed_error']:.4f} of the seeds' means")
    print(f"law kept: {found['law']} (alpha {found['alpha']}, {'bounded' if found['bounded'] else 'not bounded'}"
          f"{', with a part that does not depend on l' if found['offset'] else ''})\n"
          f"  {names}\n  l_ref {found['reference']['context_length']:.4g}, D_ref "
          f"{found['reference']['train_tokens']:.4g}; R^2 {found['r_squared']:.4f}, residuals "
          f"{found['residual_rms']:.4f} nats (root mean square){seeds}\n  lack of fit: {tests or 'cannot be tested'}")
    if found["paired"]:
        print("  the losses of a seed are high or low at all lengths together, so lengths are compared by seed")
    if found["near_laws"]:
        print(f"  laws that count beside it: {', '.join(found['near_laws'])}")


def print_sizes(found):
    """The optimum of each size, and for those asked for what each length costs against it."""
    for row in found["optima"] + found["predictions"]:
        far = f", D {row['beyond_the_sizes']:.3g} times outside the table" if row["beyond_the_sizes"] > 1 else ""
        doubt = "" if row["trusted"] else ", not trusted"
        if found["baseline"]["is_better"]:
            doubt += f"; {found['baseline']['name']}: {row['baseline_length']:g}"
        print(f"D = {row['train_tokens']:g}: optimal context length {shown_optimum(row['optimum'])}{far}, loss "
              f"{shown(row['loss'])}{doubt}")
        if row in found["predictions"] and (row["optimum"]["estimate"] or row["optimum"]["bound"]):
            for entry in row["lengths"]:
                print(f"  context {entry['context_length']:g} costs {shown(entry['cost'], 2)} nats more")


def report(found):
    """Print what was found, the verdict first."""
    print(verdict(found))
    if found["reading"] == "mean" or found["joint"]:
        print(f"reading: {NAMES[found['reading']]}{', fitted together with the other one' if found['joint'] else ''}")
    check = found.get("check", {"baselines": {}})
    print_errors("held out, one training size at a time:", {**found["candidates"], **nested_row(check),
                                                            **check["baselines"]})
    if "larger_half" in check:
        half = check["larger_half"]
        print_errors(f"fitted to the sizes {', '.join(f'{size:g}' for size in half['fitted_sizes'])} (they alone would "
                     f"keep {half['chosen_by_them'] or 'no law, being too few'}), the larger sizes:", half["rows"])
    print_law(found)
    print_sizes(found)
    if min(cell["bayes_risk"] for cell in found["cells"]) < 0:
        print("the fitted Bayes risk is below 0: this table tells the sum of the two parts, not the parts; add larger "
              "sizes")
    print(f"the optimum grows as D to the power {shown(found['exponent'], 3)}" if found["exponent"]
          else "fewer than two optima lie inside the lengths of the table, so how they grow is not told")
    if not found["trusted"]:
        print("not trusted, because:")
        for reason in all_reasons(found):
            print(f"  - {reason}")


def report_other(found):
    """Print what a fit of both readings says of full context, and what a fit of one says of the other."""
    print()
    report(found["other_reading"])
    print("\nfitted to one reading, the other but for one constant, for a constant a size (nats, root mean square):")
    for direction, row in found["carry_over"].items():
        shown_errors = (f"{name.replace('_', ' ')} {entry['one_constant']:.4f}, {entry['constant_a_size']:.4f}"
                        for name, entry in row.items())
        print(f"  {direction}: {'; '.join(shown_errors)}")
