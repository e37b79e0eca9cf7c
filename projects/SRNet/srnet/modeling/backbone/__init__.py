"""Backbones, registered in Detectron2's BACKBONE_REGISTRY."""

from .dfnet import DFNet, build_dfnet_backbone
from .insert import (
    build_dfnet_context_backbone,
    build_resnet_context_backbone,
    build_resnet_context_fpn_backbone,
    build_resnet_deeplab_context_backbone,
    insert_context,
)
from .timm_backbone import TimmBackbone, build_timm_backbone, build_timm_fpn_backbone
from .wider_resnet import WiderResNet38, build_wider_resnet_backbone

__all__ = [
    "DFNet",
    "TimmBackbone",
    "WiderResNet38",
    "build_dfnet_backbone",
    "build_dfnet_context_backbone",
    "build_resnet_context_backbone",
    "build_resnet_context_fpn_backbone",
    "build_resnet_deeplab_context_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
    "build_wider_resnet_backbone",
    "insert_context",
]
