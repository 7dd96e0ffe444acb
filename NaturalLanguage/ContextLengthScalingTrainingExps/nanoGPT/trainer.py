"""What a training run does over and over: an optimizer step, and a validation, on one process or several."""

import math
import sys
import time
from contextlib import nullcontext

import numpy as np
import torch

from documents import Documents, SequentialWindows, rows_in_order
from machine import is_out_of_memory, peak_memory
from memory import MemoryStore
from model import cross_entropies, summed_cross_entropy
from settings import divisors, estimated_seconds, steps_of_a_dry_run
from token_files import TrainingWindows, cut, full_context_starts, validation_starts
from utils import close_bars, fail

VALIDATION_ROWS = 8  # rows of text that a model with a memory is validated on, each read in order


class Trainer:
    """The model, its optimizer and its data, with the two things done to them: a step and a validation.

    end: the end-of-text token, for models that must know documents. packed: of TrainingWindows.
    """

    def __init__(self, args, model, train_tokens, valid_tokens, processes, device, end=None, packed=1):
        self.args, self.model, self.processes, self.device = args, model, processes, device
        self.store, self.documents = None, {"train": None, "valid": None}
        if model.memory is None:
            self.windows = TrainingWindows(train_tokens, args.context_length, args.seed, packed)
        else:
            rows = args.tokens_per_step // args.context_length
            self.windows = SequentialWindows(train_tokens, args.context_length, args.seed, rows)
            self.store = self.new_store(rows)
        if model.memory is not None or args.document_mask:
            self.documents = {"train": Documents(train_tokens, end), "valid": Documents(valid_tokens, end)}
        self.valid_tokens = valid_tokens
        self.valid_starts = validation_starts(valid_tokens, args.eval_tokens, args.context_length)
        self.full_starts = full_context_starts(valid_tokens, args.full_context_targets, args.context_length, packed)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": [p for p in self.parameters if p.dim() >= 2], "weight_decay": args.weight_decay},
                  {"params": [p for p in self.parameters if p.dim() < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(args.beta1, args.beta2), fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.dtype == "float16")
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(args.dtype)
        self.precision = torch.autocast(device.type, dtype) if dtype else nullcontext()
        self.hidden = torch.compile(model.hidden, dynamic=False) if args.compile else model.hidden

    def state(self):
        """What a checkpoint needs of model and optimizer."""
        state = {"weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "scaler": self.scaler.state_dict(), "batch_size": self.args.batch_size}
        return state if self.store is None else {**state, "memory": self.store.state_dict()}

    def load(self, state):
        """Go on from a state()."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        size = self.args.batch_size
        self.args.batch_size = min(size, state.get("batch_size", size))  # memory did not suffice for more
        if self.store is not None:
            self.store.load_state_dict(state["memory"])

    def new_store(self, rows):
        """An empty memory for rows of text."""
        return MemoryStore.of(self.model, rows, self.model.memory["tokens"], self.device)

    def context(self, split, starts, store=None, rows=None):
        """What the model takes beside the tokens of windows: documents apart from each other, and rows of a memory."""
        if self.documents[split] is None:
            return {}
        ids = self.documents[split].ids(starts, self.args.context_length).to(self.device)
        return ({"documents": ids} if self.args.document_mask else {}) | (
            {"store": store.segment(rows, ids)} if store is not None else {})

    def learning_rate(self, step):
        """Linear warm-up, then a cosine from --learning_rate to --min_lr; steps count from 1."""
        args = self.args
        if step <= args.warmup_iters:
            return args.learning_rate * step / (args.warmup_iters + 1)
        progress = min((step - args.warmup_iters) / max(args.lr_decay_iters - args.warmup_iters, 1), 1.0)
        return args.min_lr + (args.learning_rate - args.min_lr) * (1 + math.cos(math.pi * progress)) / 2

    def within_memory(self, compute):
        """What compute() returns; where memory does not suffice, it is called again with half the windows in a pass."""
        while True:
            try:
                return compute()
            except RuntimeError as error:
                if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    fail(f"torch.compile failed ({str(error).splitlines()[0]}); add --no-compile to do without it")
                if not is_out_of_memory(error):
                    raise
            self.halve_passes()  # behind the except clause, where the failed call holds no tensors any more

    def halve_passes(self):
        """Take the next divisor of a step's windows that is at most half of --batch_size, and say so."""
        args = self.args
        windows = args.tokens_per_step // args.context_length // self.processes.world
        if self.store is not None:
            fail(f"out of memory with {args.batch_size} windows in a pass; start again with --batch_size "
                 f"{max(1, args.batch_size // 2)}, it goes on from the last checkpoint", everywhere=True)
        if args.batch_size == 1:
            fail(f"one window of {args.context_length} tokens in a pass needs more memory than there is; choose a "
                 "smaller model, a shorter context or --dtype bfloat16", everywhere=True)
        former, args.batch_size = args.batch_size, divisors(windows, args.batch_size // 2)[-1]
        close_bars()
        print(f"out of memory with {former} windows of {args.context_length} tokens in a pass; goes on with "
              f"{args.batch_size}, as --batch_size {args.batch_size} would", file=sys.stderr, flush=True)
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def accumulate(self, windows):
        """Add the gradients of this process's windows of a step; returns their part of the step's mean loss."""
        args = self.args
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for first in range(0, len(windows), args.batch_size):
            starts = self.windows.starts(windows[first:first + args.batch_size])
            inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in
                               cut(self.windows.tokens, starts, args.context_length))
            context = self.context("train", starts, self.store, slice(first, first + len(starts)))
            with self.precision:
                states = self.hidden(inputs, **context).flatten(0, 1)
                part = summed_cross_entropy(states, self.model.output_weight, targets.flatten(),
                                            args.compile) / args.tokens_per_step
            self.scaler.scale(part).backward()
            loss += part.detach()
        return loss

    def step(self, step):
        """One optimizer step. Returns the mean loss of its tokens and the norm of the gradient, which may be NaN."""
        args = self.args
        per_step = args.tokens_per_step // args.context_length
        windows = self.processes.share(range((step - 1) * per_step, step * per_step))
        loss = self.within_memory(lambda: self.accumulate(windows))
        self.processes.sum_gradients(self.parameters)
        self.processes.sum(loss)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, args.grad_clip or math.inf)
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            return loss.item(), norm.item()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), 0.0 if self.scaler.is_enabled() else norm.item()

    @torch.no_grad()
    def batch_losses(self, starts, last_only, store=None, rows=None):
        """Losses of the windows of one pass, float64 (windows, l), or of their last target alone (windows, 1).

        Where the model is compiled, a last pass is filled up to the shape of the others, so that nothing recompiles.
        """
        missing = self.args.batch_size - len(starts) if self.args.compile else 0
        filled = np.append(starts, starts[:1].repeat(missing))
        inputs, targets = (part.to(self.device) for part in cut(self.valid_tokens, filled, self.args.context_length))
        self.model.attention.eval()
        with self.precision:
            states = self.hidden(inputs, **self.context("valid", filled, store, rows))
            if last_only:
                states, targets = states[:, -1:], targets[:, -1:]
            losses = cross_entropies(states.flatten(0, 1), self.model.output_weight, targets.flatten())
        self.model.attention.train()
        return losses.view(targets.shape)[:len(starts)].double()

    def losses(self, starts, last_only=False):
        """The batch_losses of windows, pass by pass."""
        first = 0
        while first < len(starts):
            part = self.within_memory(lambda first=first: self.batch_losses(
                starts[first:first + self.args.batch_size], last_only))
            yield part
            first += len(part)

    def losses_with_memory(self):
        """The losses of the validation windows, rows of them in order, each with the memory of those before."""
        store, size = self.new_store(VALIDATION_ROWS), self.args.batch_size
        for starts in rows_in_order(self.valid_starts, VALIDATION_ROWS):
            for first in range(0, len(starts), size):
                part = starts[first:first + size]
                yield self.within_memory(lambda part=part, first=first: self.batch_losses(
                    part, False, store, slice(first, first + len(part))))

    def loss_by_position(self):
        """Mean validation loss at each position of the window, float64 (l,), over the windows of all processes."""
        total = torch.zeros(self.args.context_length, dtype=torch.float64, device=self.device)
        in_order = self.store is not None
        for losses in self.losses_with_memory() if in_order else self.losses(self.processes.share(self.valid_starts)):
            total += losses.sum(0)
        return (self.processes.sum(total) / len(self.valid_starts)).cpu()

    def full_context_losses(self):
        """Losses of the targets of full_context_starts, each with exactly l tokens before it: float64 (targets,)."""
        share = self.processes.share(range(len(self.full_starts)))
        losses, first = torch.zeros(len(self.full_starts), dtype=torch.float64, device=self.device), share.start
        for part in self.losses(self.full_starts[first:share.stop], last_only=True):
            losses[first:first + len(part)] = part[:, 0]  # thousands of parts, kept, would break up the freed memory
            first += len(part)
        return self.processes.sum(losses).cpu()

    def seconds(self, compute):
        """How long compute() takes, from when the device has nothing to do until it has done it."""
        def synchronised():
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter()

        began = synchronised()
        compute()
        return synchronised() - began

    def cost(self):
        """What training costs, measured by a few passes: memory, seconds of a step and of an evaluation, hours."""
        args, world = self.args, self.processes.world
        tokens_per_step, of_passes = args.tokens_per_step, []
        for step, passes in enumerate((1, 1, 2), 1):  # the first one compiles, and finds the windows that memory allows
            args.tokens_per_step = passes * args.batch_size * args.context_length * world
            of_passes.append(self.seconds(lambda step=step: self.step(step)))
        args.tokens_per_step = tokens_per_step
        passes = tokens_per_step // (args.batch_size * args.context_length * world)
        step = of_passes[1] + (passes - 1) * max(of_passes[2] - of_passes[1], 0.0)
        share = self.processes.share(self.valid_starts)
        starts = (share if len(share) else self.valid_starts)[:args.batch_size]  # fewer windows than processes
        next(self.losses(starts))
        evaluation = self.seconds(lambda: next(self.losses(starts))) * len(self.valid_starts) / len(starts) / world
        cost = {"context_length": args.context_length, "train_tokens": args.train_tokens, "processes": world,
                "windows_in_a_pass": args.batch_size, "passes_in_a_step": passes * world,
                "peak_memory_gigabytes": round(peak_memory(self.device) / 1e9, 3),
                "seconds_a_step": step, "seconds_an_evaluation": evaluation}
        return {**cost, "hours": estimated_seconds(args, steps_of_a_dry_run(args), cost) / 3600}
