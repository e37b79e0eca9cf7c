"""Squeeze-and-Excitation (Hu et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import divide_channels


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate that two layers compute from the means of all channels.

    ``y = x * sigmoid(W_2 ReLU(W_1 mean(x)))``. The parameters have torchvision's names, so its
    weights load; the default width between the layers is the paper's. Table IV counts 0.03 M
    parameters and 9.47 MFLOPs at 512 channels; half of the latter is the scaling, a multiplication
    that fvcore leaves out.

    Args:
        channels: C, the channels of the map.
        reduction: the layers map C -> C / reduction -> C.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__()
        reduced = divide_channels(channels, reduction)
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of a (N, C, H, W) map."""
        gate = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(gate)
