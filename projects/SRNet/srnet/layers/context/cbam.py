"""Convolutional Block Attention Module, CBAM (Woo et al., ECCV 2018)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels
from ..precision import mean_over_positions


class CBAM(nn.Module):
    """Gate the channels, then the positions.

    Channel gate (Eq. 2 there): ``sigmoid(MLP(mean(x)) + MLP(max(x)))``, both over the positions,
    with one two-layer MLP. Spatial gate (Eq. 3): ``sigmoid(conv([mean(x), max(x)]))``, both over
    the channels. The convolution has a norm and no bias, as in the authors' code; the equation has
    none.

    Args:
        channels: C, the channels of the map.
        reduction: the MLP maps C -> C / reduction -> C.
        kernel_size: of the spatial gate, odd; 7 in the paper.
        norm: makes the norm of the spatial gate's single channel. Batch norm cannot train on one
            map of one position.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``, or ``kernel_size`` is even.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be a positive odd number")
        self.reduce = nn.Linear(channels, reduced)
        self.expand = nn.Linear(reduced, channels)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = norm(1)

    def channel_gate(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the gates (N, C, 1, 1) of its channels."""
        pooled = torch.stack([mean_over_positions(x).to(x.dtype), x.amax((2, 3))])
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(pooled))).sum(0))
        return gate[:, :, None, None].to(x.dtype)

    def spatial_gate(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the gates (N, 1, H, W) of its positions."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.norm(self.conv(pooled))).to(x.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels and then the positions of a (N, C, H, W) map."""
        x = x * self.channel_gate(x)
        return x * self.spatial_gate(x)
