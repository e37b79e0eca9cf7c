"""What the classes of a model are called."""

import os

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from torchvision.models import ResNet18_Weights

from .datasets.image_folder import list_classes
from .datasets.imagenet import imagenet_synsets


def named_classes(cfg: CfgNode) -> Metadata:
    """The classes of a model, as the data sets of its config name them.

    The first of `DATASETS.TEST` and `DATASETS.TRAIN` counts that has as many classes as the model.
    Where none has, the classes are "class 0", "class 1", ...

    Returns:
        `thing_classes`, `stuff_classes` and their colours as far as the data set has them;
        `classes` of a classifier.
    """
    found = known_classes(cfg)
    if found is None:
        counts = class_counts(cfg).items()
        found = Metadata(**{key: [f"class {i}" for i in range(count)] for key, count in counts})
    return found


def known_classes(cfg: CfgNode) -> Metadata | None:
    """As :func:`named_classes`; None where no data set of the config has as many classes."""
    counts = class_counts(cfg)
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        known = MetadataCatalog.get(name).as_dict()
        if "classes" in counts:
            known["classes"] = class_names(name, known.get("image_folder", ""))
        if all(len(known.get(key) or ()) == count for key, count in counts.items()):
            return Metadata(**known)
    return None


def class_counts(cfg: CfgNode) -> dict[str, int]:
    """The kinds of classes that a model has, by their key in the metadata, and how many."""
    stuff = {"stuff_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}
    things = {"thing_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}
    kinds = {
        "ImageClassifier": {"classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES},
        "PanopticFPN": {**things, **stuff},
        "SRSemanticSegmentor": stuff,
        "SemanticSegmentor": stuff,
    }
    return kinds.get(cfg.MODEL.META_ARCHITECTURE, things)


def class_names(dataset: str, folder: str) -> list[str]:
    """The classes of a classification data set; ImageNet's as in "n01440764 tench"."""
    if dataset.startswith("imagenet_"):
        names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]  # in the order of the synsets
        return [" ".join(pair) for pair in zip(imagenet_synsets(), names, strict=True)]
    return list_classes(folder) if os.path.isdir(folder) else []
