"""Datasets, and how their images become batches.

Importing this package registers the datasets of `srnet.data.datasets` in Detectron2's catalogs,
under the folder `DETECTRON2_DATASETS`, and does nothing else.
"""

from .custom_classes import follow_custom_datasets
from .datasets.ade20k import register_all_ade20k
from .datasets.camvid import register_all_camvid
from .datasets.cityscapes import register_all_cityscapes
from .datasets.custom import register_custom_datasets
from .datasets.image_folder import ImageFolder, load_image_folder
from .datasets.imagenet import (
    check_class_folders,
    register_all_imagenet,
    register_image_folders,
)
from .datasets.pascal_context import register_all_pascal_context
from .datasets.root import datasets_root
from .datasets.scenes import register_all_scenes
from .loader import (
    build_test_loader,
    build_train_loader,
    build_validation_loader,
    start_at_iteration,
)
from .mappers.classification import ClassificationMapper
from .mappers.detection import DetectionMapper, PanopticMapper
from .mappers.semantic import SemanticSegmentationMapper, build_semantic_augmentation
from .tasks import TASKS, Task, build_mapper, task_of
from .validate import check_against_datasets

_root = datasets_root()
register_all_ade20k(_root)
register_all_camvid(_root)
register_all_cityscapes(_root)
register_all_imagenet(_root)
register_all_pascal_context(_root)
register_all_scenes(_root)

__all__ = [
    "ClassificationMapper",
    "DetectionMapper",
    "ImageFolder",
    "PanopticMapper",
    "SemanticSegmentationMapper",
    "TASKS",
    "Task",
    "build_mapper",
    "build_semantic_augmentation",
    "build_test_loader",
    "build_train_loader",
    "build_validation_loader",
    "check_against_datasets",
    "check_class_folders",
    "follow_custom_datasets",
    "load_image_folder",
    "register_all_ade20k",
    "register_all_camvid",
    "register_all_cityscapes",
    "register_all_imagenet",
    "register_all_pascal_context",
    "register_all_scenes",
    "register_custom_datasets",
    "register_image_folders",
    "start_at_iteration",
    "task_of",
]
