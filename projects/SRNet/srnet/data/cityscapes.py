"""Cityscapes (Cordts et al., CVPR 2016): Detectron2's names, and train and val together."""

import logging
import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES

from .semantic_folders import preparation_advice

# The cities and the number of images of a complete split.
CITIES = {
    "train": [
        "aachen",
        "bochum",
        "bremen",
        "cologne",
        "darmstadt",
        "dusseldorf",
        "erfurt",
        "hamburg",
        "hanover",
        "jena",
        "krefeld",
        "monchengladbach",
        "strasbourg",
        "stuttgart",
        "tubingen",
        "ulm",
        "weimar",
        "zurich",
    ],
    "val": ["frankfurt", "lindau", "munster"],
    "test": ["berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"],
}
IMAGES = {"train": 2975, "val": 500, "test": 1525}
IMAGE_SUFFIX = "_leftImg8bit.png"
TRAIN_ID_SUFFIX = "_gtFine_labelTrainIds.png"
PREPARE = "python datasets/prepare_cityscapes.py"
VOID = 255


def load_cityscapes(root: str, split: str) -> list[dict]:
    """List a split as Detectron2's standard dataset dicts.

    Args:
        root: the folder with `leftImg8bit/` and `gtFine/`.
        split: "train", "val" or "test"; the last has no labels.

    Returns:
        Dicts with "file_name", "image_id" and, but for test, "sem_seg_file_name".

    Raises:
        FileNotFoundError: a folder, a city's labels or label images are missing; the message names
            the first and the command that makes them.
    """
    image_dir = os.path.join(root, "leftImg8bit", split)
    label_dir = os.path.join(root, "gtFine", split)
    advice = preparation_advice(PREPARE)
    for folder in (image_dir,) if split == "test" else (image_dir, label_dir):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"the folder {os.path.abspath(folder)} is missing. {advice}")
    cities = _folders(image_dir)
    if split != "test":
        unmatched = sorted(set(cities) ^ set(_folders(label_dir)))
        if unmatched:
            wanted = label_dir if unmatched[0] in cities else image_dir
            raise FileNotFoundError(
                f"{len(unmatched)} cities have images or labels alone: the first missing folder is "
                f"{os.path.abspath(os.path.join(wanted, unmatched[0]))}. {advice}"
            )
    dicts, missing = [], []
    for city in cities:
        names = sorted(os.listdir(os.path.join(image_dir, city)))
        labels = set() if split == "test" else set(os.listdir(os.path.join(label_dir, city)))
        for name in names:
            if not name.endswith(IMAGE_SUFFIX):
                continue
            stem = name.removesuffix(IMAGE_SUFFIX)
            record = {"file_name": os.path.join(image_dir, city, name), "image_id": stem}
            if split != "test":
                label = stem + TRAIN_ID_SUFFIX
                record["sem_seg_file_name"] = os.path.join(label_dir, city, label)
                if label not in labels:
                    missing.append(record["sem_seg_file_name"])
            dicts.append(record)
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(dicts)} labelTrainIds images are missing, the first is "
            f"{os.path.abspath(missing[0])}. {advice}"
        )
    if not dicts:
        raise FileNotFoundError(
            f"no image CITY/*{IMAGE_SUFFIX} is in {os.path.abspath(image_dir)}. {advice}"
        )
    absent = sorted(set(CITIES[split]) - set(cities))
    if absent or len(dicts) != IMAGES[split]:
        logging.getLogger(__name__).warning(
            "%s holds %d images; the complete split has %d. Missing cities: %s",
            image_dir,
            len(dicts),
            IMAGES[split],
            ", ".join(absent) or "none",
        )
    return dicts


def load_cityscapes_splits(root: str, splits: tuple[str, ...]) -> list[dict]:
    """List several splits as one; arguments and errors as :func:`load_cityscapes`."""
    return [record for split in splits for record in load_cityscapes(root, split)]


def register_all_cityscapes(root: str) -> None:
    """Register `cityscapes_fine_sem_seg_{train,val,test,trainval}` under `root`.

    Detectron2 has the first three. They keep its metadata, but say what is missing, and the test
    split does not ask for labels.
    """
    folder = os.path.join(root, "cityscapes")
    metadata = MetadataCatalog.get("cityscapes_fine_sem_seg_train")
    for name, parts in {**{s: (s,) for s in IMAGES}, "trainval": ("train", "val")}.items():
        dataset = f"cityscapes_fine_sem_seg_{name}"
        if dataset in DatasetCatalog.list():
            DatasetCatalog.remove(dataset)
        DatasetCatalog.register(dataset, partial(load_cityscapes_splits, folder, parts))
        MetadataCatalog.get(dataset).set(
            stuff_classes=metadata.stuff_classes,
            stuff_colors=[list(category["color"]) for category in CITYSCAPES_CATEGORIES],
            ignore_label=VOID,
            evaluator_type="cityscapes_sem_seg",
        )


def _folders(path: str) -> list[str]:
    return sorted(n for n in os.listdir(path) if os.path.isdir(os.path.join(path, n)))
