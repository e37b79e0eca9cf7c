"""The head of DF-Seg (Li et al., Partial Order Pruning, CVPR 2019), its pyramid pooling or SR."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from ..context import ContextConv, build_context, context_channels, fold_choice
from .base import SemanticHead, resize_map
from .blocks import conv_norm_relu, pixel_classifier


@SEM_SEG_HEADS_REGISTRY.register()
class DFSegHead(SemanticHead):
    """Context on the last map, 1x1 convolutions to one width, a fusion node for each finer map.

    A fusion node upsamples the coarser map, concatenates the finer one and applies a 3x3
    convolution. The classifier is a 3x3 convolution to twice the width and a 1x1: with it
    DFNet-v2's DF-Seg has the 18.83 M parameters of Table V.

    Args:
        input_shape: shapes of the backbone's features.
        in_features: the features from the finest to the coarsest.
        conv_dim: the common width, 128 in DF-Seg.
        context: the module on the last map: pyramid pooling in DF-Seg, SR in SRNet; None for none.
        context_out: channels that come out of it.
        fold: whether inference folds SR into the lateral convolution; None where that is cheaper.
        norm: name of the norm, as Detectron2's `get_norm` takes it.
        arguments: those of :class:`SemanticHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_features: Sequence[str],
        conv_dim: int = 128,
        context: nn.Module | None = None,
        context_out: int | None = None,
        fold: bool | None = None,
        norm: str = "SyncBN",
        **arguments: Any,
    ):
        super().__init__(**arguments)
        self.in_features = list(in_features)
        channels = [input_shape[name].channels for name in in_features]
        channels[-1] = context_out or channels[-1]
        self.context = context
        self.context_conv = ContextConv(fold)
        self.laterals = nn.ModuleList(conv_norm_relu(c, conv_dim, 1, norm) for c in channels)
        self.fusions = nn.ModuleList(
            conv_norm_relu(2 * conv_dim, conv_dim, 3, norm) for _ in channels[1:]
        )
        self.classifier = nn.Sequential(
            conv_norm_relu(conv_dim, 2 * conv_dim, 3, norm),
            pixel_classifier(2 * conv_dim, self.num_classes),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read `MODEL.SEM_SEG_HEAD` and `MODEL.CONTEXT`."""
        head = cfg.MODEL.SEM_SEG_HEAD
        last = input_shape[head.IN_FEATURES[-1]].channels
        context = build_context(cfg.MODEL.CONTEXT, last, norm=head.NORM)
        return {
            "input_shape": input_shape,
            "in_features": head.IN_FEATURES,
            "conv_dim": head.CONVS_DIM,
            "context": context,
            "fold": fold_choice(cfg.MODEL.CONTEXT),
            "context_out": context_channels(context, last),
            "norm": head.NORM,
            **cls.base_arguments(cfg),
        }

    def before_context(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """The last map of the backbone."""
        return features[self.in_features[-1]]

    def predict(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Map features to logits (N, classes, h, w), at the stride of the finest feature."""
        maps = [features[name] for name in self.in_features[:-1]]
        x = self.context_conv(self.before_context(features), self.context, self.laterals[-1])
        maps = [lateral(x) for lateral, x in zip(self.laterals[:-1], maps, strict=True)]
        for finer, fusion in zip(reversed(maps), self.fusions, strict=True):
            x = fusion(torch.cat([resize_map(x, finer.shape[-2:]), finer], dim=1))
        return self.classifier(x)
