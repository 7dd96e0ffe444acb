"""Texts that go on from one cached beginning, side by side in a single row of a model: each sees the beginning and
itself. The beginning's keys and values exist once, however many texts there are."""

import torch

ALL, NONE = -1, -2  # whose a slot of the cache is, beside the numbers of the texts


def windows(config):
    """{window or None: "sliding_attention" or "full_attention"} of a model's layers, or None where a layer keeps
    something else than keys and values of tokens, or sees a part of them that is no window."""
    from transformers.cache_utils import DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
    config, found = config.get_text_config(decoder=True), {}
    if not set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}:
        return None
    if "local" in (getattr(config, "attention_layers", None) or ()):  # GPT-Neo masks these by itself
        return None
    for layer in DynamicCache(config=config).layers:
        if type(layer) is DynamicSlidingWindowLayer:
            found[layer.sliding_window] = "sliding_attention"
        elif type(layer) is DynamicLayer:
            found[None] = "full_attention"
        elif type(layer) is not DummyLayer:  # which uses the keys of another layer
            return None
    return found


def can_pack(model):
    """Whether a model lets its caller say which tokens see which, and at what positions they are."""
    import inspect
    attention = model.config.get_text_config(decoder=True)._attn_implementation
    return (attention in ("sdpa", "eager") and "position_ids" in inspect.signature(model.forward).parameters
            and bool(windows(model.config)))


def beginning(model, ids):
    """The cache of the tokens ids; also layers that see a window keep all of them."""
    from transformers import DynamicCache
    cache = DynamicCache()
    model(torch.tensor([ids]).to(model.device), past_key_values=cache, use_cache=True)
    return cache


class Packed:
    """Texts behind the beginning in `cache`, which is as before when the `with` ends."""

    def __init__(self, model, cache):
        self.model, self.cache, self.length = model, cache, cache.get_seq_length()
        self.windows = windows(model.config)
        self.owner, self.position = torch.full((self.length,), ALL), torch.arange(self.length)  # of each slot

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cache.crop(self.length - self.cache.get_seq_length())

    def feed(self, more):
        """Logits (1, tokens, vocabulary) of the tokens that texts go on with: {number of the text: ids}."""
        owner = torch.tensor([text for text, ids in more.items() for _ in ids])
        position = torch.cat([self.length + int((self.owner == text).sum()) + torch.arange(len(ids))
                              for text, ids in more.items()])
        self.owner, self.position = torch.cat([self.owner, owner]), torch.cat([self.position, position])
        distance = position[:, None] - self.position
        seen = ((self.owner == owner[:, None]) | (self.owner == ALL)) & (distance >= 0)
        masks = {}
        for window, name in self.windows.items():
            hidden = ~seen if window is None else ~(seen & (distance < window))
            mask = torch.zeros(hidden.shape, dtype=self.model.dtype)
            mask = mask.masked_fill(hidden, torch.finfo(self.model.dtype).min)
            masks[name] = mask[None, None].to(self.model.device)
        ids = torch.tensor([[token for ids in more.values() for token in ids]])
        return self.model(ids.to(self.model.device), position_ids=position[None].to(self.model.device),
                          attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
                          past_key_values=self.cache, use_cache=True).logits

    def forget(self, lengths):
        """Let no text see its last tokens, as many as `lengths` says for each."""
        for text, length in enumerate(lengths):
            slots = (self.owner == text).nonzero()[:, 0]
            self.owner[slots[len(slots) - length:]] = NONE
