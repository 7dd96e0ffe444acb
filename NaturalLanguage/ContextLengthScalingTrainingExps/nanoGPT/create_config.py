"""Write a configuration of train.py with the paper's settings (section 6), for a context length and a part of the data.

    python create_config.py --context_length 5120 --percent_name 2p0
    python train.py config/LONGCONTEXT_train_gpt2_5120ctl_2p0pct_small.json

Writes CONFIG_PATH/LONGCONTEXT_train_gpt2_{context length}ctl_{percent}pct_small.json: train.py's flags as JSON.
"""

from utils import Parser, fail, positive_int, run_main

import re
from argparse import BooleanOptionalAction
from pathlib import Path

from files import make_directory, save_json

PAPER = {"n_layer": 6, "n_head": 12, "n_embd": 768, "tokens_per_step": 491_520, "learning_rate": 6e-4, "min_lr": 6e-5,
         "warmup_iters": 2000, "lr_decay_iters": 600_000, "max_iters": 600_000, "weight_decay": 0.1, "beta1": 0.9,
         "beta2": 0.95, "grad_clip": 1.0, "eval_interval": 45, "eval_tokens": 491_520}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--context_length", type=positive_int, default=384, help="tokens of a window")
    parser.add_argument("--percent_name", default="0p1", help="part of the corpus: 2p0 is 2.0 percent")
    parser.add_argument("--start_from", default="0.0", help="where that part begins, in percent")
    parser.add_argument("--long_context", action=BooleanOptionalAction, default=True,
                        help="documents longer than 3,000 tokens, or all of them (prepare.py --min_tokens 0)")
    parser.add_argument("--data_dir", default="data/openwebtext", help="folder of the token files")
    parser.add_argument("--config_path", default="config", help="folder for the configuration")
    args = parser.parse_args()
    if not re.fullmatch(r"\d+p\d+", args.percent_name):
        fail(f"--percent_name {args.percent_name} is not like 2p0, which means 2.0 percent")
    try:
        part = f"P{float(args.percent_name.replace('p', '.'))}_SFrom{float(args.start_from)}"
    except ValueError:
        fail(f"--start_from {args.start_from} is not a number of percent")
    family, prefix = ("LONGCONTEXTSUBSET", "LONGCONTEXT_") if args.long_context else ("SUBSET", "")
    data = {name: str(Path(args.data_dir) / f"{family}_{split}_{part}.bin")
            for name, split in (("train_bin", "train"), ("val_bin", "val"))}
    path = make_directory(args.config_path) / \
        f"{prefix}train_gpt2_{args.context_length}ctl_{args.percent_name}pct_small.json"
    save_json(path, {"context_length": args.context_length, **data, **PAPER})
    print(path)


if __name__ == "__main__":
    run_main(main)
