"""Measure one causal language model, from a corpus to its measures: cross entropy, hidden states, spectra, entropies.

    python measure_model.py path/to/model -- --source text --text_files "my texts/*.txt" --percent 100
    python measure_model.py meta-llama/Llama-3.1-8B --feature_lens 8 32 128 512 --n_samples 5000

Runs prepare_data.py (with the flags behind `--`), save_mid_features.py, evaluate_CE.py and measure_entropy.py, each of
which does what is missing; with several GPUs each measures a part of the chunks. Writes OUT_DIR/data/NAME and
OUT_DIR/NAME, there at the end final.json: the settings, the model's and the texts' identity, and how many chunks were
measured. sweep.py does it for several models.
"""

from utils import run_main

import sys

from files import save_json
from jobs import run_script
from pipeline import measured_chunks, model_directory, parse, pipeline_parser, request_of, steps


def main():
    parser = pipeline_parser(__doc__)
    parser.add_argument("model", help="hub name or directory of a causal language model")
    args = parse(parser, sys.argv[1:])
    directory, request = model_directory(args, args.model), request_of(args, args.model)
    for command in steps(args, args.model):
        run_script(*command)
    save_json(directory / "final.json", {"request": request, "n_samples": measured_chunks(args, args.model)})
    print(f"{args.model}: measured -> {directory}")


if __name__ == "__main__":
    run_main(main)
