"""The networks of train_model.py: the two of the paper's first version (section 4), and the ICLR version's."""

import torch
from torch import nn

from transformer import SampleTransformer


class MLP(nn.Module):
    """Visible bits and control bits -> H -> H/2 -> H -> 1, without an activation after the H/2 layer.

    The paper's width is H = 400. Inputs: bits (B, context_length) and control (B, n_tasks) one-hot, both float32.
    Output: logits (B,).
    """

    def __init__(self, context_length, n_tasks, hidden_size=400, output_size=1):
        super().__init__()
        bottleneck = max(hidden_size // 2, 1)
        self.features = nn.Sequential(
            nn.Linear(context_length + n_tasks, hidden_size),
            nn.LeakyReLU(0.0015),
            nn.Linear(hidden_size, bottleneck),
        )
        self.head = nn.Sequential(
            nn.Linear(bottleneck, hidden_size),
            nn.LeakyReLU(0.0015),
            nn.Linear(hidden_size, output_size),
        )

    def context_features(self, bits, control):
        """Hidden states (B, H/2) of the layer without an activation; they depend on the active subtask."""
        return self.features(torch.cat([bits, control], dim=1))

    def forward(self, bits, control):
        return self.head(self.context_features(bits, control)).squeeze(1)


class BiMLP(nn.Module):
    """Visible bits -> 400 -> 80 = the context feature; context feature and control bits -> 200 -> 1.

    The context feature cannot see which subtask is active, so it must carry every answer that it can compute: its
    intrinsic dimension is the number of visible subtasks (paper Fig. 18). Inputs and output as for MLP.
    """

    def __init__(self, context_length, n_tasks, task_hidden_size=400, next_size=80, next_hidden_size=200,
                 output_size=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(context_length, task_hidden_size),
            nn.LeakyReLU(0.001),
            nn.Linear(task_hidden_size, next_size),
        )
        self.head = nn.Sequential(
            nn.Linear(next_size + n_tasks, next_hidden_size),
            nn.LeakyReLU(0.001),
            nn.Linear(next_hidden_size, output_size),
        )

    def context_features(self, bits, control=None):
        """Context features (B, next_size); the control bits are not looked at."""
        return self.features(bits)

    def forward(self, bits, control):
        return self.head(torch.cat([self.context_features(bits), control], dim=1)).squeeze(1)


# The arguments that each network takes beside context_length and n_tasks.
NETWORKS = {
    "mlp": (MLP, ("hidden_size", "output_size")),
    "bi_mlp": (BiMLP, ("task_hidden_size", "next_size", "next_hidden_size", "output_size")),
    "transformer": (SampleTransformer, ("width", "n_layer", "n_head")),
}


def build_model(settings, context_length, n_tasks):
    """Build the network that `settings` (the arguments of train_model.py, as a dictionary) describe."""
    network, names = NETWORKS[settings["model"]]
    return network(context_length, n_tasks, **{name: settings[name] for name in names})
