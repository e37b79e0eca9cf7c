"""Expectation-maximization attention unit, EMAU of EMANet (Li et al., ICCV 2019)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ..channels import check_channels
from ..losses import mean_over_processes
from ..precision import wide_matmul, widen

EPSILON = 1e-6


class EMAttention(nn.Module):
    """Rebuild the map from a few bases that expectation-maximization finds in it.

    ``y = ReLU(x + norm(W_2 ReLU(M Z^T)))``. The bases M (C x K) start from running ones; each of
    the stages computes the responsibilities ``Z = softmax_k(W_1 x^T M)`` (Eq. 12 there) and new
    bases, the means of the positions under them, scaled to length 1 (Eq. 13 and section 4.4).
    In training the running bases then move to the mean over the batch and the processes (Eq. 15).

    As in the authors' code no gradient passes through the stages. ``W_1`` so receives none and
    stays as it starts; it is frozen here, for DistributedDataParallel insists on a gradient for
    what is not.

    At 512 channels and 64 bases: 6.96 GFLOPs (Table IV: 6.97 G) and 0.53 M parameters, the bases
    not counted, 0.56 M with them; the table's 0.54 M is neither.

    Args:
        channels: C, the channels of the map.
        num_bases: K.
        num_stages: the iterations of expectation-maximization.
        momentum: what the running bases keep of themselves in a training step.
        norm: makes the norm from C. Batch norm cannot train on one map of one position.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: a number is not positive, or ``momentum`` is not between 0 and 1.
    """

    bases: torch.Tensor

    def __init__(
        self,
        channels: int,
        *,
        num_bases: int = 64,
        num_stages: int = 3,
        momentum: float = 0.9,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        check_channels(channels)
        for name, value in (("num_bases", num_bases), ("num_stages", num_stages)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum} must be between 0 and 1")
        self.num_stages = num_stages
        self.momentum = momentum
        self.register_buffer("bases", torch.empty(1, channels, num_bases))
        self.conv1 = nn.Conv2d(channels, channels, 1).requires_grad_(False)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = norm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the authors' code does: normal weights, bases of length 1."""
        channels, num_bases = self.bases.shape[1:]
        for conv in (self.conv1, self.conv2):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / channels))
        nn.init.normal_(self.bases, std=math.sqrt(2 / num_bases))
        self.bases.copy_(unit_length(self.bases))

    def maximize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the stages.

        Args:
            x: (N, C, H W), the positions.

        Returns:
            Bases (N, C, K) and responsibilities (N, H W, K), in at least fp32.
        """
        bases = widen(self.bases).expand(len(x), -1, -1)
        for _ in range(self.num_stages):
            responsibilities = wide_matmul(x.transpose(1, 2), bases).softmax(dim=2)
            shares = responsibilities / (EPSILON + responsibilities.sum(1, keepdim=True))
            bases = unit_length(wide_matmul(x, shares))
        return bases, responsibilities

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the rebuilt map to a (N, C, H, W) map; in training, update the running bases."""
        with torch.no_grad():
            bases, responsibilities = self.maximize(widen(self.conv1(x).flatten(2)))
            rebuilt = wide_matmul(bases, responsibilities.transpose(1, 2)).view_as(x)
            if self.training:
                mean = mean_over_processes(bases.mean(0, keepdim=True))
                self.bases.copy_(self.momentum * self.bases + (1 - self.momentum) * mean)
        return F.relu(x + self.norm(self.conv2(F.relu(rebuilt).to(x.dtype))))


def unit_length(bases: torch.Tensor) -> torch.Tensor:
    """Scale the bases (N, C, K) to Euclidean length 1 over C."""
    return bases / (EPSILON + bases.norm(dim=1, keepdim=True))
