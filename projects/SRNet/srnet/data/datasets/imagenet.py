"""The classification datasets: ImageNet, and any folder of classes by two config keys."""

import os
from collections.abc import Callable
from functools import partial

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .image_folder import ImageFolder, list_classes, load_image_folder
from .root import datasets_root
from .semantic_folders import preparation_advice

SYNSETS = os.path.join(os.path.dirname(__file__), "imagenet_synsets.txt")
PREPARE = "python -c 'import torchvision; torchvision.datasets.ImageNet(FOLDER, SPLIT)'"


def imagenet_synsets() -> list[str]:
    """The 1000 synsets of ILSVRC 2012; the place of one is its class index."""
    with open(SYNSETS) as f:
        return f.read().split()


def check_synsets(classes: list[str], folder: str) -> None:
    """Compare the class folders with ImageNet's.

    Raises:
        ValueError: they differ, so the class indices would not be those of published weights.
    """
    synsets = imagenet_synsets()
    if classes != synsets:
        raise ValueError(
            f"{os.path.abspath(folder)} does not have ImageNet's 1000 synsets for class folders: "
            f"{difference(classes, synsets)}. A set of other classes is used with "
            "DATASETS.IMAGE_FOLDER_TRAIN and DATASETS.IMAGE_FOLDER_TEST"
        )


def _load_imagenet(folder: str) -> ImageFolder:
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"the dataset folder {os.path.abspath(folder)} is missing. "
            f"{preparation_advice(PREPARE)}"
        )
    check_synsets(list_classes(folder), folder)
    return load_image_folder(folder)


def register_all_imagenet(root: str) -> None:
    """Register `imagenet_train` and `imagenet_val` under `root`."""
    for split in ("train", "val"):
        folder = os.path.join(root, "imagenet", split)
        register_image_folder(f"imagenet_{split}", folder, partial(_load_imagenet, folder))


def register_image_folder(name: str, folder: str, load: Callable[[], ImageFolder]) -> None:
    """Register a folder of classes."""
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(image_folder=folder, evaluator_type="classification")


def register_image_folders(cfg: CfgNode) -> None:
    """Make datasets of `DATASETS.IMAGE_FOLDER_TRAIN` and `IMAGE_FOLDER_TEST`, in place of the rest.

    A relative path is one under `DETECTRON2_DATASETS`. The path as it stands in the config is the
    name of the dataset.

    Raises:
        ValueError: the path is the name of another dataset.
    """
    root = datasets_root()
    for split in ("TRAIN", "TEST"):
        name = cfg.DATASETS[f"IMAGE_FOLDER_{split}"]
        if not name:
            continue
        folder = os.path.join(root, os.path.expanduser(name))
        if name not in DatasetCatalog:
            register_image_folder(name, folder, partial(load_image_folder, folder))
        elif MetadataCatalog.get(name).get("image_folder") != folder:
            raise ValueError(
                f"DATASETS.IMAGE_FOLDER_{split}={name!r} is the name of another dataset; give its "
                "absolute path"
            )
        cfg.DATASETS[split] = (name,)


def check_class_folders(cfg: CfgNode) -> None:
    """Compare the class folders of a config's classification datasets with each other and the key.

    What is missing is left to the moment when it is read.

    Raises:
        ValueError: the datasets have different classes, or another number than
            `MODEL.CLASSIFIER.NUM_CLASSES`.
    """
    found: dict[str, list[str]] = {}
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(name)
        if metadata.get("evaluator_type") != "classification":
            continue
        if name.startswith("imagenet_"):
            found[name] = imagenet_synsets()
        elif os.path.isdir(metadata.image_folder):
            found[name] = list_classes(metadata.image_folder)
    wanted = cfg.MODEL.CLASSIFIER.NUM_CLASSES
    for name, classes in found.items():
        if len(classes) != wanted:
            raise ValueError(
                f"MODEL.CLASSIFIER.NUM_CLASSES is {wanted}, and the dataset {name} needs "
                f"{len(classes)}"
            )
        first, reference = next(iter(found.items()))
        if classes != reference:
            raise ValueError(
                f"the datasets {first} and {name} have different classes: in {name} "
                f"{difference(classes, reference)}"
            )


def difference(classes: list[str], reference: list[str]) -> str:
    """What `classes` lacks of `reference` and has beyond it, a few names of each."""
    parts = []
    for what, names in (
        ("missing", sorted(set(reference) - set(classes))),
        ("unknown", sorted(set(classes) - set(reference))),
    ):
        if names:
            more = ", ..." if len(names) > 3 else ""
            parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
    return ", ".join(parts)
