"""ResNets, ResNeXts and DFNets with a context module in chosen residual blocks.

The ResNets are Detectron2's own, built by its builders, so all its options hold: depth, groups,
width, dilation, deformable convolution, frozen stages, norms. The modules are added afterwards,
under names of their own (``res5.0.context.conv_b.weight``), so the standard parameters keep theirs
and every Detectron2 checkpoint loads as it is.
"""

from collections.abc import Callable, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, ResNet, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.projects.deeplab import build_resnet_deeplab_backbone
from torch import nn

from srnet.layers import SqueezeReasoning, conv_after_context
from srnet.ranges import RANGES

from ..build import fit_to_device
from ..context import build_context, context_channels
from .deform_conv import replace_missing_deform_conv
from .dfnet import DFNet, build_dfnet_backbone

replace_missing_deform_conv()


def insert_context(
    backbone: ResNet | DFNet,
    build: Callable[[int], nn.Module],
    *,
    stages: Sequence[str] = ("res5",),
    blocks: Sequence[int] = (),
    position: str = "output",
) -> ResNet | DFNet:
    """Add a context module to residual blocks of a Detectron2 ResNet or a DFNet, in place.

    A frozen stage gets trainable modules: they are new, and there is nothing in them to keep. The
    generator of PyTorch is left as it was, so with the same seed a network and its twin start from
    the same weights.

    Args:
        backbone: the network.
        build: makes a module (N, C, H, W) -> (N, C, H, W) from C.
        stages: names of stages, "res2" to "res5", or those of DFNet, "stage2" to "stage4".
        blocks: indices of blocks in each of the stages, negative ones counted from the last; empty
            for all.
        position: "output", on the block's output after its last ReLU (section IV-D), as
            `BLOCK.context`; or "residual", on the residual branch before the sum, where SE stands,
            as `context` of its last convolution (DFNet: of `residual`).

    Returns:
        The network.

    Raises:
        ValueError: a stage or block that the network does not have, an unknown position, or a
            module that changes the number of channels.
    """
    unknown = [stage for stage in stages if stage not in backbone.stage_names]
    if unknown or not stages:
        raise ValueError(
            f"MODEL.CONTEXT.STAGES={list(stages)} must name one or more of the backbone's stages "
            f"{', '.join(backbone.stage_names)}"
        )
    RANGES["MODEL.CONTEXT.POSITION"].check("MODEL.CONTEXT.POSITION", position)
    with torch.random.fork_rng(devices=[]):
        for stage in stages:
            for block in _choose(getattr(backbone, stage), blocks, stage):
                module = build(block.out_channels)
                if context_channels(module, block.out_channels) != block.out_channels:
                    raise ValueError(
                        f"MODEL.CONTEXT: {type(module).__name__} changes the number of channels, "
                        "so it cannot stand in a backbone"
                    )
                place = _end_of_residual(block) if position == "residual" else block
                place.context, place.context_is_deferred = module, False
                place.register_forward_hook(_apply_context)
    return backbone


def _end_of_residual(block: nn.Module) -> nn.Module:
    """The last module of the residual branch: Detectron2's convolutions contain their norm."""
    return next(getattr(block, n) for n in ("residual", "conv3", "conv2") if hasattr(block, n))


def _choose(stage: nn.Sequential, blocks: Sequence[int], name: str) -> list[nn.Module]:
    """The blocks of a stage that have these indices, each once."""
    count = len(stage)
    wrong = [index for index in blocks if not -count <= index < count]
    if wrong:
        raise ValueError(
            f"MODEL.CONTEXT.BLOCKS={list(blocks)}: {name} has {count} blocks, so {wrong[0]} is not "
            f"between {-count} and {count - 1}"
        )
    return [stage[index] for index in sorted({i % count for i in blocks or range(count)})]


def _apply_context(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """A forward hook: what leaves `module` goes through its context, unless that runs later."""
    return output if module.context_is_deferred else module.context(output)


class ContextLateral:
    """The FPN's lateral convolution with the context of the block before it, which it can fold.

    No module: block and convolution keep their places and names in the network.

    Args:
        block: the last block of a stage, with SR on its output.
        conv: the lateral convolution on that stage.
    """

    def __init__(self, block: nn.Module, conv: nn.Conv2d):
        block.context_is_deferred = True
        self.block = block
        self.conv = conv

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map what leaves the block (N, C, H, W) to the lateral map (N, O, H, W)."""
        return conv_after_context(self.block.context, self.conv, x)


def defer_context_to_lateral(fpn: FPN) -> FPN:
    """Let the lateral convolution on the last stage run the SR of that stage's last block.

    Nothing else reads that map, so inference can fold the module into the convolution. The network
    computes what it did; `fpn.bottom_up` alone then returns the last map without that module.

    Args:
        fpn: a pyramid on a ResNet, changed in place.

    Returns:
        The pyramid.
    """
    block = getattr(fpn.bottom_up, fpn.in_features[-1])[-1]
    if isinstance(getattr(block, "context", None), SqueezeReasoning):
        fpn.lateral_convs[0] = ContextLateral(block, fpn.lateral_convs[0])
    return fpn


def _with_context(cfg: CfgNode, backbone: ResNet | DFNet, norm: str) -> ResNet | DFNet:
    """Add the modules of `MODEL.CONTEXT`: GATE to every block, NAME where the node says."""
    context = cfg.MODEL.CONTEXT
    # New modules have no statistics to freeze. A process of a detector has one or two images, too
    # few for a plain batch norm.
    norm = "SyncBN" if norm == "FrozenBN" else norm
    if context.GATE:
        insert_context(
            backbone,
            lambda channels: build_context(context, channels, norm=norm, key="GATE"),
            stages=backbone.stage_names,
            position="residual",
        )
        if not context.STAGES:
            return fit_to_device(cfg, backbone)  # NAME is that of the head
        if context.NAME and context.POSITION == "residual":
            raise ValueError(
                "MODEL.CONTEXT.GATE stands on the residual branch of every block, so POSITION must "
                "be 'output' for NAME"
            )
    if not context.NAME:
        return fit_to_device(cfg, backbone)
    backbone = insert_context(
        backbone,
        lambda channels: build_context(context, channels, norm=norm),
        stages=context.STAGES,
        blocks=context.BLOCKS,
        position=context.POSITION,
    )
    return fit_to_device(cfg, backbone)


@BACKBONE_REGISTRY.register()
def build_resnet_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's `build_resnet_backbone` with the modules of `MODEL.CONTEXT`."""
    return _with_context(cfg, build_resnet_backbone(cfg, input_shape), cfg.MODEL.RESNETS.NORM)


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's `build_resnet_deeplab_backbone` with the modules of `MODEL.CONTEXT`."""
    backbone = build_resnet_deeplab_backbone(cfg, input_shape)
    return _with_context(cfg, backbone, cfg.MODEL.RESNETS.NORM)


@BACKBONE_REGISTRY.register()
def build_dfnet_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DFNet:
    """Build `build_dfnet_backbone` with the modules of `MODEL.CONTEXT`."""
    return _with_context(cfg, build_dfnet_backbone(cfg, input_shape), cfg.MODEL.DFNET.NORM)


@BACKBONE_REGISTRY.register()
def build_resnet_context_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's `build_resnet_fpn_backbone` with the modules of `MODEL.CONTEXT`."""
    fpn = FPN(
        bottom_up=build_resnet_context_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    return fit_to_device(cfg, defer_context_to_lateral(fpn))
