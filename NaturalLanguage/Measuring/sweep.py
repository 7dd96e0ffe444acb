"""Measure several causal language models, one after another or as an array of Slurm, and draw them together.

    python sweep.py MODEL [MODEL ...]               # measure those that are not, then draw; measure.sh does this
    python sweep.py --submit MODEL [MODEL ...]      # on a cluster: an array of those that are not, then --collect
    python sweep.py --collect MODEL [MODEL ...]     # the figures with all that are measured; names the missing
    python sweep.py MODEL --n_samples=5000 -- --source text --text_files "my texts/*.txt" --percent 100

The flags of prepare_data.py stand behind ` -- ` or, quoted as in a shell, in the environment variable DATA; CHUNKS
holds flags such as --window 513 --stride 64. FEATURE_LENS, SEQ_LENS, N_SAMPLES, DRAWS, OUT, DEVICE, DEVICE_MAP and
EXCLUDE are the defaults of the flags so called. A model is measured if its final.json says so with these very settings
and texts, on as many chunks or more.
"""

from utils import available_cores, fail, run_main

import sys
from pathlib import Path

from jobs import Cell, add_modes, dispatch, from_environment, run_script, visible_gpus
from pipeline import is_done, model_command, model_directory, parse, pipeline_parser, script
from settings import exclusion, measurement_name, refuse_unknown_owners


def draw(args, directories):
    """All figures of the measurements in these directories, into OUT_DIR/figures."""
    flags = ["--results", *directories, "--out_dir", Path(args.out_dir) / "figures"]
    names = [Path(directory).name for directory in directories]
    excluded = [word for word in args.exclude if word.rpartition(":")[0] in ("", *names)]
    for name, more in (("draw_CE_vs_context.py", []), ("draw_CE_vs_entropy.py", ["--exclude", *excluded]),
                       ("draw_CEvsPCA/draw_IntrinsicDim.py", []), ("draw_CEvsPCA/draw_SumLogEigval.py", [])):
        run_script(script(name), *flags, *more)


def collect(args):
    """Draw the models that are measured and name the others; returns an exit code."""
    measured = [model for model in args.models if is_done(args, model)]
    missing = [measurement_name(model) for model in args.models if model not in measured]
    if measured:
        draw(args, [model_directory(args, model) for model in measured])
    if missing:
        print(f"missing: {' '.join(missing)}", file=sys.stderr)
    return int(bool(missing))


def main():
    parser = pipeline_parser(__doc__)
    parser.add_argument("models", nargs="+", metavar="model", help="hub names or directories of causal language models")
    parser.add_argument("--exclude", type=exclusion, nargs="*", default=from_environment("EXCLUDE", "", exclusion),
                        help="context lengths to draw but not to fit; NAME:LENGTH of the model NAME alone")
    add_modes(parser)
    args = parse(parser, sys.argv[1:])
    names = [measurement_name(model) for model in args.models]
    refuse_unknown_owners(args.exclude, names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        fail(f"two of the models are called {twice[0]} and would share a directory; give each another --out_dir")
    cells = [Cell(name, model_command(args, model), lambda model=model: is_done(args, model))
             for name, model in zip(names, args.models)]
    here = not (args.submit or args.collect or args.missing or args.cell is not None)
    if here and len(cells) == 1:  # on the terminal, not into a log
        run_script(*cells[0].command)
    else:
        dispatch(args, cells, "measure.sh", lambda: collect(args), Path(args.out_dir) / "logs",
                 cores_per_run=available_cores(), gpus_per_run=max(1, len(visible_gpus())))
    if here:
        raise SystemExit(collect(args))


if __name__ == "__main__":
    run_main(main)
