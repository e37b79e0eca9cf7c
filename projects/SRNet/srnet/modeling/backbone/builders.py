"""The registered builders of backbones with the modules of `MODEL.CONTEXT`."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import ResNet, build_resnet_backbone
from detectron2.projects.deeplab import build_resnet_deeplab_backbone

from ..build import fit_to_device
from ..context import context_builder, fold_choice
from .deform_conv import available_deform_conv
from .dfnet import DFNet, build_dfnet_backbone
from .fpn import ContextFPN, fpn_arguments
from .insert import insert_context


def _with_context(cfg: CfgNode, backbone: ResNet | DFNet, norm: str) -> ResNet | DFNet:
    """Add the modules of `MODEL.CONTEXT`: GATE to every block, NAME where the node says."""
    context = cfg.MODEL.CONTEXT
    # New modules have no statistics to freeze. A process of a detector has one or two images, too
    # few for a plain batch norm.
    norm = "SyncBN" if norm == "FrozenBN" else norm
    build_gate = context_builder(context, norm=norm, key="GATE")
    if build_gate is not None:
        insert_context(backbone, build_gate, stages=backbone.stage_names, position="residual")
        if not context.STAGES:
            return fit_to_device(cfg, backbone)  # NAME is that of the head
        if context.NAME and context.POSITION == "residual":
            raise ValueError(
                "MODEL.CONTEXT.GATE stands on the residual branch of every block, so POSITION must "
                "be 'output' for NAME"
            )
    build = context_builder(context, norm=norm)
    if build is not None:
        insert_context(
            backbone,
            build,
            stages=context.STAGES,
            blocks=context.BLOCKS,
            position=context.POSITION,
        )
    return fit_to_device(cfg, backbone)


@BACKBONE_REGISTRY.register()
def build_resnet_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's `build_resnet_backbone` with the modules of `MODEL.CONTEXT`."""
    with available_deform_conv():
        backbone = build_resnet_backbone(cfg, input_shape)
    return _with_context(cfg, backbone, cfg.MODEL.RESNETS.NORM)


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build Detectron2's `build_resnet_deeplab_backbone` with the modules of `MODEL.CONTEXT`."""
    with available_deform_conv():
        backbone = build_resnet_deeplab_backbone(cfg, input_shape)
    return _with_context(cfg, backbone, cfg.MODEL.RESNETS.NORM)


@BACKBONE_REGISTRY.register()
def build_dfnet_context_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DFNet:
    """Build `build_dfnet_backbone` with the modules of `MODEL.CONTEXT`."""
    return _with_context(cfg, build_dfnet_backbone(cfg, input_shape), cfg.MODEL.DFNET.NORM)


@BACKBONE_REGISTRY.register()
def build_resnet_context_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ContextFPN:
    """Build Detectron2's `build_resnet_fpn_backbone` with the modules of `MODEL.CONTEXT`."""
    fpn = ContextFPN(
        bottom_up=build_resnet_context_backbone(cfg, input_shape),
        **fpn_arguments(cfg),
        fold=fold_choice(cfg.MODEL.CONTEXT),
    )
    return fit_to_device(cfg, fpn)
