"""Asymmetric pyramid non-local block, APNB of ANN (Zhu et al., ICCV 2019)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels
from ..image_random import ImageDropout
from ..initialization import zero_parameters
from .attention import as_map, as_positions, attend


class AsymmetricPyramidNonLocal(nn.Module):
    """Attend from each position to the cells of a few coarse grids instead of to all positions.

    Queries and keys are one 1x1 convolution with norm and ReLU, values another; keys and values
    are averaged over the cells of the grids, S = 110 of them for sides 1, 3, 6 and 8. The attended
    values, ``softmax(Q K^T / sqrt(key channels)) V`` (section 3.2 there), pass a 1x1 convolution
    that starts at zero and are fused with the map by another, with norm, ReLU and dropout.

    So published, with half the channels in keys and values, the module has 0.92 M parameters and
    9.01 GFLOPs at 512 channels; 10.2 G if the shared convolution is run once for the queries and
    once for the keys, as the authors' code does, which is near Table IV's 10.41 G. The fusion alone
    has 0.52 M parameters, and no natural width gives the table's 0.68 M. fvcore counts the
    attention with ``FLOP_HANDLES``.

    Args:
        channels: C, the channels of the map.
        reduction: queries, keys and values have C / reduction channels.
        bins: the sides of the square grids.
        dropout: probability that a channel of the result is zeroed in training.
        norm: makes the norms from their channels. Batch norm cannot train on one map of one
            position.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``, or ``bins`` is empty.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        bins: Sequence[int] = (1, 3, 6, 8),
        dropout: float = 0.05,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        if not bins or min(bins) < 1:
            raise ValueError(f"bins={tuple(bins)} must be one or more positive numbers")
        self.bins = tuple(bins)
        self.key = nn.Sequential(nn.Conv2d(channels, reduced, 1), norm(reduced), nn.ReLU())
        self.value = nn.Conv2d(channels, reduced, 1)
        self.projection = nn.Conv2d(reduced, channels, 1)
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            norm(channels),
            nn.ReLU(),
            ImageDropout(dropout, channels=True),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start without attention; the other weights keep PyTorch's own start."""
        zero_parameters(self.projection)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Average a map (N, P, H, W) over the cells of all grids: (N, S, P)."""
        return torch.cat([as_positions(F.adaptive_avg_pool2d(x, side)) for side in self.bins], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fuse a (N, C, H, W) map with what its positions attend to."""
        key = self.key(x)
        query = as_positions(key)
        attended = attend(
            query, self.pool(key), self.pool(self.value(x)), scale=query.shape[2] ** -0.5
        )
        return self.fuse(torch.cat([self.projection(as_map(attended, x)), x], dim=1))
