"""Global context block of GCNet (Cao et al., ICCV workshops 2019)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels
from ..precision import wide_matmul, widen


class GlobalContext(nn.Module):
    """Add one vector, attended from all positions, to every position.

    ``y_i = x_i + W_2 ReLU(LN(W_1 sum_j softmax_j(w x_j) x_j))`` (Fig. 4d there): the non-local
    block with one attention map for all queries. ``W_2`` starts at zero, so a fresh module is the
    identity.

    Args:
        channels: C, the channels of the map.
        reduction: the transform maps C -> C / reduction -> C; 16 is GCNet's "r16".

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        self.mask = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Linear(channels, reduced)
        self.norm = nn.LayerNorm(reduced)
        self.expand = nn.Linear(reduced, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the module the identity; the other weights keep PyTorch's own start."""
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the attended mean (N, C) over its positions."""
        weights = widen(self.mask(x).flatten(2)).softmax(dim=2)
        return wide_matmul(x.flatten(2), weights.transpose(1, 2)).squeeze(2).to(x.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the global context to a (N, C, H, W) map."""
        vector = self.expand(F.relu(self.norm(self.reduce(self.pool(x)))))
        return x + vector[:, :, None, None].to(x.dtype)
