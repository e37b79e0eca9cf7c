"""Models, registered in Detectron2's registries by importing this package."""

import detectron2.projects.deeplab  # noqa: F401  registers build_resnet_deeplab_backbone

from .backbone import (
    DFNet,
    WiderResNet38,
    build_dfnet_backbone,
    build_dfnet_context_backbone,
    build_resnet_context_backbone,
    build_resnet_context_fpn_backbone,
    build_resnet_deeplab_context_backbone,
    build_wider_resnet_backbone,
    insert_context,
)
from .build import build_model, fit_to_device
from .context import CONTEXT_REGISTRY, build_context
from .global_batch import (
    GlobalBatchCascadeROIHeads,
    GlobalBatchROIHeads,
    GlobalBatchRPN,
    GlobalBatchSemSegFPNHead,
)
from .inference import SemanticInference
from .meta_arch import ImageClassifier, SRSemanticSegmentor
from .semantic import DFSegHead, FCNHead, SRDeepLabV3PlusHead

__all__ = [
    "CONTEXT_REGISTRY",
    "DFNet",
    "DFSegHead",
    "FCNHead",
    "GlobalBatchCascadeROIHeads",
    "GlobalBatchROIHeads",
    "GlobalBatchRPN",
    "GlobalBatchSemSegFPNHead",
    "ImageClassifier",
    "SRDeepLabV3PlusHead",
    "SRSemanticSegmentor",
    "SemanticInference",
    "WiderResNet38",
    "build_context",
    "build_model",
    "fit_to_device",
    "build_dfnet_backbone",
    "build_dfnet_context_backbone",
    "build_resnet_context_backbone",
    "build_resnet_context_fpn_backbone",
    "build_resnet_deeplab_context_backbone",
    "build_wider_resnet_backbone",
    "insert_context",
]
