"""Position-weighted retrieval: its samples, its model and its measures (paper Figs. 3 and 4, on synthetic data).

A sample is `n_pairs` key-value pairs and one query: the key of one pair, the gold one. The answer is that pair's value.
Only the last `visible` pairs before the query are shown. Distances are counted from the query: the last pair is at
distance 0. A gold pair at distance x is cut off, and the answer cannot be known, when x >= visible.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from run import run_tag
from transformer import QueryTransformer, systematic_sample

SAMPLES_PER_BLOCK = 1000  # samples that are drawn together: the first n samples of a seed do not depend on n
RETRIEVAL_MODEL_ARGUMENTS = ("n_pairs", "n_keys", "n_values", "width", "n_layer", "n_head", "rope_base")
PARTS = {"train": 0, "valid": 1, "test": 2, "features": 3, "batches": 4}  # what a seed's random numbers are for


def features_name(train_dataset_size, seed, gamma, visible):
    """The name of a file of hidden states, and of its row in measures.csv."""
    tag = run_tag("train_retrieval", {"train_dataset_size": train_dataset_size, "seed": seed})
    return f"{tag}_gamma{gamma:g}_visible{visible}"


def draw_samples(seed, part, n, n_pairs, n_keys, n_values):
    """n samples, a function of (seed, part) whose first ones are the same at every n.

    Returns keys (n, n_pairs), all different within a sample, values (n, n_pairs) and the gold distances (n,), uniform
    on 0 to n_pairs - 1; int64 tensors.
    """
    blocks = []
    for number in range(math.ceil(n / SAMPLES_PER_BLOCK)):
        generator = np.random.default_rng([seed, PARTS[part], number])
        keys = generator.random((SAMPLES_PER_BLOCK, n_keys)).argsort(axis=1)[:, :n_pairs]
        values = generator.integers(n_values, size=(SAMPLES_PER_BLOCK, n_pairs))
        blocks.append((keys, values, generator.integers(n_pairs, size=SAMPLES_PER_BLOCK)))
    return tuple(torch.from_numpy(np.concatenate(part)[:n]) for part in zip(*blocks))


def draw_distances(seed, n, n_pairs, gamma):
    """Gold distances int64 (n,), each as often as its weight by gamma says, to within one; a function of the seed."""
    generator = np.random.default_rng([seed, PARTS["features"]])
    order = torch.from_numpy(generator.permutation(n))
    shift = torch.tensor([generator.random()], dtype=torch.float64)
    return systematic_sample(position_weights(n_pairs, gamma), order, shift)


def position_weights(n_pairs, gamma):
    """Probability of the gold distances x = 0 ... n_pairs - 1, as (1 - x / n_pairs)^gamma: float64 (n_pairs,)."""
    weights = (1 - torch.arange(n_pairs, dtype=torch.float64) / n_pairs) ** gamma
    return weights / weights.sum()


class RetrievalModel(QueryTransformer):
    """Pairs and queries to logits (B, K, n_values) of the queries' values.

    Each pair is one position, the sum of its key's and its value's embedding; a query has the value "?". Half of each
    head's dimensions turn with the position (rotary), the others do not.
    """

    def __init__(self, n_pairs, n_keys, n_values, width, n_layer, n_head, rope_base):
        super().__init__()
        self.key_embedding = nn.Embedding(n_keys, width)
        self.value_embedding = nn.Embedding(n_values + 1, width)  # the last one is "?"
        pairs = width // n_head // 2  # of dimensions that turn together, in a head
        frequencies = torch.zeros(pairs)
        turning = (pairs + 1) // 2
        frequencies[:turning] = rope_base ** -(torch.arange(turning) / turning)
        self.add_layers(n_pairs, n_values, width, n_layer, n_head, frequencies, embedding_std=0.5)

    def features(self, keys, values, queries):
        """Hidden states (B, K, width) at the queries, after the final norm, of pairs (B, n) and queries (B, K)."""
        x = torch.cat((self.key_embedding(keys) + self.value_embedding(values),
                       self.key_embedding(queries) + self.value_embedding.weight[-1]), dim=1)
        return self.states(x, keys.shape[1])

    def forward(self, keys, values, queries):
        return self.head(self.features(keys, values, queries))


def build_retrieval_model(arguments):
    """The RetrievalModel of a run's arguments."""
    return RetrievalModel(**{name: arguments[name] for name in RETRIEVAL_MODEL_ARGUMENTS})


class TrainingSet:
    """Training samples in the order of their gold distances, and the batches that are drawn from them."""

    def __init__(self, samples, lengths, seed):
        keys, values, distances = samples
        order = distances.argsort(stable=True)
        self.keys, self.values, self.distances = keys[order], values[order], distances[order]
        self.lengths, self.seed = lengths, seed
        self.answerable = [int((distances < length).sum()) for length in lengths]  # the first so many samples

    def batch(self, step, size, unanswerable_share):
        """Keys and values (size, l), queries (size, 1) and targets (size,): a function of (seed, step) alone.

        The visible length l is uniform on the lengths. Samples are drawn with replacement, `unanswerable_share` of them
        from those whose gold pair is cut off, if there are any. Targets are class numbers; -1 for the cut off.
        """
        generator = np.random.default_rng([self.seed, PARTS["batches"], step])
        number = generator.integers(len(self.lengths))
        length, answerable = self.lengths[number], self.answerable[number]
        n_cut = round(size * unanswerable_share) if answerable < len(self.keys) else 0
        rows = torch.from_numpy(np.concatenate((
            generator.integers(answerable, size=size - n_cut),
            generator.integers(answerable, len(self.keys), size=n_cut) if n_cut else np.empty(0, np.int64))))
        rows = rows.to(self.keys.device)
        gold = self.keys.shape[1] - 1 - self.distances[rows]
        queries = self.keys[rows, gold][:, None]
        targets = self.values[rows, gold]
        targets[size - n_cut:] = -1
        return self.keys[rows, -length:], self.values[rows, -length:], queries, targets


def retrieval_loss(logits, targets):
    """Mean cross entropy (nats) of logits (B, n_values) against class numbers (B,), -1 for an answer cut off.

    Such an answer can be any value, and is drawn anew each time it is asked; its cross entropy is the mean over all
    values, which is what drawing it would give on average, and is lowest, log n_values, at the uniform distribution.
    """
    log_probabilities = F.log_softmax(logits, dim=-1)
    known = log_probabilities.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    return -torch.where(targets < 0, log_probabilities.mean(dim=1), known).mean()


@torch.no_grad()
def measure_grid(model, samples, lengths, batch_size=100, report=lambda n: None):
    """Ask every sample for each of its pairs at each visible length: one grid, from which every gamma follows.

    Returns two float64 tensors (lengths, n_pairs), by visible length and gold distance: the mean cross entropy (nats)
    of the right value, and its accuracy (whether it has the largest logit).
    """
    keys, values, _ = samples
    losses = torch.zeros(len(lengths), keys.shape[1], dtype=torch.float64, device=keys.device)
    right = torch.zeros_like(losses)
    for row, length in enumerate(lengths):
        for key, value in zip(keys.split(batch_size), values.split(batch_size)):
            logits = model(key[:, -length:], value[:, -length:], key.flip(1))  # queries by distance
            answers = value.flip(1)
            losses[row] += F.cross_entropy(logits.flatten(0, 1), answers.flatten(), reduction="none").view(
                answers.shape).sum(0, dtype=torch.float64)
            right[row] += (logits.argmax(-1) == answers).sum(0)
        report(1)
    return losses / len(keys), right / len(keys)
