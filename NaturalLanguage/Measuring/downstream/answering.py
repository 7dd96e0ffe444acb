"""What a model makes of prompts: the cross entropy of the right answer under teacher forcing, and greedy answers.

Prompts that share their beginning (questions about one context) share its computation: keys and values of the common
tokens are computed once, and batches of the prompts go on from copies of them. Prompts whose contexts are cut
differently on the left share nothing behind the cut, since every hidden state depends on all tokens before it.
"""

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


def shifted(states, gaps):
    """Keys or values (1, heads, tokens, width) as a row for each gap (rows, heads, tokens, width): its first `gap` are
    zeros, and as many of the last are left out."""
    if not any(gaps):
        return states.expand(len(gaps), -1, -1, -1)
    rows, tokens = states.new_zeros(len(gaps), *states.shape[1:]), states.shape[2]
    for row, gap in zip(rows, gaps):
        row[:, gap:] = states[0, :, :tokens - gap]
    return rows


def can_copy(config):
    """Whether a model of this configuration caches keys and values of tokens and nothing else."""
    from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
    known = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)  # dummy: the layer uses the keys of another
    return all(type(layer) in known for layer in DynamicCache(config=config).layers)


class Answering:
    """A model with the batching of its prompts: at most tokens_per_batch tokens at once, fewer when memory runs out."""

    def __init__(self, model, tokenizer, tokens_per_batch=16_384, share=True):
        self.model, self.tokens_per_batch = model, tokens_per_batch
        self.stateful = bool(getattr(model, "_is_stateful", False))  # a recurrent state: no padding, no branches
        self.share = share and not self.stateful and can_copy(model.config)
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

    def forward(self, rows, targets, cache=None):
        """Per row: (losses of its target tokens, how many are the likeliest, hidden state before the first).

        rows: prompts with their targets behind them, less the first tokens, which are in the cache. Padding is on the
        right, where a causal model's earlier positions cannot see it.
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
        """The cache of the tokens ids, without any logits; also layers that see a window keep all of them here."""
        from transformers import DynamicCache
        cache = DynamicCache()
        self.wanted = torch.zeros(1, 1, dtype=torch.int64)
        try:
            self.model(torch.tensor([ids]).to(self.model.device), past_key_values=cache, use_cache=True)
        finally:
            self.wanted = self.states = None
        return cache

    def copies(self, cache, gaps):
        """A cache with a row for each gap, as the model makes it for itself, of the one row of `cache` (see
        `shifted`)."""
        from transformers import DynamicCache
        rows = DynamicCache(config=self.model.config)
        for index, layer in enumerate(cache.layers):
            if layer.keys is not None:
                rows.update(shifted(layer.keys, gaps), shifted(layer.values, gaps), index)
        return rows

    def generate(self, prompts, new_tokens, cache=None):
        """Token ids of the greedy answer to each prompt, without its end; `cache` holds their common beginning.

        Padding is on the left of everything, so that all tokens of a row stand side by side, as layers that see a
        window need it: in a row that is shorter by n tokens the cached ones begin n later, and its last n cached
        tokens are computed again.
        """
        from transformers import GenerationConfig
        width = max(map(len, prompts))
        gaps = [width - len(prompt) for prompt in prompts]
        ids = torch.tensor([[self.pad] * gap + prompt for gap, prompt in zip(gaps, prompts)])
        mask = (torch.arange(width) >= torch.tensor(gaps)[:, None]).long()
        config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, num_beams=1, eos_token_id=self.end,
                                  pad_token_id=self.pad, use_cache=True)
        options = {} if cache is None else {"past_key_values": self.copies(cache, gaps)}
        answers = self.model.generate(ids.to(self.model.device), attention_mask=mask.to(self.model.device),
                                      generation_config=config, **options)[:, width:].tolist()
        ends = set(self.end if isinstance(self.end, list) else [self.end])
        return [answer[:next((index for index, token in enumerate(answer) if token in ends), None)]
                for answer in answers]

    def answer_batch(self, prompts, targets, new_tokens, shared=0, cache=None):
        """As `answer`, for one batch, the first `shared` tokens of whose prompts are in the cache."""
        rows = [prompt[shared:] + target for prompt, target in zip(prompts, targets)]
        scored = self.forward(rows, targets, self.copies(cache, [0] * len(rows)) if shared else None)
        answers = self.generate(prompts, new_tokens, cache) if new_tokens else [None] * len(prompts)
        return [(*entry, answer) for entry, answer in zip(scored, answers)]

    def batches(self, prompts, contexts, longest_answer):
        """Yield ([indices of prompts that are computed at once, ...], how many first tokens all of them share)."""
        by_context = {}
        for index, context in enumerate(contexts):
            by_context.setdefault(context, []).append(index)
        waiting = []
        for members in by_context.values():
            shared = common_length([prompts[index] for index in members]) if len(members) > 1 and self.share else 0
            longest = max(len(prompts[index]) for index in members)
            if shared > LEAST_SHARED * longest:
                rows = max(1, self.tokens_per_batch // (longest + longest_answer))
                yield [members[first:first + rows] for first in range(0, len(members), rows)], shared
            else:
                waiting += members
        batch = []
        for index in waiting:
            width = max(len(prompts[other]) for other in [*batch, index]) + longest_answer
            equal = not self.stateful or not batch or len(prompts[index]) == len(prompts[batch[0]])
            if batch and (not equal or width * (len(batch) + 1) > self.tokens_per_batch):
                yield [batch], 0
                batch = []
            batch.append(index)
        if batch:
            yield [batch], 0

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
                for batches, shared in self.batches(*subset, longest):
                    cache = None
                    for members in batches:
                        chosen = [waiting[index] for index in members]
                        parts = [prompts[index] for index in chosen], [targets[index] for index in chosen]
                        if shared and cache is None:
                            cache = self.prefill(parts[0][0][:shared])
                        yield chosen, self.answer_batch(*parts, new_tokens, shared, cache)
                        done.update(chosen)
                return
            except (RuntimeError, torch.OutOfMemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1:
                    fail(f"out of memory with a prompt of {len(prompts[chosen[0]])} tokens; use shorter samples, "
                         "--dtype bfloat16, or --device_map auto on several GPUs")
                self.tokens_per_batch = len(chosen) // 2 * (max(map(len, parts[0])) + longest)
                say(f"out of memory with {len(chosen)} prompts at once, going on with {len(chosen) // 2}")
                cache = None
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            waiting = [index for index in waiting if index not in done]
