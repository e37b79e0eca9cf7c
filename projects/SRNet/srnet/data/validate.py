"""Annotations that contradict each other or the model: which file, which id, and what is wrong."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .tasks import task_of


@contextmanager
def explain_dataset_errors(dataset_names: Sequence[str]) -> Iterator[None]:
    """Turn the KeyErrors of Detectron2's loaders into messages with the file and the id.

    Annotations are read a second time only where loading them failed.

    Raises:
        FileNotFoundError: an image of a panoptic dataset has no semantic label.
        ValueError: an annotation names a category that its file does not define.
    """
    try:
        yield
    except KeyError as error:
        for name in dataset_names:
            metadata = MetadataCatalog.get(name)
            if not metadata.get("json_file"):
                continue
            with open(metadata.json_file) as f:
                annotations = json.load(f)
            _explain_category(metadata.json_file, annotations, error)
            _explain_label(metadata, annotations, error)
        raise


def _explain_category(json_file: str, annotations: dict, error: KeyError) -> None:
    categories = {category["id"] for category in annotations["categories"]}
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    for annotation in annotations["annotations"]:
        if annotation["category_id"] not in categories:
            image_id = annotation["image_id"]
            raise ValueError(
                f"{json_file}: annotation {annotation['id']} of the image "
                f"{files.get(image_id, '?')} (id {image_id}) has category_id "
                f"{annotation['category_id']}, which is not among the file's categories"
            ) from error


def _explain_label(metadata, annotations: dict, error: KeyError) -> None:
    missing = str(error.args[0]) if error.args else ""
    for image in annotations["images"]:
        path = os.path.join(metadata.image_root, image["file_name"])
        if metadata.get("sem_seg_root") and path == missing:
            label = os.path.splitext(image["file_name"])[0] + ".png"
            raise FileNotFoundError(
                f"the image {path} (id {image['id']}) or its semantic label "
                f"{os.path.join(metadata.sem_seg_root, label)}, which is made from its panoptic "
                "PNG (datasets/README.md), is missing"
            ) from error


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


def check_panoptic_files(dataset_name: str) -> None:
    """Check that every image of a panoptic dataset has its panoptic PNG.

    Raises:
        FileNotFoundError: the first PNG that is missing, with the id of its image.
    """
    metadata = MetadataCatalog.get(dataset_name)
    with open(metadata.panoptic_json) as f:
        annotations = json.load(f)["annotations"]
    present = set(os.listdir(metadata.panoptic_root))
    for annotation in annotations:
        if annotation["file_name"] not in present:
            path = os.path.join(metadata.panoptic_root, annotation["file_name"])
            raise FileNotFoundError(
                f"the panoptic PNG {path} of the image with id {annotation['image_id']} is "
                f"missing; {metadata.panoptic_json} lists it"
            )


def check_against_datasets(cfg: CfgNode) -> None:
    """Compare the class counts of a config with those of its datasets.

    Raises:
        ValueError: they differ; the message names the key, the dataset and both values.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    task = task_of(cfg)
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
