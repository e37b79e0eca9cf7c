"""Context encoding module of EncNet (Zhang et al., CVPR 2018)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import check_channels
from ..precision import wide_matmul, widen


class Encoding(nn.Module):
    """Sum the residuals of all positions to learned codewords, weighted by closeness.

    ``e_k = sum_i softmax_k(-s_k |x_i - d_k|^2) (x_i - d_k)`` (Eq. 1 there), with the (H W x K x C)
    residuals multiplied out so that none is stored. In at least fp32: the sums grow with the map.

    Args:
        channels: C, of positions and codewords.
        num_codes: K.

    Shape:
        (N, C, H, W) -> (N, K, C)
    """

    def __init__(self, channels: int, num_codes: int):
        super().__init__()
        self.codewords = nn.Parameter(torch.empty(num_codes, channels))
        self.smoothing = nn.Parameter(torch.empty(num_codes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the authors' code does, its smoothing factors with their sign turned."""
        bound = 1 / math.sqrt(self.codewords.numel())
        nn.init.uniform_(self.codewords, -bound, bound)
        nn.init.uniform_(self.smoothing, 0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the residuals (N, K, C) to the codewords."""
        x = widen(x.flatten(2))
        codewords, smoothing = widen(self.codewords), widen(self.smoothing)
        products = wide_matmul(codewords, x)
        lengths = codewords.square().sum(1)[:, None] + x.square().sum(1, keepdim=True)
        distances = lengths - 2 * products
        weights = (-smoothing[:, None] * distances).softmax(dim=1)
        return wide_matmul(weights, x.transpose(1, 2)) - weights.sum(2, keepdim=True) * codewords


class ContextEncoding(nn.Module):
    """Scale the channels by a gate that is computed from an encoding of the map.

    ``y = ReLU(x + x * sigmoid(W e))``, e the mean over the codewords of ``ReLU(norm(e_k))``, and
    e_k the encoding of ``ReLU(norm(conv(x)))`` with a 1x1 convolution, as in the authors' code (the
    paper sums over the codewords). The semantic encoding loss of EncNet is a loss of its own and no
    part of this module.

    EncNet has 32 codewords and then 0.54 M parameters at 512 channels; Table IV's 0.59 M are those
    of 128. Convolution and encoding are 3.63 GFLOPs then; no way of counting the equation that we
    tried gives the table's 12.31 G.

    Args:
        channels: C, the channels of the map.
        num_codes: K, the codewords.
        norm: makes the norms, from C and from K (on a (N, K, C, 1) map). Batch norm cannot train on
            one map of one position.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``channels`` or ``num_codes`` is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_codes: int = 128,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        check_channels(channels)
        if num_codes < 1:
            raise ValueError(f"num_codes={num_codes} must be at least 1")
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), norm(channels), nn.ReLU()
        )
        self.encoding = Encoding(channels, num_codes)
        self.norm = norm(num_codes)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of a (N, C, H, W) map."""
        codes = self.encoding(self.project(x)).to(self.encoding.codewords.dtype)
        vector = F.relu(self.norm(codes.unsqueeze(3)).squeeze(3)).mean(1)
        gate = torch.sigmoid(self.gate(vector))[:, :, None, None].to(x.dtype)
        return F.relu(x + x * gate)
