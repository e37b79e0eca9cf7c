"""Reasoning over the K nodes of a squeezed feature vector: the choices of Table III.

Li et al., Towards Efficient Scene Understanding via Squeeze Reasoning, IEEE TIP 2021, section
III-B.2. Every module maps the nodes G^T of shape (N, K, d) to the same shape; the paper writes the
transpose, G as a (d x K) matrix. The dimension N may be missing.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class GraphReasoning(nn.Module):
    """Graph convolution over learned edges, Eq. 5: ``activation(W_g G (I - A_g))``.

    Args:
        num_nodes: K, the nodes of the fully connected graph.
        node_dim: d, the channels of a node.
        activation: what Eq. 5 calls sigma; the paper takes ReLU.
    """

    def __init__(self, num_nodes: int, node_dim: int, *, activation: nn.Module | None = None):
        super().__init__()
        self.adjacency = nn.Parameter(torch.empty(num_nodes, num_nodes))
        self.weight = nn.Parameter(torch.empty(node_dim, node_dim))
        self.activation = nn.ReLU() if activation is None else activation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start both as PyTorch starts the 1x1 convolutions that they are in the paper."""
        for matrix in (self.adjacency, self.weight):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Map (N, K, d) nodes to (N, K, d)."""
        nodes = F.linear(nodes, self.weight)
        return self.activation(nodes - torch.matmul(self.adjacency.t(), nodes))


class SelfAttentionReasoning(nn.Module):
    """Self-attention over the nodes, Eq. 6: ``ReLU(rho(G) [phi(G)^T theta(G)])``, with no softmax.

    Args:
        num_nodes: unused, the correlation matrix is computed; it keeps the signatures of this file
            alike.
        node_dim: d, the channels of a node.
    """

    def __init__(self, num_nodes: int, node_dim: int):
        super().__init__()
        self.query = nn.Linear(node_dim, node_dim, bias=False)
        self.key = nn.Linear(node_dim, node_dim, bias=False)
        self.value = nn.Linear(node_dim, node_dim, bias=False)

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Map (N, K, d) nodes to (N, K, d)."""
        correlation = torch.matmul(self.query(nodes), self.key(nodes).transpose(-2, -1))
        return F.relu(torch.matmul(correlation.transpose(-2, -1), self.value(nodes)))


class FullyConnectedReasoning(nn.Module):
    """The two fully connected layers of SE (Hu et al., CVPR 2018) on the whole vector.

    Args:
        num_nodes: K.
        node_dim: d; the layers map K d -> K d / 16 -> K d, with SE's ReLU between them and its
            sigmoid after.
    """

    def __init__(self, num_nodes: int, node_dim: int):
        super().__init__()
        channels = num_nodes * node_dim
        self.reduce = nn.Linear(channels, max(channels // 16, 1))
        self.expand = nn.Linear(max(channels // 16, 1), channels)

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Map (N, K, d) nodes to (N, K, d)."""
        vector = self.expand(F.relu(self.reduce(nodes.flatten(-2))))
        return torch.sigmoid(vector).view_as(nodes)


class NoReasoning(nn.Identity):
    """The nodes as they are: Table III's first rows, which only squeeze."""


REASONINGS = {
    "none": NoReasoning,
    "fc": FullyConnectedReasoning,
    "gcn": GraphReasoning,
    "sa": SelfAttentionReasoning,
}
