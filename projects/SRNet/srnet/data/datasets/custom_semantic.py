"""Own semantic data of `DATASETS.CUSTOM`: images, and label images of the same names."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from torchvision.datasets.folder import IMG_EXTENSIONS

from srnet.ranges.custom import OTHERS, label_pixels

from ..label_mapping import LabelMapping, make_mapping
from ..validate.coco import message_of
from .semantic_folders import pair_with_labels


def register_semantic(entry: dict) -> None:
    """Register an entry of the kind semantic.

    Args:
        entry: checked, with absolute paths.
    """
    name, classes = entry["NAME"], entry["CLASSES"]
    # One ignored value for all own data, so that several data sets go into one training.
    ignored = 255 if len(classes) <= 255 else 65535
    mapping = _mapping_of(entry, ignored)
    metadata = MetadataCatalog.get(name)
    metadata.set(
        stuff_classes=list(classes),
        ignore_label=ignored,
        label_mapping=mapping,
        evaluator_type="sem_seg",
    )
    if entry.get("COLORS"):
        metadata.set(stuff_colors=[list(color) for color in entry["COLORS"]])
    elif "LABEL_COLORS" in entry:
        first = [list(pixels[0]) for _, pixels in label_pixels(entry)[:-1]]
        metadata.set(stuff_colors=first)
    DatasetCatalog.register(name, partial(load_semantic, entry, mapping))


def _mapping_of(entry: dict, ignored: int) -> LabelMapping | None:
    """The mapping of an entry; None where pixels are class indices and `ignored` alone."""
    others = entry.get("IGNORED") == OTHERS
    *classes, (_, ignored_pixels) = label_pixels(entry)
    if not {"LABEL_VALUES", "LABEL_COLORS"} & set(entry) and ignored_pixels == [ignored]:
        return None
    pixels = [(index, values) for index, (_, values) in enumerate(classes)]
    pixels.append((ignored, ignored_pixels))
    colors = "LABEL_COLORS" in entry
    return make_mapping(pixels, colors=colors, others=ignored if others else None)


def load_semantic(entry: dict, mapping: LabelMapping | None = None) -> list[dict]:
    """List an entry's images with their labels, as Detectron2's standard dataset dicts.

    Args:
        entry: as in :func:`register_semantic`.
        mapping: becomes the "label_mapping" of each dict.

    Raises:
        FileNotFoundError: a folder is missing or empty, or images have no label; the message lists
            them.
        ValueError: two images have one label.
    """
    records, missing = list_semantic(entry)
    if missing:
        raise FileNotFoundError(message_of(f"DATASETS.CUSTOM ({entry['NAME']})", missing))
    if mapping is not None:
        for record in records:
            record["label_mapping"] = mapping
    return records


def list_semantic(entry: dict) -> tuple[list[dict], list[str]]:
    """List an entry's images that have labels, and say what is missing.

    Arguments and errors as :func:`load_semantic`, but images without a label, and stems of SPLIT
    without an image, are no errors.

    Returns:
        Detectron2's dicts, and a line for each thing that is missing.
    """
    images, labels, name = entry["IMAGES"], entry["LABELS"], entry["NAME"]
    suffix = entry.get("LABEL_SUFFIX", ".png")
    for key, folder in (("IMAGES", images), ("LABELS", labels)):
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"DATASETS.CUSTOM ({name}): the folder {key} {folder} is missing"
            )
    names = list_tree(images, IMG_EXTENSIONS)
    if os.path.realpath(images) == os.path.realpath(labels):
        names = [n for n in names if not n.endswith(suffix)]
    findings = []
    if "SPLIT" in entry:
        names, absent = _chosen(names, entry["SPLIT"])
        findings = [
            f"SPLIT {entry['SPLIT']} has {n!r}, and no such image is in {images}" for n in absent
        ]
    if not names:
        what = f"of SPLIT {entry['SPLIT']} " if "SPLIT" in entry else ""
        raise FileNotFoundError(
            f"DATASETS.CUSTOM ({name}): no image {what}({', '.join(IMG_EXTENSIONS)}) is in IMAGES "
            f"{images}"
        )
    there = set(list_tree(labels, (suffix.lower(),)))
    records, unlabelled = pair_with_labels(images, names, labels, there, suffix)
    for image in unlabelled:
        label = os.path.join(labels, os.path.splitext(image)[0] + suffix)
        findings.append(f"the image {os.path.join(images, image)} has no label {label}")
    return records, findings


def list_tree(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """The files below a folder that end so, in small or capital letters; sorted, none hidden."""
    found = []
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(path, folder)
        found += [
            os.path.normpath(os.path.join(relative, name))
            for name in names
            if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    return sorted(found)


def _chosen(names: list[str], split: str) -> tuple[list[str], list[str]]:
    """The images whose stems or names a text file lists, and its lines without an image."""
    with open(split, encoding="utf-8-sig") as file:
        lines = [line.strip() for line in file if line.strip()]
    by_name = {key: name for name in names for key in (os.path.splitext(name)[0], name)}
    found = [by_name[line] for line in lines if line in by_name]
    return list(dict.fromkeys(found)), [line for line in lines if line not in by_name]
