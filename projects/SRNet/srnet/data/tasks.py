"""What each meta-architecture needs of the data: one table."""

from collections.abc import Callable
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from .mappers.classification import ClassificationMapper
from .mappers.detection import DetectionMapper, PanopticMapper
from .mappers.semantic import SemanticSegmentationMapper


class Task(NamedTuple):
    """The needs of a meta-architecture.

    Attributes:
        mapper: the class that maps the record of an image to what the model takes.
        instances: its instances have the classes of `MODEL.ROI_HEADS`.
        semantic_labels: its label images have the classes of `MODEL.SEM_SEG_HEAD`.
        one_size: all its test images have one size, so they are predicted in batches.
    """

    mapper: Any
    instances: bool = False
    semantic_labels: bool = False
    one_size: bool = False


TASKS: dict[str, Task] = {
    "GeneralizedRCNN": Task(DetectionMapper, instances=True),
    "ImageClassifier": Task(ClassificationMapper, one_size=True),
    "PanopticFPN": Task(PanopticMapper, instances=True, semantic_labels=True),
    "SRSemanticSegmentor": Task(SemanticSegmentationMapper, semantic_labels=True),
    "SemanticSegmentor": Task(SemanticSegmentationMapper, semantic_labels=True),
}
# Any other: the mapper does what Detectron2's does, and nothing is known to be checked.
OTHER = Task(DetectionMapper)


def task_of(cfg: CfgNode) -> Task:
    """The needs of `MODEL.META_ARCHITECTURE`."""
    return TASKS.get(cfg.MODEL.META_ARCHITECTURE, OTHER)


def build_mapper(
    cfg: CfgNode, is_train: bool, *, augment: bool = True
) -> Callable[[dict], dict | None]:
    """Build the mapper of `MODEL.META_ARCHITECTURE`.

    Args:
        cfg: the config of the model.
        is_train: keep the labels, and augment.
        augment: False for the images of an evaluation with the labels of a training.
    """
    mapper = task_of(cfg).mapper
    if is_train and not augment:
        return mapper(cfg, is_train, **mapper.without_augmentation(cfg))
    return mapper(cfg, is_train)
