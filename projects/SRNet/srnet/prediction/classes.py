"""What a model's classes are called, how they are coloured, and their ids in the data set."""

import os

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from torchvision.models import ResNet18_Weights

from srnet.data.datasets.image_folder import list_classes
from srnet.data.datasets.imagenet import imagenet_synsets
from srnet.visualization.scene import with_colors


def classes_of(cfg: CfgNode) -> Metadata:
    """The classes of a model, as the data sets of its config name them.

    The first of `DATASETS.TEST` and `DATASETS.TRAIN` counts that has as many classes as the model.
    Where none has, the classes are "class 0", "class 1", ...

    Returns:
        `thing_classes`, `stuff_classes` and their colours as far as the model has such classes;
        `classes` of a classifier.
    """
    counts = class_counts(cfg)
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        known = MetadataCatalog.get(name).as_dict()
        if "classes" in counts:
            known["classes"] = class_names(name, known.get("image_folder", ""))
        if all(len(known.get(key) or ()) == count for key, count in counts.items()):
            return with_colors(Metadata(**known))
    named = {key: [f"class {i}" for i in range(count)] for key, count in counts.items()}
    return with_colors(Metadata(**named))


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


def category_ids(classes: Metadata, kind: str) -> list[int]:
    """The data set's own ids of the contiguous classes; from 1 where it has none.

    Args:
        classes: what :func:`classes_of` returned.
        kind: "thing" or "stuff".
    """
    mapping = classes.get(f"{kind}_dataset_id_to_contiguous_id") or {}
    count = len(classes.get(f"{kind}_classes") or ())
    own = {contiguous: own for own, contiguous in mapping.items()}
    if sorted(own) == list(range(count)):
        return [int(own[i]) for i in range(count)]
    return list(range(1, count + 1))


def categories(classes: Metadata, *kinds: str) -> list[dict]:
    """The categories in COCO's form: id, name, colour, and whether it is a thing."""
    found = []
    for kind in kinds:
        names, colors = classes.get(f"{kind}_classes") or [], classes.get(f"{kind}_colors") or []
        for own, name, color in zip(category_ids(classes, kind), names, colors, strict=True):
            if kind == "thing" or not is_all_things(classes, name):
                entry = {"id": own, "name": name, "color": [int(c) for c in color]}
                found.append({**entry, "isthing": int(kind == "thing")})
    return found


def is_all_things(classes: Metadata, name: str) -> bool:
    """Whether it is Panoptic FPN's stuff class of all things."""
    return name == "things" and bool(classes.get("thing_classes"))
