"""Wider-ResNet-38 (Wu et al., Wider or Deeper, 2016), dilated as Gated-SCNN and In-place ABN do."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from srnet.layers.image_random import ImageDropout

from ..build import fit_to_device
from .freeze import freeze_stages

# Blocks, and the channels of a block's convolutions: two 3x3, or 1x1, 3x3 and 1x1.
STAGES = {
    "mod2": (3, (128, 128)),
    "mod3": (3, (256, 256)),
    "mod4": (6, (512, 512)),
    "mod5": (3, (512, 1024)),
    "mod6": (1, (512, 1024, 2048)),
    "mod7": (1, (1024, 2048, 4096)),
}
# Where the map is halved, by a max pooling before the stage or the stride of its first block.
POOLED, STRIDED = ("mod2", "mod3"), ("mod4",)
DILATIONS = {"mod5": 2, "mod6": 4, "mod7": 4}
DROPOUTS = {"mod6": 0.3, "mod7": 0.5}


class PreActivationBlock(nn.Module):
    """A residual block with norm and ReLU before each convolution.

    Args:
        in_channels: channels of the input.
        channels: channels of the convolutions: two make a basic block, three a bottleneck.
        stride: of the first 3x3 convolution.
        dilation: of the 3x3 convolutions.
        dropout: probability before the last convolution of a bottleneck.
        norm: makes a norm from its channels.

    Shape:
        (N, in_channels, H, W) -> (N, channels[-1], H / stride, W / stride)
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        stride: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.norm1 = norm(in_channels)
        self.shortcut = None
        if stride != 1 or in_channels != channels[-1]:
            self.shortcut = nn.Conv2d(in_channels, channels[-1], 1, stride=stride, bias=False)
        conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        first, second = channels[:2]
        if len(channels) == 2:
            self.conv1 = conv3x3(in_channels, first, stride=stride)
            self.norm2 = norm(first)
            self.conv2 = conv3x3(first, second)
        else:
            self.conv1 = nn.Conv2d(in_channels, first, 1, bias=False)
            self.norm2 = norm(first)
            self.conv2 = conv3x3(first, second, stride=stride)
            self.norm3 = norm(second)
            self.conv3 = nn.Conv2d(second, channels[2], 1, bias=False)
        self.dropout = ImageDropout(dropout)
        self.relu = nn.ReLU(inplace=True)
        self.is_bottleneck = len(channels) == 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, channels[-1], H / stride, W / stride)."""
        y = self.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv2(self.relu(self.norm2(self.conv1(y))))
        if self.is_bottleneck:
            y = self.conv3(self.dropout(self.relu(self.norm3(y))))
        return y + shortcut


class WiderResNet38(Backbone):
    """A 3x3 convolution and six stages; two max poolings and one stride make the output stride 8.

    The last two stages are dilated by 4, the one before by 2, instead of further strides. What is
    returned of "mod7" has the network's last norm and ReLU.

    Args:
        norm: makes a norm from its channels.
        out_features: which of "mod2" (stride 2), "mod3" (4), "mod4", "mod5", "mod6", "mod7" (8) to
            return.
        in_channels: channels of the image.
        freeze_at: stages to freeze, as Detectron2's `FREEZE_AT`: 1 for the stem, which is mod1, 2
            for mod1 and mod2, up to 7.

    Raises:
        ValueError: an unknown feature, or more stages to freeze than there are.
    """

    def __init__(
        self,
        *,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        out_features: Sequence[str] = ("mod2", "mod7"),
        in_channels: int = 3,
        freeze_at: int = 0,
    ):
        super().__init__()
        unknown = set(out_features) - set(STAGES)
        if unknown:
            raise ValueError(f"out_features={sorted(unknown)} unknown: choose from {list(STAGES)}")
        self.mod1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        channels, stride = 64, 1
        self._shapes = {}
        for name, (blocks, widths) in STAGES.items():
            stage = nn.Sequential()
            for index in range(blocks):
                block = PreActivationBlock(
                    channels,
                    widths,
                    stride=2 if name in STRIDED and index == 0 else 1,
                    dilation=DILATIONS.get(name, 1),
                    dropout=DROPOUTS.get(name, 0.0),
                    norm=norm,
                )
                stage.add_module(f"block{index + 1}", block)
                channels = widths[-1]
            self.add_module(name, stage)
            stride *= 2 if name in POOLED + STRIDED else 1
            if name in out_features:
                self._shapes[name] = ShapeSpec(channels=channels, stride=stride)
        self.norm_out = nn.Sequential(norm(channels), nn.ReLU(inplace=True))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # The last norm belongs to what mod7 returns.
        *names, last = STAGES
        stages = [["mod1"], *([name] for name in names), [last, "norm_out"]]
        freeze_stages(self, stages, freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an image (N, 3, H, W) to a dict of the features asked for."""
        outputs = {}
        x = self.mod1(x)
        for name in STAGES:
            x = getattr(self, name)(self.pool(x) if name in POOLED else x)
            if name in self._shapes:
                outputs[name] = x
        if "mod7" in outputs:
            outputs["mod7"] = self.norm_out(x)
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature that is returned."""
        return self._shapes


@BACKBONE_REGISTRY.register()
def build_wider_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> WiderResNet38:
    """Build the Wider-ResNet-38 of `MODEL.WIDER_RESNET`."""
    backbone = WiderResNet38(
        norm=partial(get_norm, cfg.MODEL.WIDER_RESNET.NORM),
        out_features=cfg.MODEL.WIDER_RESNET.OUT_FEATURES,
        in_channels=input_shape.channels,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return fit_to_device(cfg, backbone)
