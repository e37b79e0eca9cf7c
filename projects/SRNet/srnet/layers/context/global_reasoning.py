"""Global reasoning unit of GloRe (Chen et al., CVPR 2019)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels
from ..precision import wide_matmul


class GlobalReasoning(nn.Module):
    """Project the positions onto the nodes of a graph, convolve there, and project back.

    ``y = x + norm(W_e Z^T B)`` with ``V = B phi(x)^T / (H W)`` and ``Z = ReLU((I + A) V) W_g``, as
    in the authors' code, which puts a ReLU and a bias where the paper's Eq. 4,
    ``(I - A_g) V W_g``, has none. B = theta(x) (N nodes x H W) and phi(x) (S states x H W) are 1x1
    convolutions, as is W_e. The mean over the positions, not the sum of Eq. 2: it is valid from
    training crops to full images and does not overflow fp16. The scale of the norm starts at zero,
    so a fresh module is the identity; where the norm learns none (FrozenBN), W_e does.

    Args:
        channels: C, the channels of the map.
        reduction: N = C / reduction nodes of S = 2 N states; 4 in the authors' models.
        norm: makes the norm from C. Batch norm cannot train on one map of one position.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        num_nodes = divide_channels(channels, reduction)
        num_states = 2 * num_nodes
        self.phi = nn.Conv2d(channels, num_states, 1)
        self.theta = nn.Conv2d(channels, num_nodes, 1)
        self.adjacency = nn.Conv1d(num_nodes, num_nodes, 1)
        self.weight = nn.Linear(num_states, num_states, bias=False)
        self.extend = nn.Conv2d(num_states, channels, 1, bias=False)
        self.norm = norm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the module the identity; the other weights keep PyTorch's own start."""
        scale = getattr(self.norm, "weight", None)
        nn.init.zeros_(scale if isinstance(scale, nn.Parameter) else self.extend.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the graph reasons to a (N, C, H, W) map."""
        theta, phi = self.theta(x).flatten(2), self.phi(x).flatten(2)
        nodes = wide_matmul(theta, phi.transpose(1, 2)) / theta.shape[2]
        nodes = nodes.to(theta.dtype)
        nodes = self.weight(F.relu(nodes + self.adjacency(nodes)))
        states = torch.matmul(nodes.transpose(1, 2), theta)
        return x + self.norm(self.extend(states.unflatten(2, x.shape[2:])))
