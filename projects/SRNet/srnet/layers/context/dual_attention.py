"""Position and channel attention of DANet (Fu et al., CVPR 2019)."""

import torch
from torch import nn

from ..channels import check_channels, divide_channels
from ..precision import wide_matmul
from .attention import as_map, as_positions, attend


class PositionAttention(nn.Module):
    """Attend from each position to all: ``alpha sum_i softmax_i(B_i^T C_j) D_i`` (Eq. 1 and 2).

    The term that is added to the map; ``alpha`` is a learned number that starts at zero.

    Args:
        channels: C, the channels of the map and of D.
        reduction: B and C have C / reduction channels.

    Shape:
        (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self, channels: int, *, reduction: int = 8):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        self.query = nn.Conv2d(channels, reduced, 1)
        self.key = nn.Conv2d(channels, reduced, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to what position attention adds to it."""
        maps = (self.query(x), self.key(x), self.value(x))
        query, key, value = (as_positions(m) for m in maps)
        return self.alpha * as_map(attend(query, key, value), x)


class ChannelAttention(nn.Module):
    """Attend from each channel to all: ``beta sum_i softmax_i(-A_i^T A_j) A_i``.

    The term that is added to the map; ``beta`` is a learned number that starts at zero. Eq. 3
    there has a plus in the softmax; the authors' code subtracts each dot product from the largest,
    which is a minus (a softmax does not see the constant) and favours the channels that are unlike.
    Theirs are the published results, so the minus stays.

    Shape:
        (N, C, H, W) -> (N, C, H, W)
    """

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to what channel attention adds to it."""
        channels = x.flatten(2)
        affinity = wide_matmul(channels, channels.transpose(1, 2))
        attended = torch.matmul((-affinity).softmax(dim=2).to(x.dtype), channels)
        return self.beta * attended.view_as(x)


class DualAttention(nn.Module):
    """Position attention and channel attention side by side, summed with the map.

    DANet puts 3x3 convolutions before and after each of the two and adds the map in both; the head
    around this module has the convolutions, and the map is added once. A fresh module is the
    identity. fvcore counts the position attention with ``FLOP_HANDLES``.

    Args:
        channels: C, the channels of the map.
        reduction: queries and keys of the position attention have C / reduction channels.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 8):
        super().__init__()
        check_channels(channels)
        self.position = PositionAttention(channels, reduction=reduction)
        self.channel = ChannelAttention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add both attentions to a (N, C, H, W) map."""
        return x + self.position(x) + self.channel(x)
