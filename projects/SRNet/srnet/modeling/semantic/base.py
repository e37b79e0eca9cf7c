"""What the semantic heads share: upsampling of the logits, the loss and its choice by config."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import nn

from srnet.layers import OhemCrossEntropy, PixelCrossEntropy
from srnet.ranges import check_keys


def build_pixel_loss(cfg: CfgNode) -> nn.Module:
    """Build the loss that `MODEL.SEM_SEG_HEAD.LOSS_TYPE` names."""
    check_keys(cfg, "MODEL.SEM_SEG_HEAD.LOSS_TYPE")
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.LOSS_TYPE == "cross_entropy":
        return PixelCrossEntropy(head.IGNORE_VALUE)
    return OhemCrossEntropy(head.IGNORE_VALUE, head.OHEM_THRESHOLD, head.OHEM_MIN_KEPT)


def resize_map(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize a map (N, C, h, w) bilinearly to `size`, (H, W)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class PixelLosses:
    """The forward pass of a head: predictions, or the losses against a label a pixel.

    A class defines :meth:`before_context` and :meth:`predict`, and :meth:`predict_auxiliary` and
    `aux_loss_weight` if it has an auxiliary head; it has `loss`, from logits (N, classes, H, W) and
    targets (N, H, W) to a scalar, and `loss_weight`.
    """

    training: bool
    loss: nn.Module
    loss_weight: float
    aux_loss_weight: float

    def before_context(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """The map (N, C, h, w) that the context module of the head works on."""
        raise NotImplementedError

    def predict(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Map features to logits (N, classes, h, w), at the head's own stride."""
        raise NotImplementedError

    def predict_auxiliary(self, features: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Logits of the auxiliary head, used in training alone; None where there is none."""
        return None

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Predict, or compute the losses.

        Args:
            features: what the backbone returned.
            targets: labels (N, H, W), int64, in training.

        Returns:
            ``(None, losses)`` in training, ``(logits, {})`` at the head's stride otherwise:
            Detectron2's convention.
        """
        logits = self.predict(features)
        if not self.training:
            return logits, {}
        assert targets is not None  # as in all training
        losses = {"loss_sem_seg": self.loss_weight * self._loss_of(logits, targets)}
        auxiliary = self.predict_auxiliary(features)
        if auxiliary is not None:
            weight = self.loss_weight * self.aux_loss_weight
            losses["loss_sem_seg_aux"] = weight * self._loss_of(auxiliary, targets)
        return None, losses

    def _loss_of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # At least in fp32: the sum over all pixels of a batch overflows fp16.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return self.loss(resize_map(logits, targets.shape[-2:]), targets)


class SemanticHead(PixelLosses, nn.Module):
    """Base of the semantic heads that are not Detectron2's.

    Args:
        num_classes: classes to predict.
        ignore_value: the label that counts for nothing.
        loss: maps logits (N, classes, H, W) and targets (N, H, W) to a scalar.
        loss_weight: weight of ``loss_sem_seg``.
        aux_loss_weight: weight of ``loss_sem_seg_aux`` relative to it.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        ignore_value: int,
        loss: nn.Module,
        loss_weight: float = 1.0,
        aux_loss_weight: float = 0.4,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.loss = loss
        self.loss_weight = loss_weight
        self.aux_loss_weight = aux_loss_weight

    @staticmethod
    def base_arguments(cfg: CfgNode) -> dict:
        """The arguments of this class from a config."""
        return {
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "loss": build_pixel_loss(cfg),
            "loss_weight": cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT,
            "aux_loss_weight": cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT,
        }
