"""Losses over the pixels of a segmentation, exact over several processes."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Average a tensor without gradient over the processes; a single process gets it back."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


class PixelCrossEntropy(nn.Module):
    """Cross-entropy, averaged over the labelled pixels of the global batch.

    Each process divides its sum by the mean count of the processes, so that
    DistributedDataParallel's average is the mean over the pixels of all images, the same on one
    process and on many, however the void pixels are spread. In evaluation mode each process takes
    the mean over its own pixels.

    Args:
        ignore_value: the label that counts for nothing.
    """

    def __init__(self, ignore_value: int = 255):
        super().__init__()
        self.ignore_value = ignore_value

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Map logits (N, classes, H, W) and targets (N, H, W), int64, to a scalar."""
        count = (targets != self.ignore_value).sum().float()
        count = mean_over_processes(count) if self.training else count
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        return total / count.clamp(min=1)


class OhemCrossEntropy(nn.Module):
    """Cross-entropy over the hard pixels (online hard example mining, Shrivastava et al. 2016).

    A pixel counts if the probability of its true class is under ``threshold``; if fewer than
    ``min_kept`` do, the ``min_kept`` pixels of the highest loss count. Each process selects among
    its own pixels, and the mean is taken over what all of them keep; in evaluation mode, over what
    it keeps itself.

    Args:
        ignore_value: the label that counts for nothing.
        threshold: a probability, 0.7 as DANet and CCNet use it.
        min_kept: the fewest pixels a process keeps.
    """

    def __init__(self, ignore_value: int = 255, threshold: float = 0.7, min_kept: int = 100_000):
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold={threshold} must be a probability above 0")
        self.ignore_value = ignore_value
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Map logits (N, classes, H, W) and targets (N, H, W), int64, to a scalar."""
        losses = F.cross_entropy(
            logits, targets, ignore_index=self.ignore_value, reduction="none"
        ).flatten()
        labelled = (targets != self.ignore_value).flatten()
        # -log p > -log threshold is p < threshold.
        hard = labelled & (losses.detach() > -math.log(self.threshold))
        # Both choices are computed, and no size depends on the data: the device is never waited
        # for. A void pixel comes after all labelled ones, and its loss is 0.
        order = losses.detach().masked_fill(~labelled, -1)
        least = min(self.min_kept, losses.numel())
        largest = losses[order.topk(least, sorted=False).indices].sum()
        few = hard.sum() < self.min_kept
        total = torch.where(few, largest, losses.masked_fill(~hard, 0).sum())
        count = torch.where(few, labelled.sum().clamp(max=least), hard.sum()).float()
        count = mean_over_processes(count) if self.training else count
        return total / count.clamp(min=1)
