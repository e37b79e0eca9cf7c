"""The FCN head of section III-D.1: the context module between two 3x3 convolutions.

And the heads of PSPNet and DeepLabV3, which are a context module on the feature itself.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from srnet.ranges import check_keys

from ..context import ContextConv, build_context, context_channels, fold_choice
from .base import SemanticHead
from .blocks import conv_norm_relu, pixel_classifier


@SEM_SEG_HEADS_REGISTRY.register()
class FCNHead(SemanticHead):
    """3x3 conv, context module, 3x3 conv, classifier; and an auxiliary head on an earlier feature.

    With ``conv_dim=0`` both convolutions go and the context module stands on the feature itself:
    pyramid pooling makes PSPNet of that, ASPP DeepLabV3, as in these rows of Table IV, and without
    a module it is the plain "dilated FCN" row.

    Args:
        input_shape: shapes of the backbone's features.
        in_feature: the feature the head works on.
        conv_dim: channels of both convolutions, 512 in the paper.
        context: the context module between them, or without them on the feature; None for none.
        context_out: channels that come out of the context module.
        fold: whether inference folds SR into the convolution after it; None where that is cheaper.
        aux_in_feature: the feature of the auxiliary head, empty for no such head.
        dropout: the share of channels that are dropped before both classifiers in training, as in
            the authors' code (0.1); the paper names none.
        norm: name of the norm, as Detectron2's `get_norm` takes it.
        arguments: those of :class:`SemanticHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        in_feature: str,
        conv_dim: int = 512,
        context: nn.Module | None = None,
        context_out: int | None = None,
        fold: bool | None = None,
        aux_in_feature: str = "",
        dropout: float = 0.0,
        norm: str = "SyncBN",
        **arguments: Any,
    ):
        super().__init__(**arguments)
        self.in_feature = in_feature
        self.aux_in_feature = aux_in_feature
        channels = input_shape[in_feature].channels
        self.conv1 = self.conv2 = None
        self.context = context
        self.context_conv = ContextConv(fold)
        if conv_dim:
            self.conv1 = conv_norm_relu(channels, conv_dim, 3, norm)
            self.conv2 = conv_norm_relu(context_out or conv_dim, conv_dim, 3, norm)
            channels = conv_dim
        else:
            channels = context_out or channels
        self.classifier = pixel_classifier(channels, self.num_classes)
        self.dropout = nn.Dropout2d(dropout)
        self.aux = None
        if aux_in_feature:
            channels = input_shape[aux_in_feature].channels
            self.aux = nn.Sequential(
                conv_norm_relu(channels, channels // 4, 3, norm),
                pixel_classifier(channels // 4, self.num_classes),
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read `MODEL.SEM_SEG_HEAD` and `MODEL.CONTEXT`."""
        head = cfg.MODEL.SEM_SEG_HEAD
        check_keys(cfg, "MODEL.SEM_SEG_HEAD.IN_FEATURES")
        channels = head.CONVS_DIM or input_shape[head.IN_FEATURES[0]].channels
        context = build_context(cfg.MODEL.CONTEXT, channels, norm=head.NORM)
        return {
            "input_shape": input_shape,
            "in_feature": head.IN_FEATURES[0],
            "conv_dim": head.CONVS_DIM,
            "context": context,
            "fold": fold_choice(cfg.MODEL.CONTEXT),
            "context_out": context_channels(context, channels),
            "aux_in_feature": head.AUX_IN_FEATURE,
            "dropout": head.DROPOUT,
            "norm": head.NORM,
            **cls.base_arguments(cfg),
        }

    def before_context(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """The output of the first 3x3 convolution; without the two, the feature itself."""
        x = features[self.in_feature]
        return x if self.conv1 is None else self.conv1(x)

    def predict(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Map features to logits (N, classes, h, w), at the stride of `in_feature`."""
        x = self.before_context(features)
        if self.conv2 is None:
            if self.training and self.dropout.p:
                x = x if self.context is None else self.context(x)
                return self.classifier(self.dropout(x))
            return self.context_conv(x, self.context, self.classifier)
        x = self.context_conv(x, self.context, self.conv2)
        return self.classifier(self.dropout(x))

    def predict_auxiliary(self, features: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Logits of the auxiliary head."""
        if self.aux is None:
            return None
        conv, classifier = self.aux
        return classifier(self.dropout(conv(features[self.aux_in_feature])))
