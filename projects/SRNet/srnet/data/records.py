"""From the names of datasets to the records of their images, with checked annotations.

What Detectron2's `get_detection_dataset_dicts` does, but a file in COCO's format is read once, by
:func:`srnet.data.validate.read_coco`, so that checking it costs no second reading.
"""

import itertools
import os
from collections.abc import Sequence
from functools import partial
from typing import cast

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.build import (
    check_metadata_consistency,
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from detectron2.structures import BoxMode
from pycocotools import mask as mask_api
from torch.utils.data import ConcatDataset, Dataset

from .datasets.panoptic_folders import load_after, load_separated
from .mapped_dataset import Items
from .paths import check_inside_image_root
from .validate import read_coco


def load_records(cfg: CfgNode, names: Sequence[str], is_train: bool) -> list[dict] | Items[dict]:
    """Load datasets as one, in Detectron2's standard form.

    Args:
        cfg: the config, for what is left out in training.
        names: registered datasets.
        is_train: leave out images without instances or with few keypoints, as the config says.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: annotations are wrong, an image is outside the dataset's image folder, or no
            image is left; the message names the file.
    """
    loaded = [load_dataset(name, masks=cfg.MODEL.MASK_ON, labelled=is_train) for name in names]
    if isinstance(loaded[0], Dataset):
        return ConcatDataset(cast("list[Dataset]", loaded)) if len(loaded) > 1 else loaded[0]
    found = cast("list[list[dict]]", loaded)
    for name, records in zip(names, found, strict=True):
        if not records:
            raise ValueError(f"the dataset {name} has no images")
        outside = cfg.DATASETS.ALLOW_OUTSIDE_ROOT
        check_inside_image_root(records, name, allow_outside=outside)
    if cfg.MODEL.LOAD_PROPOSALS:
        files = cfg.DATASETS.PROPOSAL_FILES_TRAIN if is_train else _test_proposals(cfg, names)
        found = [load_proposals_into_dataset(r, f) for r, f in zip(found, files, strict=True)]
    records = list(itertools.chain.from_iterable(found))
    if "annotations" not in records[0]:
        return records
    if is_train:
        count = len(records)
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            records = filter_images_with_only_crowd_annotations(records)
        keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        if cfg.MODEL.KEYPOINT_ON and keypoints > 0:
            records = filter_images_with_few_keypoints(records, keypoints)
        if not records:
            raise ValueError(
                f"none of the {count} images of {', '.join(names)} has an instance that is not a "
                "crowd, and DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves out such images"
            )
    if MetadataCatalog.get(names[0]).get("thing_classes"):
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(records, MetadataCatalog.get(names[0]).thing_classes)
    return records


def _test_proposals(cfg: CfgNode, names: Sequence[str]) -> list[str]:
    files = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=True))
    return [files[name] for name in names]


def load_dataset(
    name: str, *, masks: bool = False, labelled: bool = True
) -> list[dict] | Items[dict]:
    """Load one dataset: with checks, where Detectron2's loaders of COCO's format would read it.

    Args:
        name: a registered dataset.
        masks: every instance needs a segmentation.
        labelled: it must have annotations.
    """
    if not _is_coco(name):
        return DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    content = read_coco(metadata.json_file, masks=masks, labelled=labelled)
    set_classes(metadata, content["categories"])
    records = to_records(content, metadata)
    if metadata.evaluator_type == "coco_panoptic_seg":
        _add_labels(records, metadata)
    return records


def _is_coco(name: str) -> bool:
    """Whether a dataset is registered by Detectron2's functions for COCO's format.

    Checks first that the files are there, where the registration has such a check.
    """
    load = DatasetCatalog.data.get(name)
    if isinstance(load, partial) and load.func is load_after:
        check, load = load.args
        check()
    metadata = MetadataCatalog.get(name)
    kind, labels = metadata.get("evaluator_type"), metadata.get("sem_seg_root")
    ours = isinstance(load, partial) and load.func is load_separated
    return (
        (ours or getattr(load, "__module__", "").startswith("detectron2.data.datasets."))
        and (kind == "coco" or (kind == "coco_panoptic_seg" and bool(labels)))
        and bool(metadata.get("json_file") and metadata.get("image_root"))
    )


def set_classes(metadata: Metadata, categories: list[dict]) -> None:
    """Set the classes of a dataset as Detectron2 does, or compare them with those it has.

    Raises:
        ValueError: they differ.
    """
    ordered = sorted(categories, key=lambda category: category["id"])
    names = [category["name"] for category in ordered]
    known = metadata.get("thing_classes")
    if known and list(known) != names:
        wrong = [n for n in names if n not in known] or [n for n in known if n not in names]
        raise ValueError(
            f"{metadata.json_file} has {len(names)} categories, and the dataset {metadata.name} is "
            f"registered with {len(known)}; they differ in {', '.join(wrong[:5]) or 'their order'}"
            ". Register a set of other categories under a name of its own"
        )
    metadata.thing_classes = names
    mapping = {category["id"]: index for index, category in enumerate(ordered)}
    known = metadata.get("thing_dataset_id_to_contiguous_id")
    if known and known != mapping:
        identity = next(i for i in sorted({*known, *mapping}) if known.get(i) != mapping.get(i))
        raise ValueError(
            f"{metadata.json_file} numbers the categories of {metadata.name} in another way than "
            f"it is registered: the id {identity} is the class {mapping.get(identity)} there and "
            f"{known.get(identity)} here"
        )
    metadata.thing_dataset_id_to_contiguous_id = mapping


def to_records(content: dict, metadata: Metadata) -> list[dict]:
    """Bring the content of a checked file into Detectron2's form, ordered by image id.

    Polygons of less than three points are dropped, and instances of nothing else with them.
    """
    classes = metadata.thing_dataset_id_to_contiguous_id
    objects: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
    for annotation in content.get("annotations", ()):
        if annotation.get("ignore", 0):
            raise ValueError(
                f"{metadata.json_file}: annotation {annotation['id']} has ignore "
                f"{annotation['ignore']!r}, which Detectron2 does not know"
            )
        found = {"iscrowd": annotation["iscrowd"], "bbox": annotation["bbox"]}
        found["category_id"] = classes[annotation["category_id"]]
        found["bbox_mode"] = BoxMode.XYWH_ABS
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
            segmentation = mask_api.frPyObjects(segmentation, *segmentation["size"])
        if segmentation:
            found["segmentation"] = segmentation
        if annotation.get("keypoints"):
            # Of indices of pixels to coordinates; every third number is the visibility.
            found["keypoints"] = [
                value if place % 3 == 2 else value + 0.5
                for place, value in enumerate(annotation["keypoints"])
            ]
        objects[annotation["image_id"]].append(found)
    return [
        {
            "file_name": os.path.join(metadata.image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": objects[image["id"]],
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]


def _add_labels(records: list[dict], metadata: Metadata) -> None:
    """Add the semantic labels of Panoptic FPN.

    Raises:
        FileNotFoundError: an image or its label is missing.
    """
    images, labels = set(os.listdir(metadata.image_root)), set(os.listdir(metadata.sem_seg_root))
    for record in records:
        name = os.path.basename(record["file_name"])
        label = os.path.splitext(name)[0] + ".png"
        path = os.path.join(metadata.sem_seg_root, label)
        if name not in images or label not in labels:
            raise FileNotFoundError(
                f"the image {record['file_name']} (id {record['image_id']}) or its semantic label "
                f"{path}, which is made from its panoptic PNG (datasets/README.md), is missing"
            )
        record["sem_seg_file_name"] = path
