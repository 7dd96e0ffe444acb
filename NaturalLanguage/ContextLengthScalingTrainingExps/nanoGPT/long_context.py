"""What train.py builds from the flags of a long context (long_context_flags.py): a model, new or from another run."""

from pathlib import Path

import torch

from files import load_tensors
from long_context_flags import described
from lora import add_lora
from model import GPT, INIT_STD
from utils import fail


def compiles(shape):
    """Whether torch.compile is for this model: a memory and dilated attention call kernels of their own."""
    return "memory" not in shape and shape.get("attention", {}).get("kind") != "dilated"


def refuse_what_memory_cannot(args, shape, processes):
    """Exit with code 2 where a memory is combined with what it does not support."""
    if "memory" in shape:
        for flag, given in (("--dry_run", args.dry_run), ("--compile", args.compile)):
            if given:
                fail(f"a model with a memory does not take {flag}; leave it out")
        if processes.world > 1:
            fail("a model with a memory trains in one process; its rows would be lost with the other processes")


def make_model(args, shape, device):
    """The model with its first weights: random, or those of --init_from, with LoRA if wanted."""
    torch.manual_seed(args.seed)
    model = GPT(**shape, init_std=args.init_std or INIT_STD)
    if args.init_from:
        weights = load_tensors(Path(args.init_from) / "best.pt", "the weights")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        wrong = [name for name in missing if ".memory." not in name] + unexpected
        if wrong:
            fail(f"the weights of {args.init_from} are of another model: {', '.join(wrong[:3])}")
    if args.lora_rank:
        add_lora(model, args.lora_rank, args.trainable or ())
    return model.to(device)


def refuse_other_tokenizer(args, train_file):
    """Exit with code 2 if the tokens are not in the vocabulary of the run of --init_from."""
    if args.init_from:
        former = described(args.init_from)["data"]["train"]
        if former["tokenizer_sha256"] != train_file.identity["tokenizer_sha256"]:
            fail(f"{args.train_bin} and the run {args.init_from} have different tokenizers; prepare the tokens with "
                 "the run's")
