"""Datasets whose classes are not those of the model: which file, which id, and what is wrong."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..tasks import task_of


def check_categories(dataset_dicts: Sequence[dict], cfg: CfgNode) -> None:
    """Check that the box head of a model has a class for every instance.

    Args:
        dataset_dicts: Detectron2's standard dicts.
        cfg: the config; models without `MODEL.ROI_HEADS` pass.

    Raises:
        ValueError: the first image with an instance of another class.
    """
    if not task_of(cfg).instances:
        return
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    for record in dataset_dicts:
        for annotation in record.get("annotations", ()):
            if not 0 <= annotation["category_id"] < num_classes:
                raise ValueError(
                    f"the image {record['file_name']} (id {record['image_id']}) has an instance "
                    f"of class {annotation['category_id']}, and MODEL.ROI_HEADS.NUM_CLASSES "
                    f"{num_classes} knows 0 to {num_classes - 1}"
                )


def check_mask_format(dataset_dicts: Sequence[dict], cfg: CfgNode) -> None:
    """Check that the masks of a training are in the form that `INPUT.MASK_FORMAT` says.

    Args:
        dataset_dicts: Detectron2's standard dicts.
        cfg: the config; models without masks pass.

    Raises:
        ValueError: the first image with an RLE where polygons are wanted.
    """
    if not (cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"):
        return
    for record in dataset_dicts:
        for annotation in record.get("annotations", ()):
            if isinstance(annotation.get("segmentation"), dict) and not annotation["iscrowd"]:
                raise ValueError(
                    f"the image {record['file_name']} (id {record['image_id']}) has an instance "
                    "with an RLE, and INPUT.MASK_FORMAT 'polygon' takes polygons alone: set "
                    "INPUT.MASK_FORMAT bitmask"
                )


def check_against_datasets(cfg: CfgNode) -> None:
    """Compare the class counts of a config with those of its datasets.

    Raises:
        ValueError: they differ; the message names the key, the dataset and both values.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    task = task_of(cfg)
    for key in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            if not (isinstance(name, str) and name):
                raise ValueError(f"DATASETS.{key} has {name!r}, which is not a dataset's name")
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type")
        semantic = kind in ("sem_seg", "cityscapes_sem_seg")
        # What is registered without its classes gets them when its annotations are read.
        if task.instances and not semantic and metadata.get("thing_classes"):
            things = len(metadata.thing_classes)
            _check("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS.NUM_CLASSES, name, things)
        if semantic or (task.semantic_labels and kind == "coco_panoptic_seg"):
            # Of a panoptic dataset in Detectron2's separated form: all things as one class, then
            # the stuff.
            stuff = len(metadata.stuff_classes)
            _check("MODEL.SEM_SEG_HEAD.NUM_CLASSES", head.NUM_CLASSES, name, stuff)
            ignored = metadata.ignore_label
            _check("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", head.IGNORE_VALUE, name, ignored)


def _check(key: str, value: int, dataset: str, wanted: int) -> None:
    if value != wanted:
        raise ValueError(f"{key} is {value}, and the dataset {dataset} needs {wanted}")
