"""Cityscapes (Cordts et al., CVPR 2016): Detectron2's names, and train and val together."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from detectron2.data.datasets.cityscapes import _cityscapes_files_to_dict
from detectron2.utils import comm

from srnet.extras import require_extra

from .cityscapes_scripts import provide_cityscapesscripts
from .semantic_folders import list_files, preparation_advice

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
# The last two for the instances: trained on, and evaluated against.
INSTANCE_SUFFIXES = ("_gtFine_labelIds.png", "_gtFine_polygons.json", "_gtFine_instanceIds.png")
PREPARE = "srnet prepare cityscapes"
VOID = 255


def load_cityscapes(root: str, split: str) -> list[dict]:
    """List a split as Detectron2's standard dataset dicts of semantic segmentation.

    Args:
        root: the folder with `leftImg8bit/` and `gtFine/`.
        split: "train", "val" or "test"; the last has no labels.

    Returns:
        Dicts with "file_name", "image_id" and, but for test, "sem_seg_file_name".

    Raises:
        FileNotFoundError: a folder, a city's labels or label images are missing; the message names
            the first and the command that makes them.
    """
    dicts = []
    for image, stem in _list_images(root, split, () if split == "test" else (TRAIN_ID_SUFFIX,)):
        record = {"file_name": image, "image_id": os.path.basename(stem)}
        if split != "test":
            record["sem_seg_file_name"] = stem + TRAIN_ID_SUFFIX
        dicts.append(record)
    return dicts


def load_cityscapes_splits(root: str, splits: tuple[str, ...]) -> list[dict]:
    """List several splits as one; arguments and errors as :func:`load_cityscapes`."""
    return [record for split in splits for record in load_cityscapes(root, split)]


def load_instances(root: str, split: str) -> list[dict]:
    """List "train" or "val" with its instances, which Detectron2 cuts out of the polygons.

    Arguments, returned dicts (with "annotations") and errors as :func:`load_cityscapes`, and:

    Raises:
        ModuleNotFoundError: a package of the extra `eval` is missing; the message names it.
        ValueError: an image's polygons cannot be read; the message names the file.
    """
    for package in ("cityscapesscripts", "shapely"):
        require_extra(package, "reading the instances of Cityscapes")
    from cityscapesscripts.helpers.labels import labels

    images = _list_images(root, split, INSTANCE_SUFFIXES)
    workers = max((os.cpu_count() or 1) // comm.get_world_size() // 2, 1)
    # Not Detectron2's load_cityscapes_instances: it takes hidden files for images, and the
    # processes of its pool may lack the work-around.
    with ProcessPoolExecutor(workers, initializer=provide_cityscapesscripts) as pool:
        records = list(pool.map(_read_instances, images, chunksize=16))
    kinds = [label.id for label in labels if label.hasInstances and not label.ignoreInEval]
    for record in records:
        for annotation in record["annotations"]:
            annotation["category_id"] = kinds.index(annotation["category_id"])
    return records


def _read_instances(image: tuple[str, str]) -> dict:
    """Read the instances of an item of :func:`_list_images`, with the label ids as categories."""
    polygons = f"{image[1]}_gtFine_polygons.json"
    files = (image[0], f"{image[1]}_gtFine_instanceIds.png", None, polygons)
    try:
        return _cityscapes_files_to_dict(files, from_json=True, to_polygons=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{polygons} is not a Cityscapes annotation: {error!r}") from error


def register_all_cityscapes(root: str) -> None:
    """Register `cityscapes_fine_sem_seg_{train,val,test,trainval}` and `..._instance_seg_...`.

    Detectron2 has all but trainval. They keep its metadata, but say what is missing, and the
    semantic test split does not ask for labels.

    Args:
        root: the folder with `cityscapes/`.
    """
    folder = os.path.join(root, "cityscapes")
    metadata = MetadataCatalog.get("cityscapes_fine_sem_seg_train")
    for name, parts in {**{s: (s,) for s in IMAGES}, "trainval": ("train", "val")}.items():
        dataset = f"cityscapes_fine_sem_seg_{name}"
        _register(dataset, partial(load_cityscapes_splits, folder, parts))
        MetadataCatalog.get(dataset).set(
            stuff_classes=metadata.stuff_classes,
            stuff_colors=[list(category["color"]) for category in CITYSCAPES_CATEGORIES],
            ignore_label=VOID,
            evaluator_type="cityscapes_sem_seg",
        )
    for split in ("train", "val"):
        dataset = f"cityscapes_fine_instance_seg_{split}"
        _register(dataset, partial(load_instances, folder, split))
        MetadataCatalog.get(dataset).set(
            thing_classes=metadata.thing_classes,
            # With the slash that Detectron2 has set, which takes no other value.
            gt_dir=os.path.join(folder, "gtFine", split) + "/",
            evaluator_type="cityscapes_instance",
        )


def _register(name: str, load: Callable[[], list[dict]]) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
    DatasetCatalog.register(name, load)


def _list_images(root: str, split: str, suffixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """List a split: the path of an image, and that of its label files without their `suffixes`.

    No suffix means no labels. Errors as :func:`load_cityscapes`.
    """
    image_dir = os.path.join(root, "leftImg8bit", split)
    label_dir = os.path.join(root, "gtFine", split)
    advice = preparation_advice(PREPARE)
    for folder in (image_dir, label_dir) if suffixes else (image_dir,):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"the folder {os.path.abspath(folder)} is missing. {advice}")
    cities = _folders(image_dir)
    if suffixes:
        unmatched = sorted(set(cities) ^ set(_folders(label_dir)))
        if unmatched:
            wanted = label_dir if unmatched[0] in cities else image_dir
            raise FileNotFoundError(
                f"{len(unmatched)} cities have images or labels alone: the first missing folder is "
                f"{os.path.abspath(os.path.join(wanted, unmatched[0]))}. {advice}"
            )
    images, missing = [], []
    for city in cities:
        there = set(os.listdir(os.path.join(label_dir, city))) if suffixes else set()
        for name in list_files(os.path.join(image_dir, city), IMAGE_SUFFIX.lower()):
            stem = name.removesuffix(IMAGE_SUFFIX)
            labels = os.path.join(label_dir, city, stem)
            images.append((os.path.join(image_dir, city, name), labels))
            missing += [labels + suffix for suffix in suffixes if stem + suffix not in there]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} label files of {len(images)} images are missing, the first is "
            f"{os.path.abspath(missing[0])}. {advice}"
        )
    if not images:
        raise FileNotFoundError(
            f"no image CITY/*{IMAGE_SUFFIX} is in {os.path.abspath(image_dir)}. {advice}"
        )
    absent = sorted(set(CITIES[split]) - set(cities))
    if absent or len(images) != IMAGES[split]:
        logging.getLogger(__name__).warning(
            "%s holds %d images; the complete split has %d. Missing cities: %s",
            image_dir,
            len(images),
            IMAGES[split],
            ", ".join(absent) or "none",
        )
    return images


def _folders(path: str) -> list[str]:
    return sorted(n for n in list_files(path, "") if os.path.isdir(os.path.join(path, n)))
