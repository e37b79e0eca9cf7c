"""Backbones, registered in Detectron2's BACKBONE_REGISTRY."""

from .builders import (
    build_dfnet_context_backbone,
    build_resnet_context_backbone,
    build_resnet_context_fpn_backbone,
    build_resnet_deeplab_context_backbone,
)
from .dfnet import DFNet, build_dfnet_backbone
from .fpn import ContextFPN
from .insert import insert_context
from .timm_backbone import TimmBackbone, build_timm_backbone, build_timm_fpn_backbone
from .wider_resnet import WiderResNet38, build_wider_resnet_backbone

__all__ = [
    "ContextFPN",
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
