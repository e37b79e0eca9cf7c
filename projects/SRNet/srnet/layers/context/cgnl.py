"""Compact generalized non-local block, CGNL (Yue et al., NeurIPS 2018)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels
from ..precision import no_autocast, wide_matmul, widen

# Of the radial basis function, a constant in the authors' code.
GAMMA = 1e-4


class CompactGeneralizedNonLocal(nn.Module):
    """Relate all positions and channels at once, through a kernel that factorises.

    Every entry of ``theta(x)`` attends to every entry of ``phi(x)``, over the channels of a group
    and the positions. With the dot product the attention is one number a group,
    ``y = theta(x) (phi(x)^T g(x))``; with the Taylor expansion of the radial basis function
    ``exp(-gamma (a - b)^2)`` (section 3.3 there) up to order P it is the P + 1 numbers
    ``beta (2 gamma)^p / p! (phi(x)^p)^T g(x)``, with ``beta = exp(-2 gamma)`` as the authors
    simplify it. Then ``z = x + GN(W_z y)``; GN makes the paper's factor 1 / sqrt(C H W) on the dot
    product void, so it is left out. The scale of GN starts at zero, as in the authors' code, so a
    fresh module is the identity.

    Table IV's 0.53 M parameters at 512 channels are those of one group (8 groups have 0.41 M); its
    4.91 GFLOPs count more than fvcore does: the convolutions and the two products are 4.84 G, with
    fvcore's five operations an entry of GN 4.86 G.

    Args:
        channels: C, the channels of the map.
        reduction: theta, phi and g have C / reduction channels.
        groups: of channels that attend to themselves only, of ``W_z`` and of GN. The paper's best
            dot-product models have 8.
        order: None for the dot product, else P, the order of the expansion.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``, ``groups`` does not divide what is
            left, or ``order`` is negative.
    """

    def __init__(
        self, channels: int, *, reduction: int = 2, groups: int = 1, order: int | None = None
    ):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        if groups < 1 or reduced % groups:
            raise ValueError(
                f"groups={groups} must be a divisor of channels / reduction = {reduced}"
            )
        if order is not None and order < 0:
            raise ValueError(f"order={order} must be None or at least 0")
        self.groups = groups
        self.order = order
        self.theta = nn.Conv2d(channels, reduced, 1, bias=False)
        self.phi = nn.Conv2d(channels, reduced, 1, bias=False)
        self.g = nn.Conv2d(channels, reduced, 1, bias=False)
        self.conv_z = nn.Conv2d(reduced, channels, 1, groups=groups, bias=False)
        self.norm = nn.GroupNorm(groups, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the module the identity; the other weights keep PyTorch's own start."""
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def expand(self, x: torch.Tensor) -> torch.Tensor:
        """Map the (N, groups, M) entries of a group to its features (N, groups, M, 1 or P + 1)."""
        if self.order is None:
            return x.unsqueeze(-1)
        # Each of the two factors of a product takes the square root of its coefficient.
        coefficients = [
            math.sqrt(math.exp(-2 * GAMMA) * (2 * GAMMA) ** p / math.factorial(p))
            for p in range(self.order + 1)
        ]
        return torch.stack([c * x**p for p, c in enumerate(coefficients)], dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the attended entries to a (N, C, H, W) map."""
        maps = (self.theta(x), self.phi(x), self.g(x))
        theta, phi, g = (widen(m).unflatten(1, (self.groups, -1)).flatten(2) for m in maps)
        attention = wide_matmul(self.expand(phi).transpose(2, 3), g.unsqueeze(-1))
        response = wide_matmul(self.expand(theta), attention).view(maps[0].shape)
        # The response grows with the size of the map until the norm takes that out again.
        with no_autocast(x.device):
            weights = (self.conv_z.weight, self.norm.weight, self.norm.bias)
            conv_z, scale, bias = (weight.to(response.dtype) for weight in weights)
            response = F.conv2d(response, conv_z, groups=self.groups)
            response = F.group_norm(response, self.groups, scale, bias, self.norm.eps)
        return x + response.to(x.dtype)
