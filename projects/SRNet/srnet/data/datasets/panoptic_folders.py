"""Datasets of one class table whose instance and panoptic truth lies in COCO's formats."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import (
    load_coco_json,
    register_coco_instances,
    register_coco_panoptic_separated,
)
from detectron2.data.datasets.coco_panoptic import merge_to_panoptic

from .semantic_folders import load_semantic_folders, preparation_advice

ALL_THINGS = ("things", [82, 18, 128])  # the stuff branch's class 0, as Detectron2 names it


def register_instances_and_panoptic(
    dataset: str,
    split: str,
    classes: Sequence[tuple[str, tuple[int, int, int], bool]],
    images: str,
    folder: str,
    targets: str,
    prepare: str,
) -> None:
    """Register `{dataset}_instance_{split}` and `{dataset}_panoptic_{split}`.

    The panoptic one is in Detectron2's "separated" form, for Panoptic FPN, whose names it makes:
    `{dataset}_panoptic_{split}_separated` and, with the semantic labels of its stuff branch alone,
    `{dataset}_panoptic_{split}_stuffonly`. Their semantic label 0 is all things.

    Args:
        dataset: the first part of the names.
        split: the last.
        classes: name, colour (RGB) and whether it is a thing; COCO's category id is the place in
            this table, from 1.
        images: the folder of the images.
        folder: holds `annotations/{instances,panoptic}_{split}.json` and `panoptic_{split}/`.
        targets: the folder of the stuff branch's labels.
        prepare: the command that makes all this, for the message where something is missing.
    """
    things = [i for i, (_, _, isthing) in enumerate(classes) if isthing]
    stuff = [i for i, (_, _, isthing) in enumerate(classes) if not isthing]
    instance = {
        "thing_classes": [classes[i][0] for i in things],
        "thing_colors": [list(classes[i][1]) for i in things],
        "thing_dataset_id_to_contiguous_id": {i + 1: k for k, i in enumerate(things)},
    }
    panoptic = {
        **instance,
        "stuff_classes": [ALL_THINGS[0], *(classes[i][0] for i in stuff)],
        "stuff_colors": [ALL_THINGS[1], *(list(classes[i][1]) for i in stuff)],
        "stuff_dataset_id_to_contiguous_id": {0: 0, **{i + 1: k for k, i in enumerate(stuff, 1)}},
    }
    instances_json = os.path.join(folder, "annotations", f"instances_{split}.json")
    name = f"{dataset}_instance_{split}"
    register_coco_instances(name, instance, instances_json, images)
    _explain_missing(name, [images, instances_json], prepare)

    name = f"{dataset}_panoptic_{split}"
    segments = os.path.join(folder, f"panoptic_{split}")
    segments_json = os.path.join(folder, "annotations", f"panoptic_{split}.json")
    register_coco_panoptic_separated(
        name, panoptic, images, segments, segments_json, targets, instances_json
    )
    # Detectron2's own loaders take hidden files for images, and .jpg alone.
    load = partial(load_semantic_folders, images, targets, prepare=prepare)
    for form in ("separated", "stuffonly"):
        DatasetCatalog.remove(f"{name}_{form}")
    DatasetCatalog.register(f"{name}_stuffonly", load)
    name = f"{name}_separated"
    merge = partial(load_separated, load, instances_json, images, name)
    DatasetCatalog.register(name, merge)
    _explain_missing(name, [images, instances_json, segments, segments_json, targets], prepare)


def load_separated(
    load_labels: Callable[[], list[dict]], instances_json: str, images: str, name: str
) -> list[dict]:
    """Load instances with the labels of the stuff branch, as Detectron2 does."""
    keys = ("file_name", "sem_seg_file_name")  # the ids of images are those of the instances
    labels = [{key: record[key] for key in keys} for record in load_labels()]
    return merge_to_panoptic(load_coco_json(instances_json, images, name), labels)


def _explain_missing(name: str, needed: list[str], prepare: str) -> None:
    """Make a registered dataset say, when it is read, which of its files or folders is missing."""
    load_checked(name, partial(check_complete, needed, preparation_advice(prepare)))


def load_checked(name: str, check: Callable[[], None]) -> None:
    """Make a registered dataset run a check before it is read."""
    DatasetCatalog.register(name, partial(load_after, check, DatasetCatalog.pop(name)))


def load_after(check: Callable[[], None], load: Callable[[], list[dict]]) -> list[dict]:
    """Run a check, then load a dataset."""
    check()
    return load()


def check_complete(needed: list[str], advice: str) -> None:
    """Check that files and folders are there.

    Raises:
        FileNotFoundError: one of them is missing; the message ends with the advice.
    """
    for path in needed:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{os.path.abspath(path)} is missing. {advice}")
