"""Own data by config: the entries of `DATASETS.CUSTOM` become registered datasets.

`srnet.get_cfg` registers them in each process that reads a config. Importing this registers
nothing. Reading a config again registers its entries anew, in place of those of the same names.
"""

import os
from collections.abc import Callable
from functools import partial

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from srnet.ranges import check_keys

from .custom_coco import register_instances, register_panoptic
from .custom_semantic import register_semantic
from .image_folder import list_classes, load_image_folder
from .imagenet import difference, register_image_folder
from .root import datasets_root

PATHS = ("IMAGES", "LABELS", "SPLIT", "JSON", "PNGS", "INSTANCES", "DERIVED", "FOLDER")


def _register_folder(entry: dict) -> None:
    folder, name = entry["FOLDER"], entry["NAME"]
    classes = list_classes(folder) if os.path.isdir(folder) else entry.get("CLASSES")
    if classes is None:
        list_classes(folder)  # says what is missing
    if entry.get("CLASSES") and list(entry["CLASSES"]) != classes:
        raise ValueError(
            f"DATASETS.CUSTOM ({name}): CLASSES are not the class folders of {folder}, sorted: "
            f"{difference(entry['CLASSES'], classes or []) or 'another order'}"
        )
    register_image_folder(name, folder, partial(load_image_folder, folder))
    MetadataCatalog.get(name).set(thing_classes=classes)


REGISTER: dict[str, Callable[[dict], None]] = {
    "semantic": register_semantic,
    "instances": register_instances,
    "panoptic": register_panoptic,
    "image_folder": _register_folder,
}


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register the datasets of `DATASETS.CUSTOM`.

    Class names come from the files, which are read for that. Where they are missing, the names are
    those of `CLASSES`; an entry without it is left out unless `DATASETS.TRAIN` or `DATASETS.TEST`
    names it.

    Args:
        cfg: the config, not changed.

    Raises:
        FileNotFoundError: what says the classes of a dataset in use is missing.
        ValueError: an entry is wrong, has the name of another dataset, or contradicts its files.
    """
    check_keys(cfg, "DATASETS.CUSTOM")
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    for given in cfg.DATASETS.CUSTOM:
        name = given["NAME"]
        if name in DatasetCatalog:
            if custom_entry(name) is None:
                raise ValueError(
                    f"DATASETS.CUSTOM has an entry with the NAME {name!r}, which is the name of "
                    "another dataset: choose another one"
                )
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        entry = _with_full_paths(given)
        try:
            REGISTER[entry["KIND"]](entry)
        except FileNotFoundError:
            if name in used:
                raise
            continue
        MetadataCatalog.get(name).set(custom_entry=entry)


def custom_entry(name: str) -> dict | None:
    """The entry of `DATASETS.CUSTOM` that a dataset is of, with full paths; None of any other."""
    return MetadataCatalog.get(name).get("custom_entry") if name in MetadataCatalog.list() else None


def _with_full_paths(entry: dict) -> dict:
    root = datasets_root()
    paths = {
        key: os.path.abspath(os.path.join(root, os.path.expanduser(entry[key])))
        for key in PATHS
        if key in entry
    }
    return {**entry, **paths}
