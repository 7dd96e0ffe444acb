"""Memory of keys and values of earlier text, searched for the neighbours of each query (Memorizing Transformers).

A row of a batch reads its text in order, a segment (window) at a time. One block remembers the keys and values of the
segments before, up to a number of tokens, the oldest dropped first; a query attends to its nearest remembered keys of
the same document, and a gate for each head mixes the result with the local attention. The search is exact.
Shapes: R rows, H heads, T positions, D = width of a head, M remembered tokens, k neighbours.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


SCORES_AT_ONCE = 2 ** 24  # of a search: 64 MB
EMPTY = -1  # the document of a remembered token that is not there


class MemoryStore:
    """What R rows remember: keys and values (R, H, M, D), the newest last, and the document of each token (R, M)."""

    def __init__(self, rows, n_head, width, tokens, device="cpu"):
        self.keys = torch.zeros(rows, n_head, tokens, width, device=device)
        self.values = torch.zeros_like(self.keys)
        self.documents = torch.full((rows, tokens), EMPTY, device=device)

    @classmethod
    def of(cls, model, rows, tokens, device):
        """An empty memory of so many tokens for rows of text that a GPT reads."""
        return cls(rows, model.n_head, model.embedding.embedding_dim // model.n_head, tokens, device)

    def segment(self, rows, documents):
        """The store of some rows (a slice) for their next segment, whose tokens are of `documents` (len(rows), T)."""
        part = object.__new__(MemoryStore)
        part.keys, part.values, part.documents = self.keys[rows], self.values[rows], self.documents[rows]
        part.current = documents
        return part

    def search(self, query, neighbours):
        """Indices of the nearest keys of each query (R, H, T, D), by inner product: int64 (R, H, T, k), best first.

        Keys of another document come last; `of_document` tells them.
        """
        k, (R, H, T, _) = min(neighbours, self.keys.shape[2]), query.shape
        found = torch.empty(R, H, T, k, dtype=torch.int64, device=query.device)
        step = max(1, SCORES_AT_ONCE // (H * self.keys.shape[2]))
        with torch.no_grad(), torch.autocast(query.device.type, enabled=False):  # which would round the keys
            for row in range(R):
                for first in range(0, T, step):
                    part = slice(first, first + step)
                    scores = query[row, :, part].float() @ self.keys[row].mT  # (H, step, M)
                    others = self.documents[row] != self.current[row, part, None]
                    found[row, :, part] = scores.masked_fill(others, -torch.inf).topk(k, -1).indices
        return found

    def gather(self, indices):
        """Keys and values (R, H, T, k, D) at indices, and whether each is of its query's document (R, H, T, k)."""
        R, H, tokens, D = self.keys.shape
        rows = torch.arange(R, device=indices.device).view(R, 1, 1, 1)
        heads = torch.arange(H, device=indices.device).view(1, H, 1, 1)
        flat = ((rows * H + heads) * tokens + indices).flatten()
        keys, values = (x.view(-1, D).index_select(0, flat).view(*indices.shape, D) for x in (self.keys, self.values))
        known = self.documents.view(-1).index_select(0, (rows * tokens + indices).flatten()).view(indices.shape)
        of_document = known == self.current[:, None, :, None]
        return keys, values, of_document

    @torch.no_grad()
    def add(self, keys, values):
        """Remember a segment's keys and values (R, H, T, D); what is not of its last document is forgotten."""
        tokens = self.keys.shape[2]
        for stored, new in ((self.keys, keys), (self.values, values)):
            stored.copy_(torch.cat((stored, new.to(stored.dtype)), 2)[:, :, -tokens:])
        self.documents.copy_(torch.cat((self.documents, self.current), 1)[:, -tokens:])
        self.documents[self.documents != self.current[:, -1:]] = EMPTY

    def state_dict(self):
        return {"keys": self.keys, "values": self.values, "documents": self.documents}

    def load_state_dict(self, state):
        for name, value in state.items():
            getattr(self, name).copy_(value)


class MemoryAttention(nn.Module):
    """What a block with a memory adds to its local attention: normalised queries and keys, and the gated memory.

    The cosines count a learned factor times, which begins at the root of the width: between random directions the
    scores then vary as much as those of an ordinary attention at first, so that it is not sharp before it has learned.
    """

    def __init__(self, n_head, width, neighbours=32):
        super().__init__()
        self.neighbours = neighbours
        self.log_scale = nn.Parameter(torch.full((n_head,), math.log(width) / 2))
        self.gate = nn.Parameter(torch.zeros(n_head))  # through a sigmoid: the share of the memory

    def normalise(self, query, key):
        """Queries and keys (R, H, T, D) of length 1; queries times what makes scores the scaled cosines."""
        scale = self.log_scale.exp()[:, None, None] * math.sqrt(query.shape[-1])  # attention divides by the root
        return (F.normalize(query.float(), dim=-1) * scale).to(query.dtype), F.normalize(key, dim=-1).to(query.dtype)

    def forward(self, local, query, key, value, store):
        """Mix the local attention (R, H, T, D) with the memory's, then remember this segment.

        A query whose document is not in the memory keeps the local attention. Gradients reach the query, the scale and
        the gate; what is remembered is constant.
        """
        keys, values, of_document = store.gather(store.search(query, self.neighbours))
        known = of_document.any(-1, keepdim=True)
        with torch.autocast(query.device.type, enabled=False):  # in float32
            scores = (query.float()[..., None, :] @ keys.mT)[..., 0, :] / math.sqrt(query.shape[-1])  # (R, H, T, k)
            weights = scores.masked_fill(~of_document & known, -torch.inf).softmax(-1)
            remembered = (weights[..., None, :] @ values)[..., 0, :].to(local.dtype)
        store.add(key.detach(), value.detach())
        gate = (torch.sigmoid(self.gate)[:, None, None] * known).to(local.dtype)
        return gate * remembered + (1 - gate) * local
