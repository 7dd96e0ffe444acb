"""The loss of a target token and the hidden state that predicts it, for any causal language model of transformers."""

import sys

import torch

from hub import from_pretrained
from positions import stretch
from utils import fail, say

MOST_ROWS = 256  # chunks at once: each needs a row of logits, as long as the vocabulary
NO_LIMIT = 10**9  # tokens from which a configuration's number is none that was meant


def load_config(name, rope_scaling=None, rope_factor=None):
    """The model's configuration; rope_scaling and rope_factor change its rotary positions (positions.py)."""
    from transformers import AutoConfig
    config = from_pretrained(AutoConfig, name)
    if rope_scaling is not None:
        stretch(config, name, rope_scaling, rope_factor)
    elif rope_factor is not None:
        fail("--rope_factor needs --rope_scaling")
    return config


def longest_context(config):
    """Tokens that the model can see by its configuration, or None if it names no limit.

    Some name none by -1 (XLNet) or by a number that no text reaches; and dynamic positions follow any length.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or not 0 < limit < NO_LIMIT:
        return None
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") == "dynamic":
        return None
    return max(limit, int((rotary.get("original_max_position_embeddings") or limit) * (rotary.get("factor") or 1)))


def choose_dtype(name, device):
    """--dtype as a torch.dtype: "auto" is bfloat16 on a GPU and float32 on the CPU."""
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    return getattr(torch, name)


def load_model(name, config, dtype, device, device_map=None):
    """The model, ready to score; device_map "auto" spreads it over the GPUs (needs accelerate)."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    options = {"device_map": device_map} if device_map else {}
    model = from_pretrained(AutoModelForCausalLM, name, config=config, dtype=dtype, **options)
    return (model if device_map else model.to(device)).eval()


def out_of_memory(error):
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


class Scorer:
    """Scores target tokens with a model.

    Only the last position goes through the output layer: a hook cuts the layer's input, the final hidden states, so
    that whatever a model does before and after (norms, soft caps, scales) is done by its own code.
    """

    def __init__(self, model, layer=None, tokens_per_batch=16_384):
        self.model, self.layer, self.tokens_per_batch = model, layer, tokens_per_batch
        self.state = None
        output_layer = model.get_output_embeddings()
        if output_layer is None:
            fail(f"{type(model).__name__} has no output layer to score tokens with; give a causal language model")
        output_layer.register_forward_pre_hook(self.keep_last)

    def keep_last(self, _, inputs):
        self.state = inputs[0][:, -1:]
        return (self.state, *inputs[1:])

    @torch.inference_mode()
    def score_batch(self, tokens):
        """Losses float64 (n,) in nats and hidden states float32 (n, width), on the CPU, of tokens (n, l + 1)."""
        tokens = tokens.to(self.model.device, torch.int64)
        outputs = self.model(tokens[:, :-1], use_cache=False, output_hidden_states=self.layer is not None)
        logits = outputs.logits[:, -1].float()
        losses = torch.nn.functional.cross_entropy(logits, tokens[:, -1].to(logits.device), reduction="none")
        state = self.state if self.layer is None else outputs.hidden_states[self.layer]
        self.state = None
        if state.ndim != 3 or state.shape[0] != len(tokens):
            fail(f"--layer {self.layer}: {type(self.model).__name__} has there a state of shape {tuple(state.shape)}, "
                 "not (chunks, tokens, width); take another layer, or leave --layer out")
        return losses.double().cpu(), state[:, -1].float().cpu()

    def rows(self, context_length):
        """Chunks at once at this context length."""
        return max(1, min(MOST_ROWS, self.tokens_per_batch // context_length))

    def score(self, tokens, features=True, progress=lambda n: None):
        """The same for any number of rows, in batches of the token budget, which halves when memory runs out."""
        context_length, start = tokens.shape[1] - 1, 0
        losses, states = [], []
        while start < len(tokens):
            rows = self.rows(context_length)
            try:
                loss, state = self.score_batch(tokens[start:start + rows])
            except (RuntimeError, torch.OutOfMemoryError) as error:
                if not out_of_memory(error):
                    raise
                if rows == 1:
                    fail(f"out of memory with a single chunk of {context_length} tokens; use fewer tokens, --dtype "
                         "bfloat16, or --device_map auto on several GPUs", everywhere=True)
                self.tokens_per_batch = rows // 2 * context_length
                say(f"out of memory with {rows} chunks of {context_length} tokens, going on with {rows // 2}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            losses.append(loss)
            states += [state] if features else []
            start += rows
            progress(len(loss))
        return torch.cat(losses), torch.cat(states) if features else None
