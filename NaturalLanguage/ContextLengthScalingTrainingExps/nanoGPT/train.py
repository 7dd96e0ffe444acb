"""Train one GPT at one context length on the first tokens of a corpus, to its lowest validation loss (paper section 6).

    python train.py --context_length 256 --train_bin data/openwebtext/LONGCONTEXTSUBSET_train_P10.0_SFrom0.0.bin
    python train.py config/LONGCONTEXT_train_gpt2_5120ctl_2p0pct_small.json --train_tokens 20000000             # a GPU
    torchrun --standalone --nproc_per_node=8 train.py CONFIG
    python train.py CONFIG --dry_run                             # memory and time of a step, before a long run

CONFIG is a JSON file of these flags (see create_config.py); flags on the command line count more, wherever they stand.
Writes OUT_DIR/TAG/ (see run.py). Started again, a finished run is skipped and an interrupted one goes on
from its last checkpoint. Cross entropies are in nats a token. Tokens per step are the same at every context length and
number of processes; batches depend on (seed, step) alone. Validation scores the same target tokens at every context
length, in windows side by side (the paper's reading: the mean over all positions of the window), and, for the best
weights, other targets, the same ones too, with exactly a context length of tokens before each (full context).
"""

from utils import choose_device, fail, is_first_process, run_main, say

import json
import os
import statistics

import torch

from documents import end_of_text
from long_context import compiles, make_model, refuse_other_tokenizer, refuse_what_memory_cannot
from long_context_flags import model_shape
from lora import merge
from machine import Processes, can_compile, keep_freed_memory, peak_memory, peak_tflops
from run import Run
from settings import complete, divide_batches, parse
from token_files import TokenFile
from trainer import Trainer


def train(args, run, trainer):
    """Train until the validation loss has turned up, or --max_iters."""
    for step in run.steps(trainer):
        if step == 1 and args.init_from:
            run.state["initial_valid_loss"] = trainer.loss_by_position().mean().item()
        run.log_step(*trainer.step(step))
        run.keep_if_asked(trainer)
        if step % args.eval_interval == 0 or step == args.max_iters:
            run.log_evaluation(trainer.loss_by_position().mean().item(), trainer)


def summarise(args, run, by_position, full_context, trainer):
    """The contents of final.json: the swept arguments, both readings at the best step, and what the run cost."""
    state, best, device = run.state, run.state["best"], trainer.device
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
        "stopped": state["stopped"], "parameters": sum(value.numel() for value in state["best_weights"].values()),
        "processes": trainer.processes.world, "tokens_per_second": speed,
        "mfu": speed * flops / (peak * 1e12 * trainer.processes.world) if peak else None,
        "peak_memory_gigabytes": round(peak_memory(device) / 1e9, 3), "seconds": round(run.seconds(), 2),
        **{name: state[name] for name in ("initial_valid_loss",) if name in state},  # of --init_from, before any step
    }


def prepare(args):
    """The token files, device and processes of the arguments, which are completed here."""
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    train_file, valid_file = TokenFile(args.train_bin, args.train_tokens, args.data_seed), TokenFile(args.val_bin)
    if train_file.identity["tokenizer_sha256"] != valid_file.identity["tokenizer_sha256"]:
        fail(f"{args.train_bin} and {args.val_bin} have different vocabularies ({train_file.identity['tokenizer']}, "
             f"{valid_file.identity['tokenizer']}); make both with one call of prepare.py")
    if train_file.identity["sha256"] == valid_file.identity["sha256"]:
        fail(f"{args.train_bin} and {args.val_bin} are the same tokens; validate on others")
    complete(args, len(train_file.tokens), train_file.vocabulary_size)
    refuse_other_tokenizer(args, train_file)
    if args.dtype == "auto":
        args.dtype = "bfloat16" if device.type == "cuda" else "float32"
    if args.dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    if args.compile is None:
        args.compile = can_compile(device) and compiles(model_shape(args))
    divide_batches(args, int(os.environ.get("WORLD_SIZE", 1)), device)
    return train_file, valid_file, Processes(device)


def start_wandb(args, run, wandb):
    """Log the rows of a run to Weights & Biases too, if its module is given; returns what ends the log."""
    if wandb is None or not is_first_process():
        return lambda: None
    log = wandb.init(project=args.wandb_project, name=run.directory.name, config=json.loads(json.dumps(vars(args))))
    run.on_row = log.log
    return log.finish


def main():
    args, wandb = parse(__doc__), None
    if args.wandb:
        try:
            import wandb
        except ImportError:
            fail("--wandb needs the package of that name: pip install wandb")
    train_file, valid_file, processes = prepare(args)
    shape = model_shape(args)
    refuse_what_memory_cannot(args, shape, processes)
    model = make_model(args, shape, processes.device)
    trainer = Trainer(args, model, train_file.tokens, valid_file.tokens, processes, processes.device,
                      end_of_text(train_file), train_file.about.get("window", 1))
    if args.dry_run:
        cost = trainer.cost()
        if is_first_process():
            print(json.dumps(cost))
        return processes.end()

    with Run(args, train_file, valid_file, shape, processes) as run:
        if result := run.result():
            say(f"{run.directory.name}: finished before, validation loss {result['best_valid_loss']:.4f}")
            return processes.end()
        end_log = start_wandb(args, run, wandb)
        try:
            train(args, run, trainer)
        except OSError as error:
            fail(f"cannot write into {run.directory}: {error.strerror}; free some space and start again, it goes on "
                 "from there")
        model.load_state_dict(run.state["best_weights"])
        by_position, full_context = trainer.loss_by_position(), trainer.full_context_losses()
        if is_first_process():
            run.state["best_weights"] = merge(run.state["best_weights"])
            result = summarise(args, run, by_position, full_context, trainer)
            run.finish(result, by_position, full_context)
            say(f"{run.directory.name}: validation loss {result['best_valid_loss']:.4f} (mean over the window), "
                f"{result['full_context_loss']:.4f} (full context) at step {result['best_step']}, "
                f"{result['best_epochs']:.1f} epochs")
        end_log()
    processes.end()


if __name__ == "__main__":
    run_main(main)
