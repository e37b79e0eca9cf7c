"""Detectron2's FPN, which at inference can fold SR into its first lateral convolution."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from srnet.layers.plain import is_plain

from ..context import ContextConv
from ..global_batch import pad_to_largest
from .context_blocks import ContextAfter, renamed


class GlobalBatchFPN(FPN):
    """Detectron2's FPN, whose processes pad their images to one size in training."""

    pyramid = renamed(FPN.forward, "pyramid")

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, 3, H, W) to a dict of maps, "p2" and so on, as Detectron2's FPN."""
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under this
            if self.training:
                x = pad_to_largest(x)
        return self.pyramid(x)


class ContextFPN(GlobalBatchFPN):
    """Detectron2's FPN on a ResNet whose last block may have SR on its output.

    Nothing but the lateral convolution reads that map. So inference folds the module into the
    convolution where that is cheaper, and never forms the map. In all other cases this is
    Detectron2's forward method.

    Args:
        fold: whether to fold; None for where that is cheaper.
        arguments: those of Detectron2's FPN.
    """

    _fuse_type: torch.jit.Final[str]  # type: ignore[misc]  # FPN sets it

    def __init__(self, *, fold: bool | None = None, **arguments: Any):
        super().__init__(**arguments)
        self.context_conv = ContextConv(fold)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, 3, H, W) to a dict of maps, "p2" and so on, as Detectron2's FPN."""
        if not torch.jit.is_scripting():
            if self.training:
                x = pad_to_largest(x)
            if self.can_fold():
                return self._folding_pyramid(x)
        return self.pyramid(x)

    def can_fold(self) -> bool:
        """Whether SR is the last thing in the backbone, and that as built, and may be folded."""
        if not is_plain(self.bottom_up, ResNet):
            return False
        stage = getattr(self.bottom_up, self.in_features[-1])
        if not is_plain(stage, nn.Sequential):
            return False
        last = stage[-1]
        if not (isinstance(last, ContextAfter) and is_plain(last, type(last))):
            return False
        reads_the_map = self.top_block is not None and self.top_block.in_feature in self.in_features
        return (
            not reads_the_map
            and self.in_features[-1] == self.bottom_up.stage_names[-1]
            and self.context_conv.can_fold(last.context, self.lateral_convs[0])
        )

    def _folding_pyramid(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features, context = self._features_before_context(x)
        maps = [features[name] for name in reversed(self.in_features)]
        merged = self.context_conv(maps[0], context, self.lateral_convs[0])
        results = [self.output_convs[0](merged)]
        for x, lateral, output in zip(
            maps[1:], self.lateral_convs[1:], self.output_convs[1:], strict=True
        ):
            upsampled = nn.functional.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = lateral(x) + upsampled
            if self._fuse_type == "avg":
                merged = merged / 2
            results.insert(0, output(merged))
        if self.top_block is not None:
            results.extend(
                self.top_block(results[self._out_features.index(self.top_block.in_feature)])
            )
        return dict(zip(self._out_features, results, strict=True))

    def _features_before_context(
        self, x: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], nn.Module]:
        """The maps of the backbone, the last one without its context; and that context."""
        features = {}
        x = self.bottom_up.stem(x)
        for name in self.bottom_up.stage_names[:-1]:
            features[name] = x = getattr(self.bottom_up, name)(x)
        name = self.bottom_up.stage_names[-1]
        *blocks, last = getattr(self.bottom_up, name)
        for block in blocks:
            x = block(x)
        features[name] = last.before_context(x)
        return features, last.context


def fpn_arguments(cfg: CfgNode) -> dict[str, Any]:
    """What Detectron2's `build_resnet_fpn_backbone` gives an FPN beside its `bottom_up`."""
    node = cfg.MODEL.FPN
    return {
        "in_features": node.IN_FEATURES,
        "out_channels": node.OUT_CHANNELS,
        "norm": node.NORM,
        "top_block": LastLevelMaxPool(),
        "fuse_type": node.FUSE_TYPE,
    }
