"""The Markdown tables of position-weighted retrieval: optima and losses over seeds, and their paired differences."""

import itertools

from position_weighting import beyond_spread, compare, cut_off_losses, interval
from readme_tables import markdown


def tables(lengths, grids, rows):
    """The Markdown tables of the results, by name; rows: those of summarise."""
    sizes, gammas = list(grids), sorted({row["gamma"] for row in rows})
    cells = {(row["train_dataset_size"], row["gamma"]): row for row in rows}
    header = ["gamma", *(f"{size:,} samples" for size in sizes)]
    over_gamma, over_size = compare(rows)
    moves = {(size, low): differences for size, low, _, differences in over_gamma}
    growth = {(gamma, small, large): differences for gamma, small, large, differences in over_size}
    steps, pairs = list(zip(gammas, gammas[1:])), list(itertools.combinations(sizes, 2))
    costs = {size: cut_off_losses(lengths, losses) for size, (_, losses) in grids.items()}
    return {
        "optimum": markdown(header, [[f"{gamma:g}", *(describe_optimum(cells[size, gamma]) for size in sizes)]
                                     for gamma in gammas]),
        "losses": markdown(header, [[f"{gamma:g}", *(describe_losses(cells[size, gamma]) for size in sizes)]
                                    for gamma in gammas]),
        "over_gamma": markdown(["gamma", *header[1:]], [
            [f"{low:g} to {high:g}", *(describe_difference(moves[size, low]) for size in sizes)]
            for low, high in steps]),
        "over_size": markdown(["gamma", *(f"{small:,} to {large:,}" for small, large in pairs)], [
            [f"{gamma:g}", *(describe_difference(growth[gamma, *pair]) for pair in pairs)] for gamma in gammas]),
        "cut_off": markdown(
            ["samples", f"{lengths[0]} visible", "mean over the lengths", "lowest, highest model and length"],
            [[f"{size:,}", f"{cost[:, 0].mean():.3f}", f"{cost.mean():.3f}", f"{cost.min():.3f}, {cost.max():.3f}"]
             for size, cost in costs.items()])}


def describe_losses(row):
    """Cross entropy at the best visible length, and by how much that with all pairs visible is higher."""
    mean, half = row["gain"]
    if row["best_length"] == row["full_length"]:
        return f"{row['cross_entropy'][0]:.3f} at {row['best_length']}"
    spread = "" if half is None else f" ± {half:.3f}"
    return f"{row['cross_entropy'][0]:.3f} at {row['best_length']}; {mean:+.3f}{spread} at {row['full_length']}"


def describe_difference(differences):
    """A paired difference over seeds with its interval, bold where it is beyond that."""
    mean, half = interval(differences)
    text = f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}")
    return f"**{text}**" if beyond_spread(differences) else text


def describe_optimum(row):
    """The optimum of a row in words: mean ± half its interval [lowest, highest seed], or that no seed has it inside."""
    mean, half = row["optimum"]
    if not row["inside"]:
        return "none inside"
    spread = "" if half is None else f" ± {half:.1f}"
    ranges = f"[{row['optima'].min():.1f}, {row['optima'].max():.1f}]"
    partly = "" if row["inside"] == row["seeds"] else f", {row['inside']} of {row['seeds']} seeds inside"
    return f"{mean:.1f}{spread} {ranges}{partly}"
