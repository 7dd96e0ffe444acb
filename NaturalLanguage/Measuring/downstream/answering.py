"""What a model makes of prompts: the cross entropy of the right answer under teacher forcing, and greedy answers.

Prompts that share their beginning (questions about one context) share its computation: keys and values of the common
tokens are computed once and all the prompts go on from them at once. Prompts whose contexts are cut differently on the
left share nothing behind the cut, since every hidden state depends on all tokens before it.
"""

from functools import cached_property

import torch

from downstream.packing import Packed, beginning, can_pack
from scorer import out_of_memory
from utils import fail, say

OF_TEXT_LENGTH = {"dynamic", "longrope"}  # kinds of rotary positions whose frequencies depend on how long the text is
LEAST_SHARED = 0.5  # of the prompts, from which on sharing pays


def common_length(prompts):
    """How many tokens all prompts begin with, at most all but one of the shortest."""
    shortest = min(prompts, key=len)
    for index, token in enumerate(shortest[:-1]):
        if any(prompt[index] != token for prompt in prompts):
            return index
    return len(shortest) - 1


def rotary_kinds(config):
    """The kinds of a model's rotary positions, which may differ between its layers."""
    parameters = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    return {part.get("rope_type") for part in (parameters, *parameters.values()) if isinstance(part, dict)}


def scores(logits, target, state):
    """(losses of the target's tokens float64, how many are the likeliest, state on the CPU) by their logits (tokens,
    vocabulary)."""
    right = torch.tensor(target, device=logits.device)
    losses = torch.nn.functional.cross_entropy(logits.float(), right, reduction="none").double().cpu()
    return losses, int((logits.argmax(dim=-1) == right).sum()), state.float().cpu()


class Answering:
    """A model with the batching of its prompts: at most tokens_per_batch tokens at once, fewer when memory runs out."""

    def __init__(self, model, tokenizer, tokens_per_batch=16_384, share=True):
        from transformers import GenerationConfig
        self.model, self.tokens_per_batch = model, tokens_per_batch
        self.stateful = bool(getattr(model, "_is_stateful", False))  # a recurrent state: no padding
        self.alone = bool(rotary_kinds(model.config) & OF_TEXT_LENGTH)  # other prompts would change the frequencies
        self.share = share
        self.end = model.generation_config.eos_token_id
        if self.end is None:
            self.end = tokenizer.eos_token_id
        first_end = self.end[0] if isinstance(self.end, list) else self.end
        self.pad = next(token for token in (tokenizer.pad_token_id, first_end, 0) if token is not None)
        model.generation_config = GenerationConfig(do_sample=False, num_beams=1, use_cache=True, eos_token_id=self.end,
                                                   pad_token_id=self.pad)  # no penalties of the model's own
        self.ends = set(self.end if isinstance(self.end, list) else [self.end])
        self.wanted, self.states = None, None
        output_layer = model.get_output_embeddings()
        if output_layer is None:
            fail(f"{type(model).__name__} has no output layer to score answers with; give a causal language model")
        output_layer.register_forward_pre_hook(self.keep_wanted)

    @cached_property
    def shares(self):
        """Whether prompts share their beginning: where that is wanted and a trial shows that it changes nothing."""
        if not self.share:
            return False
        if not self.stateful and not self.alone and can_pack(self.model) and self.try_sharing():
            return True
        say(f"{type(self.model).__name__} cannot share the computation of a context: each question reads its own")
        return False

    def try_sharing(self):
        """Whether hidden states before an answer are the same with and without a shared beginning, to within the
        number format."""
        size = self.model.get_input_embeddings().weight.shape[0]
        common = [index * 7 % size for index in range(1, 33)]
        prompts, targets = [[*common, 1], [*common, 2 % size, 3 % size, 1]], [[1], [1]]
        try:
            shared = self.answer_shared(prompts, targets, 0, self.prefill(common))
        except (RuntimeError, ValueError, TypeError, NotImplementedError):  # a model that takes no such masks
            return False
        for prompt, target, (_, _, state, _) in zip(prompts, targets, shared):
            (_, _, alone), = self.score([prompt + target], [target])
            if (state - alone).norm() > torch.finfo(self.model.dtype).eps**0.5 * alone.norm():
                return False
        return True

    def keep_wanted(self, _, inputs):
        """Let only the positions `wanted` (rows, positions) through the output layer, if they are set."""
        if self.wanted is None:
            return None
        hidden = inputs[0]
        index = self.wanted.to(hidden.device)[:, :, None].expand(-1, -1, hidden.shape[-1])
        self.states = hidden.gather(1, index)
        return (self.states, *inputs[1:])

    def score(self, rows, targets):
        """`scores` of each target; rows: prompts with their targets behind them. Padding is on the right, where a
        causal model's earlier positions cannot see it."""
        ids = torch.full((len(rows), max(map(len, rows))), self.pad)
        wanted = torch.zeros(len(rows), max(map(len, targets)), dtype=torch.int64)
        for index, (row, target) in enumerate(zip(rows, targets)):
            ids[index, :len(row)] = torch.tensor(row)
            first = len(row) - len(target) - 1
            wanted[index, :len(target)] = torch.arange(first, first + len(target))
        logits, states = self.call_for(wanted, lambda: self.model(ids.to(self.model.device), use_cache=False).logits)
        return [scores(logits[index, :len(target)], target, states[index, 0]) for index, target in enumerate(targets)]

    def call_for(self, wanted, function):
        """What a call of the model returns when only the positions `wanted` go through the output layer, and their
        hidden states."""
        self.wanted = wanted
        try:
            return function(), self.states
        finally:
            self.wanted = self.states = None

    def generate(self, prompts, new_tokens):
        """Token ids of the greedy answer to each prompt, without its end."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.pad)
        mask = torch.zeros_like(ids)
        for index, prompt in enumerate(prompts):
            ids[index, width - len(prompt):] = torch.tensor(prompt)
            mask[index, width - len(prompt):] = 1
        answers = self.model.generate(ids.to(self.model.device), attention_mask=mask.to(self.model.device),
                                      max_new_tokens=new_tokens)[:, width:].tolist()
        return [self.without_end(answer) for answer in answers]

    def without_end(self, answer):
        return answer[:next((index for index, token in enumerate(answer) if token in self.ends), None)]

    def answer_batch(self, prompts, targets, new_tokens):
        """As `answer`, for one batch."""
        if self.alone:  # the frequencies of a longer prompt stay until a text of the trained length comes
            self.prefill([self.pad])
        scored = self.score([prompt + target for prompt, target in zip(prompts, targets)], targets)
        answers = self.generate(prompts, new_tokens) if new_tokens else [None] * len(prompts)
        return [(*entry, answer) for entry, answer in zip(scored, answers)]

    def answer_shared(self, prompts, targets, new_tokens, cache):
        """As `answer`, for prompts whose beginning is in the cache."""
        with Packed(self.model, cache) as packed:
            rows = [prompt[packed.length:] + target for prompt, target in zip(prompts, targets)]
            wanted, behind = [], 0
            for row, target in zip(rows, targets):
                behind += len(row)
                wanted += range(behind - len(target) - 1, behind - 1)
            logits, states = self.call_for(torch.tensor([wanted]), lambda: packed.feed(dict(enumerate(rows))))
            sizes = list(map(len, targets))
            parts, states = logits[0].split(sizes), states[0].split(sizes)
            scored = [scores(*entry, state[0]) for *entry, state in zip(parts, targets, states)]
            answers = [None] * len(prompts)
            if new_tokens:
                packed.forget(sizes)
                answers = self.go_on(packed, [int(part[0].argmax()) for part in parts], new_tokens)
        return [(*entry, answer) for entry, answer in zip(scored, answers)]

    def go_on(self, packed, first, new_tokens):
        """Greedy answers that begin with these tokens, without their ends."""
        answers, last = [[token] for token in first], dict(enumerate(first))
        for _ in range(new_tokens - 1):
            last = {text: token for text, token in last.items() if token not in self.ends}
            if not last:
                break
            likeliest = packed.feed({text: [token] for text, token in last.items()})[0].argmax(dim=-1).tolist()
            last = dict(zip(last, likeliest))
            for text, token in last.items():
                answers[text].append(token)
        return [self.without_end(answer) for answer in answers]

    def size(self, lengths, shared, longest_answer):
        """Tokens of a batch of prompts of these lengths: padded to one width, or behind what they share."""
        if shared:
            return shared + sum(length - shared + 2 * longest_answer for length in lengths)
        return len(lengths) * (max(lengths) + longest_answer)

    def split(self, members, prompts, shared, longest_answer):
        """Lists of members that are within the token budget, or of one."""
        batch = []
        for index in members:
            lengths = [len(prompts[other]) for other in [*batch, index]]
            fits = not self.alone and (not self.stateful or len(set(lengths)) == 1)
            if batch and (not fits or self.size(lengths, shared, longest_answer) > self.tokens_per_batch):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def groups(self, prompts, contexts):
        """Yield (indices of prompts, how many first tokens they share): those of a context, at last all the others."""
        by_context, others = {}, []
        for index, context in enumerate(contexts):
            by_context.setdefault(context, []).append(index)
        for members in by_context.values():
            shared = common_length([prompts[index] for index in members]) if len(members) > 1 and self.shares else 0
            if shared > LEAST_SHARED * max(len(prompts[index]) for index in members):
                yield members, shared
            else:
                others += members
        yield others, 0

    def prefill(self, ids):
        """The cache of the tokens ids, without their logits."""
        return self.call_for(torch.zeros(1, 1, dtype=torch.int64), lambda: beginning(self.model, ids))[0]

    @torch.inference_mode()
    def answer(self, prompts, targets, contexts, new_tokens=0, answered=frozenset()):
        """Yield (indices, their results) as they are computed; a result is what follows.

        losses      float64, cross entropy in nats of each token of the right answer, given the prompt and those before
        hits        how many of them are the likeliest token
        state       float32 (width,), the hidden state before the answer, as the output layer gets it
        answer      token ids of the greedy answer, None if no new tokens are asked for
        prompts, targets: lists of token ids; contexts: prompts with the same one may share their beginning; answered:
        indices that are not needed. Batches are those of all prompts, since another batch rounds otherwise; one that is
        needed in part is computed whole.
        """
        longest = max([new_tokens, *map(len, targets)])
        waiting = list(range(len(prompts)))
        while waiting:
            done = set()
            try:
                for group, shared in self.groups([prompts[index] for index in waiting],
                                                 [contexts[index] for index in waiting]):
                    cache, group = None, [waiting[index] for index in group]
                    for chosen in self.split(group, prompts, shared, longest):
                        if answered.issuperset(chosen):
                            continue
                        parts = [prompts[index] for index in chosen], [targets[index] for index in chosen], new_tokens
                        if shared:
                            cache = cache or self.prefill(prompts[chosen[0]][:shared])
                            yield chosen, self.answer_shared(*parts, cache)
                        else:
                            yield chosen, self.answer_batch(*parts)
                        done.update(chosen)
                return
            except (RuntimeError, torch.OutOfMemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1:
                    fail(f"out of memory with a prompt of {len(prompts[chosen[0]])} tokens; use shorter samples, "
                         "--dtype bfloat16, or --device_map auto on several GPUs", everywhere=True)
                half = chosen[:len(chosen) // 2]
                self.tokens_per_batch = self.size([len(prompts[index]) for index in half], shared, longest)
                say(f"out of memory with {len(chosen)} prompts at once, going on with {len(half)}")
                cache = None
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            waiting = [index for index in waiting if index not in done]
