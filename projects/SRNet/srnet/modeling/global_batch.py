"""Detectron2's detectors with the losses of the global batch: the same on one process and on many.

Detectron2 samples anchors and proposals with random numbers of the process, pads the images of a
process to the largest of them, and divides some losses by counts of the process. Here the samples
of an image depend on the iteration and on its place in the global batch, all processes pad to one
size, and sums are divided by the mean count of the processes, so DistributedDataParallel's average
is the mean over the global batch. On one process nothing changes but the random numbers.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import (
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import nn

from srnet.layers.image_random import image_seeds, seeded_generators
from srnet.layers.losses import mean_over_processes

from .semantic.base import build_pixel_loss

Losses = dict[str, torch.Tensor]


def pad_to_largest(images: torch.Tensor) -> torch.Tensor:
    """Pad normalised images (N, 3, H, W) with zeros to the largest H and W of all processes."""
    if comm.get_world_size() == 1:
        return images
    size = torch.tensor(images.shape[-2:])
    dist.all_reduce(size, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
    height, width = size.tolist()
    return F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))


def of_global_batch(
    loss: torch.Tensor, count: float | torch.Tensor, *, alone: bool = False
) -> torch.Tensor:
    """Turn the mean of a process into its share of the mean over all processes.

    Args:
        loss: a mean over `count` elements of this process.
        count: may be 0, where the loss is 0, too.
        alone: whether this process computes for itself: the loss is returned as it is.

    Returns:
        A loss whose mean over the processes is the mean over all their elements.
    """
    if alone or comm.get_world_size() == 1:
        return loss
    count = torch.as_tensor(count, dtype=loss.dtype, device=loss.device)
    return loss * count / mean_over_processes(count).clamp(min=1 / comm.get_world_size())


def image_generators(
    count: int, device: torch.device, *, alone: bool
) -> Iterator[AbstractContextManager[None]]:
    """A context for each image of this process, in which PyTorch draws the image's numbers."""
    return iter([seeded_generators(seed, device) for seed in image_seeds(count, alone=alone)])


class GlobalBatch:
    """Mixed into modules that look at other processes in training."""

    alone = False
    """Whether the process computes for itself, as for a validation loss: nothing is shared then."""


@contextmanager
def each_process_alone(model: nn.Module) -> Iterator[None]:
    """Let the modules of a model compute without the other processes, which may be elsewhere."""
    shared = [module for module in model.modules() if isinstance(module, GlobalBatch)]
    for module in shared:
        module.alone = True
    try:
        yield
    finally:
        for module in shared:
            del module.alone


@PROPOSAL_GENERATOR_REGISTRY.register()
class GlobalBatchRPN(GlobalBatch, RPN):
    """Detectron2's RPN, whose samples do not depend on the number of processes.

    Its losses are sums over the samples divided by a number of samples an image, so their mean over
    the processes is that of the global batch already.
    """

    @torch.jit.unused
    def label_and_sample_anchors(self, anchors: list, gt_instances: list[Instances]) -> tuple:
        """Sample anchors with the random numbers of each image; see Detectron2's."""
        self._generators = image_generators(len(gt_instances), anchors[0].device, alone=self.alone)
        return super().label_and_sample_anchors(anchors, gt_instances)

    def _subsample_labels(self, label: torch.Tensor) -> torch.Tensor:
        with next(self._generators):
            return super()._subsample_labels(label)


class GlobalBatchSampling(GlobalBatch):
    """Mixed into Detectron2's ROI heads: samples and mask loss of the global batch.

    TorchScript, which has no `super()`, compiles a model with Detectron2's own heads; the weights
    are the same.
    """

    num_classes: int

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Sample proposals with the random numbers of each image; see Detectron2's."""
        device = proposals[0].proposal_boxes.device
        self._generators = image_generators(len(targets), device, alone=self.alone)
        return super().label_and_sample_proposals(proposals, targets)  # type: ignore[misc]

    def _sample_proposals(self, *args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with next(self._generators):
            return super()._sample_proposals(*args)  # type: ignore[misc]

    def _forward_mask(self, features: dict, instances: list[Instances]) -> Any:
        result = super()._forward_mask(features, instances)  # type: ignore[misc]
        if self.training and "loss_mask" in result:  # type: ignore[attr-defined]
            classes = torch.cat([x.gt_classes for x in instances])
            foreground = (classes >= 0) & (classes < self.num_classes)
            result["loss_mask"] = of_global_batch(
                result["loss_mask"], foreground.sum(), alone=self.alone
            )
        return result


@ROI_HEADS_REGISTRY.register()
class GlobalBatchROIHeads(GlobalBatchSampling, StandardROIHeads):
    """Detectron2's StandardROIHeads with the losses of the global batch."""

    def _forward_box(self, features: dict, proposals: list[Instances]) -> Any:
        result = super()._forward_box(features, proposals)
        if not self.training:
            return result
        count = sum(len(x) for x in proposals)
        return {
            name: of_global_batch(loss, count, alone=self.alone) for name, loss in result.items()
        }


@ROI_HEADS_REGISTRY.register()
class GlobalBatchCascadeROIHeads(GlobalBatchSampling, CascadeROIHeads):
    """Detectron2's CascadeROIHeads with the losses of the global batch."""

    def _forward_box(
        self, features: dict, proposals: list[Instances], targets: list[Instances] | None = None
    ) -> Any:
        self._counts: dict[str, int] = {}
        result = super()._forward_box(features, proposals, targets)
        if not self.training:
            return result
        counts = self._counts
        return {
            name: of_global_batch(loss, counts[name.rpartition("_")[2]], alone=self.alone)
            for name, loss in result.items()
        }

    def _run_stage(self, features: list, proposals: list[Instances], stage: int) -> Any:
        # Each stage drops the empty boxes of the one before.
        self._counts[f"stage{stage}"] = sum(len(x) for x in proposals)
        return super()._run_stage(features, proposals, stage)


@SEM_SEG_HEADS_REGISTRY.register()
class GlobalBatchSemSegFPNHead(SemSegFPNHead):
    """Detectron2's SemSegFPNHead with this project's losses over the pixels of the global batch.

    Args:
        loss: maps logits (N, classes, H, W) and targets (N, H, W) to a scalar.
        arguments: those of Detectron2's head.
    """

    @configurable
    def __init__(self, *args: Any, loss: nn.Module, **arguments: Any):
        super().__init__(*args, **arguments)
        self.loss = loss

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict) -> dict[str, Any]:
        """Read `MODEL.SEM_SEG_HEAD`."""
        return {**super().from_config(cfg, input_shape), "loss": build_pixel_loss(cfg)}

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> Losses:
        """Map logits (N, classes, h, w) and targets (N, H, W), which may be smaller, to a loss."""
        logits = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
        logits = F.interpolate(
            logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        height, width = targets.shape[-2:]  # what pad_to_largest added has no labels
        loss = self.loss(logits[..., :height, :width], targets)
        return {"loss_sem_seg": loss * self.loss_weight}
