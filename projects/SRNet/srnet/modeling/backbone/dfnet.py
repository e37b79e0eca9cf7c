"""DFNet, the backbone of the real-time models (Li et al., Partial Order Pruning, CVPR 2019)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn
from torchvision.models.resnet import BasicBlock

from srnet.ranges import check_keys

from ..build import fit_to_device
from .freeze import freeze_stages

# A stage is everything at one scale: groups of (channels, blocks), the first block of a stage with
# stride 2.
VARIANTS = {
    "v1": (((64, 3),), ((128, 3),), ((256, 3), (512, 1))),
    "v2": (((64, 2), (128, 1)), ((128, 10), (256, 1)), ((256, 4), (512, 2))),
}


class DFNet(Backbone):
    """A stem of two 3x3 stride-2 convolutions and three stages of basic residual blocks.

    The stages are at strides 8, 16 and 32.

    Args:
        stages: groups of (channels, blocks) for each stage, an entry of `VARIANTS`.
        norm: makes a norm from its channels.
        out_features: which of "stem", "stage2", "stage3", "stage4" to return.
        in_channels: channels of the image.
        freeze_at: stages to freeze, as Detectron2's `FREEZE_AT`: 1 for the stem, 2 for the stem and
            stage2, up to 4.

    Raises:
        ValueError: an unknown feature, or more stages to freeze than there are.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[tuple[int, int]]],
        *,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        out_features: Sequence[str] = ("stage2", "stage3", "stage4"),
        in_channels: int = 3,
        freeze_at: int = 0,
    ):
        super().__init__()
        layers = []
        for before, after in ((in_channels, 32), (32, 64)):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [conv, norm(after), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*layers)
        shapes = {"stem": ShapeSpec(channels=64, stride=4)}
        channels, stride = 64, 4
        self.stage_names = []
        for index, groups in enumerate(stages, start=2):
            blocks, stride = [], stride * 2
            for group, (width, count) in enumerate(groups):
                for block in range(count):
                    step = 2 if group == block == 0 else 1
                    blocks.append(_block(channels, width, step, norm))
                    channels = width
            name = f"stage{index}"
            self.add_module(name, nn.Sequential(*blocks))
            self.stage_names.append(name)
            shapes[name] = ShapeSpec(channels=channels, stride=stride)
        unknown = set(out_features) - set(shapes)
        if unknown:
            raise ValueError(f"out_features={sorted(unknown)} unknown: choose from {list(shapes)}")
        self._shapes = {name: shape for name, shape in shapes.items() if name in out_features}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        freeze_stages(self, [("stem",), *((name,) for name in self.stage_names)], freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an image (N, 3, H, W) to a dict of the features asked for."""
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name in self.stage_names:
            x = getattr(self, name)(x)
            outputs[name] = x
        return {name: outputs[name] for name in self._shapes}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature that is returned."""
        return self._shapes


class Residual(nn.Identity):
    """The end of a residual branch: the place of a gate."""


class DFNetBlock(BasicBlock):
    """torchvision's block, with a place for a gate on its residual branch."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        shortcut: nn.Module | None,
        norm_layer: Callable[[int], nn.Module],
    ):
        super().__init__(in_channels, channels, stride, shortcut, norm_layer=norm_layer)
        self.out_channels = channels
        self.residual = Residual()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.residual(self.bn2(self.conv2(out)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _block(
    in_channels: int, channels: int, stride: int, norm: Callable[[int], nn.Module]
) -> DFNetBlock:
    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), norm(channels)
        )
    return DFNetBlock(in_channels, channels, stride, shortcut, norm_layer=norm)


@BACKBONE_REGISTRY.register()
def build_dfnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DFNet:
    """Build the DFNet of `MODEL.DFNET`."""
    check_keys(cfg, "MODEL.DFNET.VARIANT")
    variant = cfg.MODEL.DFNET.VARIANT
    backbone = DFNet(
        VARIANTS[variant],
        norm=partial(get_norm, cfg.MODEL.DFNET.NORM),
        out_features=cfg.MODEL.DFNET.OUT_FEATURES,
        in_channels=input_shape.channels,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return fit_to_device(cfg, backbone)
