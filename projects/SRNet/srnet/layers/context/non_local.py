"""Non-local block, embedded Gaussian form (Wang et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import nn

from .attention import as_map, as_positions, attend
from .projections import projections


class NonLocal(nn.Module):
    """Add to each position a mean over all positions, weighted by their similarity to it.

    ``z_i = x_i + W_z sum_j softmax_j(theta(x_i)^T phi(x_j)) g(x_j)`` (Eq. 2, 4 and 6 there); the
    four maps are 1x1 convolutions. ``W_z`` starts at zero, so a fresh module is the identity; the
    batch norm that the paper's video models have after it is left out. 0.53 M parameters and 48.32
    GFLOPs at 512 channels (Table IV: 0.53 M, 48.36 G). fvcore counts the attention with
    ``FLOP_HANDLES``.

    Args:
        channels: C, the channels of the map.
        reduction: theta, phi and g have C / reduction channels.
        subsample: max-pool phi and g over 2 x 2 positions, the paper's trick that quarters the
            pairs; an odd border row or column is kept.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 2, subsample: bool = False):
        super().__init__()
        self.subsample = subsample
        self.theta, self.phi, self.g, self.conv_z = projections(channels, reduction)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the attended mean to every position of a (N, C, H, W) map."""
        phi, g = self.phi(x), self.g(x)
        if self.subsample:
            phi, g = (F.max_pool2d(sources, 2, ceil_mode=True) for sources in (phi, g))
        attended = attend(as_positions(self.theta(x)), as_positions(phi), as_positions(g))
        return x + self.conv_z(as_map(attended, x))
