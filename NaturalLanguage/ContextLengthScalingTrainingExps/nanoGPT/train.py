"""Train one GPT at one context length on the first tokens of a corpus, to its lowest validation loss (paper section 6).

    python train.py --context_length 256 --train_bin data/openwebtext/LONGCONTEXTSUBSET_train_P10.0_SFrom0.0.bin
    python train.py config/LONGCONTEXT_train_gpt2_5120ctl_2p0pct_small.json --train_tokens 20000000 --compile   # a GPU
    torchrun --standalone --nproc_per_node=8 train.py CONFIG

CONFIG is a JSON file of these flags (see create_config.py); flags on the command line count more, wherever they stand.
Writes OUT_DIR/TAG/ (see run.py). Started again, a finished run is skipped and an interrupted one goes on
from its last checkpoint. Cross entropies are in nats a token. Tokens per step are the same at every context length and
number of processes; batches depend on (seed, step) alone. Validation scores the same target tokens at every context
length, in windows side by side (the paper's reading: the mean over all positions of the window), and, for the best
weights, other targets, the same ones too, with exactly a context length of tokens before each (full context).
"""

import csv
import json
import math
import os
import shutil
import statistics
import sys
import time
from argparse import BooleanOptionalAction
from pathlib import Path

import torch
from tqdm import tqdm

from utils import (Parser, StopSignal, choose_device, describe_environment, fail, fraction, load_json,
                          make_directory, non_negative_float, non_negative_int, positive_int, save_json)
from model import GPT
from run import (RUN_FILES, load_checkpoint, lock, refuse_other_arguments, run_tag, save_checkpoint,
                           save_tensors)
from token_files import TokenFile
from trainer import Processes, Trainer, keep_freed_memory, peak_memory, peak_tflops

METRICS = ("step", "tokens", "epochs", "learning_rate", "train_loss", "valid_loss", "tokens_per_second", "seconds")
FORWARD_TOKENS = {"cpu": 16_384, "cuda": 61_440}  # tokens of a forward pass, where --batch_size is not given


def train(args, run_dir, trainer, on_row):
    """Train until the validation loss has turned up, or --max_iters. Returns the state of the finished run.

    On SIGTERM or SIGUSR1 the run is saved after the step that it is in, and ends by that signal.
    """
    chief = trainer.processes.rank == 0
    state = {"step": 0, "history": [], "best": None, "best_weights": None, "stopped": None, "loss_sum": 0.0,
             "seconds": 0.0, "training_seconds": 0.0}
    saved = load_checkpoint(run_dir, trainer.device)
    if saved is not None:
        state = saved["state"]
        trainer.model.load_state_dict(saved["weights"])
        trainer.optimizer.load_state_dict(saved["optimizer"])
        trainer.scaler.load_state_dict(saved["scaler"])
    n_tokens = len(trainer.windows.tokens)
    clock = saved_at = time.monotonic()
    stop = StopSignal()

    with (open(run_dir / "metrics.csv" if chief else os.devnull, "w", newline="", encoding="utf-8") as file,
          tqdm(total=args.max_iters, initial=state["step"], unit="step", desc=run_dir.name, disable=not chief) as bar):
        writer = csv.DictWriter(file, METRICS)
        writer.writeheader()
        writer.writerows(state["history"])
        while not state["stopped"]:
            step = state["step"] + 1
            began = time.monotonic()
            loss, norm = trainer.step(step)
            if not math.isfinite(loss) or not math.isfinite(norm):
                fail(f"the loss or its gradient became NaN or infinite in step {step} of {run_dir}; the checkpoint "
                     "before it is kept; lower --learning_rate and begin again with --overwrite")
            state["step"] = step
            state["loss_sum"] += loss
            state["training_seconds"] += time.monotonic() - began
            if step % args.eval_interval == 0 or step == args.max_iters:
                valid_loss = trainer.loss_by_position().mean().item()
                if not math.isfinite(valid_loss):
                    fail(f"the validation loss became NaN or infinite in step {step} of {run_dir}; the checkpoint "
                         "before it is kept; lower --learning_rate and begin again with --overwrite")
                steps = step - (state["history"][-1]["step"] if state["history"] else 0)
                row = {"step": step, "tokens": step * args.tokens_per_step,
                       "epochs": round(step * args.tokens_per_step / n_tokens, 4),
                       "learning_rate": trainer.learning_rate(step), "train_loss": state["loss_sum"] / steps,
                       "valid_loss": valid_loss,
                       "tokens_per_second": round(steps * args.tokens_per_step / state["training_seconds"]),
                       "seconds": round(state["seconds"] + time.monotonic() - clock, 2)}
                state["history"].append(row)
                state["loss_sum"] = state["training_seconds"] = 0.0
                if state["best"] is None or valid_loss < state["best"]["valid_loss"]:
                    state["best"] = row
                    state["best_weights"] = {name: value.clone() for name, value in trainer.model.state_dict().items()}
                waited = len(state["history"]) - 1 - state["history"].index(state["best"])
                state["stopped"] = "early" if waited >= args.patience else None
                if step == args.max_iters:
                    state["stopped"] = state["stopped"] or "max_iters"
                writer.writerow(row)
                file.flush()
                on_row(row)
                bar.set_postfix(train=f"{row['train_loss']:.4f}", valid=f"{valid_loss:.4f}",
                                best=f"{state['best']['valid_loss']:.4f}")
            bar.update()
            stopping = trainer.processes.any(stop.received)  # all processes end after the same step
            if chief and (stopping or state["stopped"] or time.monotonic() - saved_at >= args.checkpoint_seconds):
                now = time.monotonic()
                state["seconds"], clock = state["seconds"] + now - clock, now
                save_checkpoint(run_dir, {"state": state, "weights": trainer.model.state_dict(),
                                          "optimizer": trainer.optimizer.state_dict(),
                                          "scaler": trainer.scaler.state_dict()})
                saved_at = time.monotonic()
            if stopping:
                trainer.processes.wait()
                stop.end()
    return state


def summarise(args, state, by_position, full_context, trainer):
    """The contents of final.json: the swept arguments, both readings at the best step, and what the run cost."""
    best, device = state["best"], trainer.device
    speed = statistics.median(row["tokens_per_second"] for row in state["history"])
    flops = trainer.model.flops_per_token(args.context_length)
    peak = peak_tflops(device)
    return {
        "context_length": args.context_length, "train_tokens": args.train_tokens, "seed": args.seed,
        "best_valid_loss": best["valid_loss"], "valid_tokens": args.eval_tokens,
        "full_context_loss": full_context.mean().item(),
        "full_context_standard_error": (full_context.std() / len(full_context) ** 0.5).item(),
        "full_context_targets": len(full_context), "last_position_loss": by_position[-1].item(),
        "best_step": best["step"], "best_epochs": best["epochs"], "best_train_loss": best["train_loss"],
        "last_step": state["history"][-1]["step"], "last_valid_loss": state["history"][-1]["valid_loss"],
        "stopped": state["stopped"], "parameters": sum(p.numel() for p in trainer.parameters),
        "processes": trainer.processes.world, "tokens_per_second": speed,
        "mfu": speed * flops / (peak * 1e12 * trainer.processes.world) if peak else None,
        "peak_memory_gigabytes": round(peak_memory(device) / 1e9, 3), "seconds": round(state["seconds"], 2),
    }


def build_parser():
    parser = Parser(__doc__)
    parser.add_argument("config", nargs="?", help="JSON file of these flags (create_config.py writes one)")
    parser.add_argument("--context_length", "--block_size", type=positive_int, help="tokens of a window (needed)")
    parser.add_argument("--train_bin", help="training tokens of prepare.py (needed)")
    parser.add_argument("--val_bin", help="validation tokens (default: those beside the training tokens)")
    parser.add_argument("--train_tokens", type=positive_int, help="train on the first so many tokens (default: all)")
    parser.add_argument("--tokens_per_step", type=positive_int, default=491_520,
                        help="tokens of an optimizer step, at every context length and number of processes")
    parser.add_argument("--batch_size", type=positive_int,
                        help="windows of a forward pass of a process (default: about 16 thousand tokens, 61 on a GPU)")
    parser.add_argument("--gradient_accumulation_steps", type=positive_int,
                        help="forward passes of a step over all processes; follows from the above, checked if given")
    parser.add_argument("--n_layer", type=positive_int, default=6, help="blocks")
    parser.add_argument("--n_head", type=positive_int, default=12, help="attention heads")
    parser.add_argument("--n_embd", type=positive_int, default=768, help="width")
    parser.add_argument("--vocab_size", type=positive_int,
                        help="rows of the embedding (default: the corpus's vocabulary, up to a multiple of 64)")
    parser.add_argument("--learning_rate", type=non_negative_float, default=6e-4, help="highest, of AdamW")
    parser.add_argument("--min_lr", type=non_negative_float, default=6e-5, help="lowest, at the end of the cosine")
    parser.add_argument("--lr_decay_iters", type=positive_int, default=600_000, help="steps to the end of the cosine")
    parser.add_argument("--warmup_iters", type=non_negative_int, default=2000, help="steps of warm-up")
    parser.add_argument("--warmup_epochs", type=non_negative_float,
                        help="warm-up in passes over the training tokens instead of steps")
    parser.add_argument("--max_iters", type=positive_int, default=600_000, help="steps at most")
    parser.add_argument("--weight_decay", type=non_negative_float, default=0.1, help="of the matrices")
    parser.add_argument("--beta1", type=fraction, default=0.9, help="of AdamW")
    parser.add_argument("--beta2", type=fraction, default=0.95, help="of AdamW")
    parser.add_argument("--grad_clip", type=non_negative_float, default=1.0, help="norm of the gradient (0: no limit)")
    parser.add_argument("--eval_interval", type=positive_int, default=45, help="steps between evaluations")
    parser.add_argument("--eval_tokens", type=positive_int, default=491_520,
                        help="validation tokens scored, a multiple of every context length to be compared")
    parser.add_argument("--full_context_targets", type=positive_int, default=2048,
                        help="tokens scored with the full context, at the end")
    parser.add_argument("--patience", type=positive_int, default=5,
                        help="stop after so many evaluations without a lower validation loss")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the weights and of the batches")
    parser.add_argument("--dtype", choices=("auto", "float32", "tf32", "bfloat16", "float16"), default="auto",
                        help="of matrix products (auto: bfloat16 on a GPU, float32 on the CPU)")
    parser.add_argument("--compile", action=BooleanOptionalAction, default=False, help="compile the model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_int, help="CPU threads of a process (default: torch's choice)")
    parser.add_argument("--out_dir", default="outputs/runs", help="directory for the run's directory")
    parser.add_argument("--checkpoint_seconds", type=non_negative_float, default=60.0,
                        help="seconds between checkpoints, each at the end of a step")
    parser.add_argument("--overwrite", action=BooleanOptionalAction, default=False, help="replace a run that is there")
    parser.add_argument("--wandb", action=BooleanOptionalAction, default=False, help="log to Weights & Biases too")
    parser.add_argument("--wandb_project", default="context_length_scaling", help="its project")
    return parser


def parse_args():
    """Flags of the command line, over those of the JSON file, over the defaults."""
    parser = build_parser()
    args = parser.parse_args()
    if args.config:
        known = {action.dest for action in parser._actions} - {"help", "config"}
        config = load_json(args.config, "the configuration")
        unknown = sorted(set(config) - known) if isinstance(config, dict) else ["(no JSON object)"]
        if unknown:
            fail(f"{args.config} has {', '.join(unknown)}, which train.py does not know; see --help")
        flags = [f"--{'' if value is not False else 'no-'}{name}" + ("" if isinstance(value, bool) else f"={value}")
                 for name, value in config.items() if value is not None]
        args = parser.parse_args(flags + sys.argv[1:])
    for name in ("context_length", "train_bin"):
        if getattr(args, name) is None:
            fail(f"--{name} is needed, on the command line or in the configuration")
    if args.n_embd % args.n_head or args.n_embd // args.n_head % 4:
        fail(f"--n_embd {args.n_embd} must be a multiple of 4 x --n_head {args.n_head}: half of each head rotates in "
             "pairs")
    if args.val_bin is None:
        args.val_bin = str(Path(args.train_bin).with_name(Path(args.train_bin).name.replace("train", "val")))
    return args


def divide_batches(args, world, device):
    """Fill in or check the windows of a forward pass; exits with code 2 where tokens per step do not divide."""
    unit = args.context_length * world
    if args.tokens_per_step % unit:
        below = args.tokens_per_step // unit * unit
        fail(f"--tokens_per_step {args.tokens_per_step} is not a multiple of the context length {args.context_length} "
             f"times {world} processes; {f'{below} or ' if below else ''}{below + unit} would be")
    windows = args.tokens_per_step // unit
    if args.batch_size is None:
        most = max(1, FORWARD_TOKENS[device.type] // args.context_length)
        args.batch_size = max(size for size in range(1, min(windows, most) + 1) if windows % size == 0)
    if windows % args.batch_size:
        divisors = [str(size) for size in range(1, windows + 1) if windows % size == 0]
        fail(f"--batch_size {args.batch_size} does not divide the {windows} windows of a process in a step; "
             f"{', '.join(divisors)} would")
    passes = windows // args.batch_size * world
    if args.gradient_accumulation_steps not in (None, passes):
        fail(f"--gradient_accumulation_steps {args.gradient_accumulation_steps} does not give {args.tokens_per_step} "
             f"tokens a step with batches of {args.batch_size} x {args.context_length}; {passes} does, or leave it out")


def main():
    args = parse_args()
    if args.wandb:
        try:
            import wandb
        except ImportError:
            fail("--wandb needs the package of that name: pip install wandb")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    train_file, valid_file = TokenFile(args.train_bin, args.train_tokens), TokenFile(args.val_bin)
    if train_file.identity["tokenizer_sha256"] != valid_file.identity["tokenizer_sha256"]:
        fail(f"{args.train_bin} and {args.val_bin} have different vocabularies ({train_file.identity['tokenizer']}, "
             f"{valid_file.identity['tokenizer']}); make both with one call of prepare.py")
    args.train_tokens = len(train_file.tokens)
    args.vocab_size = args.vocab_size or math.ceil(train_file.vocabulary_size / 64) * 64
    if args.vocab_size < train_file.vocabulary_size:
        fail(f"--vocab_size {args.vocab_size} is below the corpus's vocabulary of {train_file.vocabulary_size}")
    if args.warmup_epochs is not None:
        args.warmup_iters = math.ceil(args.warmup_epochs * args.train_tokens / args.tokens_per_step)
    if args.dtype == "auto":
        args.dtype = "bfloat16" if device.type == "cuda" else "float32"
    if args.dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    divide_batches(args, int(os.environ.get("WORLD_SIZE", 1)), device)

    torch.manual_seed(args.seed)
    shape = {name: getattr(args, name) for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    model = GPT(**shape).to(device)
    processes = Processes(device)
    trainer = Trainer(args, model, train_file.tokens, valid_file.tokens, processes, device)
    run_dir = Path(args.out_dir) / run_tag(args.context_length, args.train_tokens, args.seed)
    if processes.rank == 0:
        make_directory(run_dir)
        locked = lock(run_dir)  # noqa: F841  held until the program ends
        if args.overwrite:
            for name in RUN_FILES:
                (run_dir / name).unlink(missing_ok=True)
        description = {"arguments": vars(args), "model": shape,
                       "data": {"train": train_file.identity, "valid": valid_file.identity},
                       "environment": describe_environment(device)}
        refuse_other_arguments(run_dir, description)
        if not (run_dir / "final.json").exists():
            save_json(run_dir / "args.json", description)
            shutil.copyfile(train_file.tokenizer, run_dir / "tokenizer.json")
    processes.wait()
    if (run_dir / "final.json").exists():
        result = load_json(run_dir / "final.json", "the result")
        if processes.rank == 0:
            print(f"{run_dir.name}: finished before, validation loss {result['best_valid_loss']:.4f}")
        return processes.end()

    log = None
    if args.wandb and processes.rank == 0:
        log = wandb.init(project=args.wandb_project, name=run_dir.name, config=json.loads(json.dumps(vars(args))))
    try:
        state = train(args, run_dir, trainer, (lambda row: log.log(row)) if log else lambda row: None)
    except OSError as error:
        fail(f"cannot write into {run_dir}: {error.strerror}; free some space and start again, it goes on from there")
    model.load_state_dict(state["best_weights"])
    by_position, full_context = trainer.loss_by_position(), trainer.full_context_losses()
    if processes.rank == 0:
        result = summarise(args, state, by_position, full_context, trainer)
        save_tensors(run_dir / "best.pt", state["best_weights"])
        save_tensors(run_dir / "losses.pt", {"by_position": by_position, "full_context": full_context})
        save_json(run_dir / "final.json", result)
        for name in ("ckpt_last.pt", "ckpt_prev.pt"):
            (run_dir / name).unlink(missing_ok=True)
        print(f"{run_dir.name}: validation loss {result['best_valid_loss']:.4f} (mean over the window), "
              f"{result['full_context_loss']:.4f} (full context) at step {result['best_step']}, "
              f"{result['best_epochs']:.1f} epochs")
        if log:
            log.finish()
    processes.end()


if __name__ == "__main__":
    main()
