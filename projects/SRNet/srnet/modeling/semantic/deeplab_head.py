"""Detectron2's DeepLabV3+ head with the context module after its atrous pyramid."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab.semantic_seg import DeepLabV3PlusHead
from torch import nn

from srnet.layers.image_random import ImageDropout

from ..context import build_context, context_channels
from .base import PixelLosses, build_pixel_loss, resize_map


@SEM_SEG_HEADS_REGISTRY.register()
class SRDeepLabV3PlusHead(PixelLosses, DeepLabV3PlusHead):
    """DeepLabV3+ with a context module on the output of the ASPP, and this project's losses.

    All parameters of Detectron2's head keep their names. It also takes crops that its stride does
    not divide (769), so the ASPP pools the whole map, where Detectron2's pools windows of the
    training crop's size.

    Args:
        input_shape: shapes of the features; the coarsest goes through the ASPP.
        context: the module on the ASPP's output, None for none.
        loss: maps logits (N, classes, H, W) and targets (N, H, W) to a scalar.
        arguments: those of Detectron2's head but for `loss_type` and `train_size`.

    Raises:
        ValueError: the context module changes the number of channels.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        context: nn.Module | None,
        loss: nn.Module,
        decoder_channels: list[int],
        aspp_dropout: float,
        **arguments: Any,
    ):
        super().__init__(
            input_shape,
            decoder_channels=decoder_channels,
            aspp_dropout=0,
            train_size=None,
            **arguments,
        )
        self.aspp_dropout = ImageDropout(aspp_dropout)
        if context_channels(context, decoder_channels[-1]) != decoder_channels[-1]:
            raise ValueError(
                f"MODEL.CONTEXT: {type(context).__name__} changes the number of channels, so it "
                "cannot stand after the ASPP"
            )
        self.context = nn.Identity() if context is None else context
        self.loss = loss

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read `MODEL.SEM_SEG_HEAD` and `MODEL.CONTEXT`."""
        arguments = super().from_config(cfg, input_shape)
        for name in ("train_size", "loss_type"):
            arguments.pop(name)
        head = cfg.MODEL.SEM_SEG_HEAD
        arguments["context"] = build_context(cfg.MODEL.CONTEXT, head.ASPP_CHANNELS, norm=head.NORM)
        arguments["loss"] = build_pixel_loss(cfg)
        return arguments

    def before_context(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """The output of the ASPP."""
        name = self.in_features[-1]
        return self.aspp_dropout(self.decoder[name]["project_conv"](features[name]))

    def predict(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Map features to logits (N, classes, h, w), at the stride of the finest feature."""
        y = self.context(self.before_context(features))
        for name in reversed(self.in_features[:-1]):
            stage = self.decoder[name]
            x = stage["project_conv"](features[name])
            y = stage["fuse_conv"](torch.cat([x, resize_map(y, x.shape[-2:])], dim=1))
        return self.predictor(y)
