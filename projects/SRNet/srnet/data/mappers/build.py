"""Which mapper a model's data goes through: one table from the meta-architecture to mappers."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from .classification import ClassificationMapper
from .semantic import SemanticSegmentationMapper

MAPPERS: dict[str, type] = {
    "ImageClassifier": ClassificationMapper,
    "SRSemanticSegmentor": SemanticSegmentationMapper,
    "SemanticSegmentor": SemanticSegmentationMapper,
}


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """Build the mapper of `MODEL.META_ARCHITECTURE`: Detectron2's own where the table has none."""
    return MAPPERS.get(cfg.MODEL.META_ARCHITECTURE, DatasetMapper)(cfg, is_train)
