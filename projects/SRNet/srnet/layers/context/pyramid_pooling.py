"""Pyramid pooling of PSPNet (Zhao et al., CVPR 2017), also the context of the DF-Seg baseline."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn


class PyramidPooling(nn.Module):
    """Pool the map into grids, project each, and fuse them with the map.

    Args:
        channels: C, the channels of the map.
        out_channels: channels of each projected grid and of the result; a quarter of C as in DF-Seg
            by default.
        bins: the sides of the square grids.
        kernel_size: of the convolution that fuses them: 1 in DF-Seg, 3 in PSPNet.
        norm: makes the norm after each convolution from its channels.

    Shape:
        (N, C, H, W) -> (N, out_channels, H, W)
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        bins: Sequence[int] = (1, 2, 3, 6),
        kernel_size: int = 1,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.out_channels = out_channels or channels // 4
        if self.out_channels < 1:
            raise ValueError(f"channels={channels} is too few: a quarter of it must remain")
        self.bins = tuple(bins)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, self.out_channels, 1, bias=False), norm(self.out_channels)
            )
            for _ in self.bins
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(
                channels + len(self.bins) * self.out_channels,
                self.out_channels,
                kernel_size,
                padding=kernel_size // 2,
                bias=False,
            ),
            norm(self.out_channels),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fuse a (N, C, H, W) map with what its grids hold."""
        grids = [x]
        for bins, stage in zip(self.bins, self.stages, strict=True):
            grid = stage(F.adaptive_avg_pool2d(x, bins))
            grids.append(
                F.interpolate(grid, size=x.shape[2:], mode="bilinear", align_corners=False)
            )
        return self.fuse(torch.cat(grids, dim=1))
