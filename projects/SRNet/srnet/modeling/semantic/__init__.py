"""Semantic heads, registered in Detectron2's SEM_SEG_HEADS_REGISTRY."""

from .base import SemanticHead, resize_map
from .deeplab_head import SRDeepLabV3PlusHead
from .df_seg_head import DFSegHead
from .fcn_head import FCNHead

__all__ = ["DFSegHead", "FCNHead", "SRDeepLabV3PlusHead", "SemanticHead", "resize_map"]
