"""Classes of own data: the same in all datasets of a config, and counted by the model."""

import logging
from collections.abc import Container

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .datasets.custom import custom_entry
from .datasets.imagenet import difference
from .tasks import task_of

# Meta-architecture -> the kinds of DATASETS.CUSTOM that it trains on.
FITTING = {
    "GeneralizedRCNN": ("instances", "panoptic"),
    "ImageClassifier": ("image_folder",),
    "PanopticFPN": ("panoptic",),
    "SRSemanticSegmentor": ("semantic", "panoptic"),
    "SemanticSegmentor": ("semantic", "panoptic"),
}


def follow_custom_datasets(cfg: CfgNode, given: Container[str] = ()) -> None:
    """Give a model the numbers of classes, and the ignored value, of the own data it is to learn.

    The class names of each entry are noted in `DATASETS.CUSTOM`, so that the config says them where
    the data are not.

    Args:
        cfg: the config, changed in place; its datasets are registered.
        given: keys that the user has set, which stay as they are.

    Raises:
        ValueError: a dataset is of a kind that the model does not learn, or two of them have
            different classes.
    """
    names = [*dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))]
    own = [name for name in names if custom_entry(name)]
    cfg.DATASETS.CUSTOM = [_with_classes(entry) for entry in cfg.DATASETS.CUSTOM]
    if not own:
        return
    kinds = FITTING.get(cfg.MODEL.META_ARCHITECTURE)
    for name in own:
        kind = MetadataCatalog.get(name).custom_entry["KIND"]
        if kinds and kind not in kinds:
            raise ValueError(
                f"DATASETS.CUSTOM ({name}): KIND is {kind}, and MODEL.META_ARCHITECTURE "
                f"{cfg.MODEL.META_ARCHITECTURE} takes {' or '.join(kinds)}"
            )
    _check_same_classes(names)
    metadata, task = MetadataCatalog.get(own[0]), task_of(cfg)
    values: dict[str, int] = {}
    if task.instances:
        values["MODEL.ROI_HEADS.NUM_CLASSES"] = len(metadata.thing_classes)
    if task.semantic_labels:
        values["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] = len(metadata.stuff_classes)
        values["MODEL.SEM_SEG_HEAD.IGNORE_VALUE"] = metadata.ignore_label
    if metadata.custom_entry["KIND"] == "image_folder":
        values["MODEL.CLASSIFIER.NUM_CLASSES"] = len(metadata.thing_classes)
    for key, value in values.items():
        if key not in given:
            cfg.merge_from_list([key, value])
    logging.getLogger(__name__).info("classes of %s: %s", own[0], values)


def _with_classes(entry: dict) -> dict:
    """An entry with the class names that its files say."""
    name = entry["NAME"]
    if custom_entry(name) is None:
        return entry
    metadata = MetadataCatalog.get(name)
    if entry["KIND"] != "panoptic":
        names = metadata.get("thing_classes") or metadata.stuff_classes
        return {**entry, "CLASSES": list(names)}
    things = metadata.thing_dataset_id_to_contiguous_id if "CLASSES" not in entry else None
    if things is None:
        return entry
    stuff = metadata.stuff_dataset_id_to_contiguous_id
    by_id = {i: metadata.thing_classes[k] for i, k in things.items()}
    by_id |= {i: metadata.stuff_classes[k] for i, k in stuff.items() if k}
    names = [by_id[i] for i in sorted(by_id)]
    return {**entry, "CLASSES": names, "THINGS": list(metadata.thing_classes)}


def _check_same_classes(names: list[str]) -> None:
    """Refuse datasets of different classes, or of one order and another.

    Raises:
        ValueError: the message names two datasets and what differs.
    """
    for key in ("thing_classes", "stuff_classes"):
        known = [(name, MetadataCatalog.get(name).get(key)) for name in names]
        known = [(name, list(classes)) for name, classes in known if classes]
        for name, classes in known[1:]:
            first, reference = known[0]
            if classes != reference:
                raise ValueError(
                    f"the datasets {first} and {name} have different classes: in {name} "
                    f"{difference(classes, reference) or 'their order differs'}"
                )
