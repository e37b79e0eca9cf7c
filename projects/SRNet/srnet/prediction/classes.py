"""What a model's classes are called, how they are coloured, and their ids in the data set."""

import json
import os

from detectron2.config import CfgNode
from detectron2.data import Metadata

from srnet.checkpoint.places import find_place
from srnet.checkpoint.safetensors_file import read_metadata
from srnet.data.classes import class_counts, named_classes
from srnet.visualization.scene import with_colors


def classes_of(cfg: CfgNode) -> Metadata:
    """The classes of a model, as :func:`.named_classes`, with a colour for each."""
    return with_colors(named_classes(cfg))


def check_trained_classes(cfg: CfgNode, classes: Metadata) -> None:
    """Refuse weights of other classes than the config's; a file of `srnet export` names its own.

    Args:
        cfg: `MODEL.WEIGHTS_STRICT` False allows them.
        classes: what :func:`classes_of` returned.

    Raises:
        ValueError: as many, with other names or in another order; the message has the first one.
    """
    path = find_place(cfg.MODEL.WEIGHTS).path
    if not (cfg.MODEL.WEIGHTS_STRICT and path.endswith(".safetensors") and os.path.isfile(path)):
        return
    trained = json.loads(read_metadata(path).get("classes", "[]"))
    kinds = [list(classes.get(key) or ()) for key in class_counts(cfg)]
    others = [names for names in kinds if len(names) == len(trained)]
    if not others or trained in others:
        return
    pairs = zip(others[0], trained, strict=True)
    here, there = next(pair for pair in pairs if pair[0] != pair[1])
    raise ValueError(
        f"{path} was trained for other classes: {there!r} where the data set of the config has "
        f"{here!r}; name its own data set in DATASETS.TEST, or set MODEL.WEIGHTS_STRICT False to "
        "use the config's names"
    )


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
