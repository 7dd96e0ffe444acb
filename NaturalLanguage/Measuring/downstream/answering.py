"""What a model makes of prompts: the cross entropy of the right answer under teacher forcing, and greedy answers.

Prompts that share their beginning (questions about one context) share its computation: keys and values of the common
tokens are computed once and each prompt goes on from them. Prompts whose contexts are cut differently on the left share
nothing behind the cut, since every hidden state depends on all tokens before it.
"""

import copy

import torch

from scorer import out_of_memory
from utils import fail, say

LEAST_SHARED = 0.5  # of the prompts, from which on sharing pays


def common_length(prompts):
    """How many tokens all prompts begin with, at most all but one of the shortest."""
    shortest = min(prompts, key=len)
    for index, token in enumerate(shortest[:-1]):
        if any(prompt[index] != token for prompt in prompts):
            return index
    return len(shortest) - 1


def branch(cache):
    """A cache that can grow without changing this one; layers of transformers' dynamic cache never write in place."""
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    return grown


class Answering:
    """A model with the batching of its prompts: at most tokens_per_batch tokens at once, fewer when memory runs out."""

    def __init__(self, model, tokenizer, tokens_per_batch=16_384, share=True):
        self.model, self.tokens_per_batch = model, tokens_per_batch
        self.stateful = bool(getattr(model, "_is_stateful", False))  # a recurrent state: no padding, no branches
        self.share = share and not self.stateful
        self.end = model.generation_config.eos_token_id
        if self.end is None:
            self.end = tokenizer.eos_token_id
        first_end = self.end[0] if isinstance(self.end, list) else self.end
        self.pad = next(token for token in (tokenizer.pad_token_id, first_end, 0) if token is not None)
        self.wanted, self.states = None, None
        output_layer = model.get_output_embeddings()
        if output_layer is None:
            fail(f"{type(model).__name__} has no output layer to score answers with; give a causal language model")
        output_layer.register_forward_pre_hook(self.keep_wanted)

    def keep_wanted(self, _, inputs):
        """Let only the positions `wanted` (rows, positions) through the output layer, if they are set."""
        if self.wanted is None:
            return None
        hidden = inputs[0]
        index = self.wanted.to(hidden.device)[:, :, None].expand(-1, -1, hidden.shape[-1])
        self.states = hidden.gather(1, index)
        return (self.states, *inputs[1:])

    def forward(self, rows, targets, skipped=0, cache=None):
        """Per row: (losses of its target tokens, how many are the likeliest, hidden state before the first).

        rows: prompts with their targets behind them, less the `skipped` first tokens, which are in the cache. Padding
        is on the right, where a causal model's earlier positions cannot see it.
        """
        ids = torch.full((len(rows), max(map(len, rows))), self.pad)
        wanted = torch.zeros(len(rows), max(map(len, targets)), dtype=torch.int64)
        for index, (row, target) in enumerate(zip(rows, targets)):
            ids[index, :len(row)] = torch.tensor(row)
            first = len(row) - len(target) - 1
            wanted[index, :len(target)] = torch.arange(first, first + len(target))
        self.wanted = wanted
        try:
            logits = self.model(ids.to(self.model.device), past_key_values=cache, use_cache=cache is not None).logits
        finally:
            self.wanted = None
        logits, states = logits.float(), self.states[:, 0].float().cpu()
        self.states = None
        found = []
        for index, target in enumerate(targets):
            mine, right = logits[index, :len(target)], torch.tensor(target, device=logits.device)
            losses = torch.nn.functional.cross_entropy(mine, right, reduction="none").double().cpu()
            found.append((losses, int((mine.argmax(dim=-1) == right).sum()), states[index]))
        return found

    def prefill(self, ids):
        """The cache of the tokens ids, without any logits."""
        from transformers import DynamicCache
        cache = DynamicCache(config=self.model.config)
        self.wanted = torch.zeros(1, 1, dtype=torch.int64)
        try:
            self.model(torch.tensor([ids]).to(self.model.device), past_key_values=cache, use_cache=True)
        finally:
            self.wanted = self.states = None
        return cache

    def generate(self, prompts, new_tokens, cache=None):
        """Token ids of the greedy answer to each prompt, without its end; `cache` holds the beginning of a single
        one."""
        from transformers import GenerationConfig
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.pad)
        mask = torch.zeros_like(ids)
        for index, prompt in enumerate(prompts):
            ids[index, width - len(prompt):] = torch.tensor(prompt)
            mask[index, width - len(prompt):] = 1
        config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, num_beams=1, eos_token_id=self.end,
                                  pad_token_id=self.pad, use_cache=True)
        options = {} if cache is None else {"past_key_values": cache}
        answers = self.model.generate(ids.to(self.model.device), attention_mask=mask.to(self.model.device),
                                      generation_config=config, **options)[:, width:].tolist()
        ends = set(self.end if isinstance(self.end, list) else [self.end])
        return [answer[:next((index for index, token in enumerate(answer) if token in ends), None)]
                for answer in answers]

    def answer_shared(self, prompts, targets, shared, new_tokens):
        """As `answer`, for prompts whose first `shared` tokens are the same."""
        cache, found = self.prefill(prompts[0][:shared]), []
        for prompt, target in zip(prompts, targets):
            scored, = self.forward([prompt[shared:] + target], [target], shared, branch(cache))
            found.append((*scored, self.generate([prompt], new_tokens, branch(cache))[0] if new_tokens else None))
        return found

    def answer_batch(self, prompts, targets, new_tokens):
        """As `answer`, for one batch."""
        scored = self.forward([prompt + target for prompt, target in zip(prompts, targets)], targets)
        answers = self.generate(prompts, new_tokens) if new_tokens else [None] * len(prompts)
        return [(*entry, answer) for entry, answer in zip(scored, answers)]

    def batches(self, prompts, contexts, longest_answer):
        """Lists of indices of prompts that are computed at once, and how many first tokens each of them shares."""
        by_context = {}
        for index, context in enumerate(contexts):
            by_context.setdefault(context, []).append(index)
        waiting = []
        for members in by_context.values():
            shared = common_length([prompts[index] for index in members]) if len(members) > 1 and self.share else 0
            if shared > LEAST_SHARED * max(len(prompts[index]) for index in members):
                yield members, shared
            else:
                waiting += members
        batch = []
        for index in waiting:
            width = max(len(prompts[other]) for other in [*batch, index]) + longest_answer
            equal = not self.stateful or not batch or len(prompts[index]) == len(prompts[batch[0]])
            if batch and (not equal or width * (len(batch) + 1) > self.tokens_per_batch):
                yield batch, 0
                batch = []
            batch.append(index)
        if batch:
            yield batch, 0

    @torch.inference_mode()
    def answer(self, prompts, targets, contexts, new_tokens=0):
        """Yield (indices, their results) as they are computed; a result is what follows.

        losses      float64, cross entropy in nats of each token of the right answer, given the prompt and those before
        hits        how many of them are the likeliest token
        state       float32 (width,), the hidden state before the answer, as the output layer gets it
        answer      token ids of the greedy answer, None if no new tokens are asked for
        prompts, targets: lists of token ids; contexts: prompts with the same one may share their beginning.
        """
        longest = max([new_tokens, *map(len, targets)])
        waiting = list(range(len(prompts)))
        while waiting:
            subset = [prompts[index] for index in waiting], [contexts[index] for index in waiting]
            done = set()
            try:
                for members, shared in self.batches(*subset, longest):
                    chosen = [waiting[index] for index in members]
                    parts = [prompts[index] for index in chosen], [targets[index] for index in chosen]
                    if shared:
                        results = self.answer_shared(*parts, shared, new_tokens)
                    else:
                        results = self.answer_batch(*parts, new_tokens)
                    yield chosen, results
                    done.update(chosen)
                return
            except (RuntimeError, torch.OutOfMemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1 or shared:
                    fail(f"out of memory with a prompt of {len(prompts[chosen[0]])} tokens; use shorter samples, "
                         "--dtype bfloat16, or --device_map auto on several GPUs")
                self.tokens_per_batch = len(chosen) // 2 * (max(map(len, parts[0])) + longest)
                say(f"out of memory with {len(chosen)} prompts at once, going on with {len(chosen) // 2}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            waiting = [index for index in waiting if index not in done]
