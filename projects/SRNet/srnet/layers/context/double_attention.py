"""Double attention block of A2-Nets (Chen et al., NeurIPS 2018)."""

import torch
from torch import nn

from ..precision import wide_matmul, widen
from .projections import projections


class DoubleAttention(nn.Module):
    """Gather the map into a few descriptors, then hand each position its mixture of them.

    ``Z = A softmax(B)^T softmax(V)`` (Eq. 6 there) with 1x1 convolutions for A, B and V: the rows
    of B are attention maps, softmax over the positions; the columns of V are attention vectors,
    softmax over the descriptors. A 1x1 convolution brings Z back to C channels and the map is
    added. It starts at zero, which the paper leaves open, so a fresh module is the identity.

    With half the channels for both widths, as the non-local block has, the parameters are
    Table IV's 0.53 M at 512 channels. The equation then takes 6.04 GFLOPs: 4.83 G in the four
    convolutions and 1.21 G in the two products, for which the table's 4.94 G has hardly room.

    Args:
        channels: C, the channels of the map.
        reduction: A, B and V have C / reduction channels.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 2):
        super().__init__()
        self.conv_a, self.conv_b, self.conv_v, self.conv_z = projections(channels, reduction)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the distributed descriptors to a (N, C, H, W) map."""
        features = self.conv_a(x).flatten(2)
        maps = widen(self.conv_b(x).flatten(2)).softmax(dim=2)
        vectors = self.conv_v(x).flatten(2).softmax(dim=1)
        # Column k of the descriptors is the mean of the features under attention map k.
        descriptors = wide_matmul(features, maps.transpose(1, 2)).to(features.dtype)
        distributed = torch.matmul(descriptors, vectors.to(features.dtype))
        return x + self.conv_z(distributed.unflatten(2, x.shape[2:]))
