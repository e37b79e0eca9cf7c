"""Own instances and panoptic data of `DATASETS.CUSTOM`, in COCO's formats."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..validate.coco import check_categories, check_form, message_of, parse_json, read_coco
from .derived_panoptic import cache_folder, derive
from .imagenet import difference
from .panoptic_folders import ALL_THINGS, check_complete, load_checked


def register_instances(entry: dict) -> None:
    """Register an entry of the kind instances.

    Args:
        entry: checked, with absolute paths.

    Raises:
        FileNotFoundError: its JSON is missing, and it has no CLASSES.
        ValueError: the JSON is none, or has other categories than CLASSES.
    """
    name, json_file, images = entry["NAME"], entry["JSON"], entry["IMAGES"]
    metadata: dict = {}
    categories = _categories(entry)
    if categories is None:
        metadata["thing_classes"] = list(entry["CLASSES"])
    else:
        metadata["thing_classes"] = _names(categories)
        metadata["thing_dataset_id_to_contiguous_id"] = _contiguous(categories)
    colors = _colors(entry, categories)
    if colors:
        metadata["thing_colors"] = colors
    register_coco_instances(name, metadata, json_file, images)
    load_checked(name, partial(check_complete, [json_file, images], _advice(entry)))


def register_panoptic(entry: dict) -> None:
    """Register an entry of the kind panoptic, in Detectron2's "separated" form.

    The semantic label 0 is all things. The labels of the stuff, and the instances where the entry
    has no INSTANCES, are derived from the panoptic PNG images when the dataset is first read.

    Arguments and errors as :func:`register_instances`; without the JSON the entry needs CLASSES and
    THINGS.
    """
    name = entry["NAME"]
    categories = _categories(entry)
    if categories is None:
        if "THINGS" not in entry:
            check_complete([entry["JSON"]], _advice(entry))
        known = [{"name": n, "isthing": n in entry["THINGS"]} for n in entry["CLASSES"]]
    else:
        known = categories
    things = [category for category in known if category["isthing"]]
    stuff = [category for category in known if not category["isthing"]]
    if not things:
        raise ValueError(
            f"DATASETS.CUSTOM ({name}): {entry['JSON']} has no category with isthing 1: data "
            "without things are of the kind semantic"
        )
    derived = entry.get("DERIVED") or cache_folder(entry["JSON"], entry["PNGS"])
    instances = entry.get("INSTANCES") or os.path.join(derived, "instances.json")
    metadata = MetadataCatalog.get(name)
    metadata.set(
        panoptic_root=entry["PNGS"],
        image_root=entry["IMAGES"],
        panoptic_json=entry["JSON"],
        sem_seg_root=os.path.join(derived, "stuff"),
        json_file=instances,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        thing_classes=_names(things),
        stuff_classes=[ALL_THINGS[0], *_names(stuff)],
    )
    if categories is not None:
        first = {c["id"]: i for i, c in enumerate(stuff, start=1)}
        # No category has this id: it stands for all things.
        free = 0 if all(c["id"] for c in categories) else min(c["id"] for c in categories) - 1
        metadata.set(
            thing_dataset_id_to_contiguous_id=_contiguous(things),
            stuff_dataset_id_to_contiguous_id={free: 0, **first},
        )
    colors = _colors(entry, known)
    if colors:
        by_name = dict(zip(_names(known), colors, strict=True))
        metadata.set(
            thing_colors=[by_name[n] for n in _names(things)],
            stuff_colors=[ALL_THINGS[1], *(by_name[n] for n in _names(stuff))],
        )
    DatasetCatalog.register(name, partial(load_panoptic, entry))


def load_panoptic(entry: dict) -> list[dict]:
    """Load a panoptic dataset: instances, and the labels of the stuff branch.

    What is derived is made where it is missing or older than its sources.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: annotations are wrong; the message has all findings.
    """
    from ..records import set_classes, to_records  # which imports this package

    needed = [entry[key] for key in ("JSON", "PNGS", "IMAGES", "INSTANCES") if key in entry]
    check_complete(needed, _advice(entry))
    metadata = MetadataCatalog.get(entry["NAME"])
    labels = derive(metadata, with_instances="INSTANCES" not in entry)
    content = read_coco(metadata.json_file, masks=True)
    set_classes(metadata, content["categories"])
    records = to_records(content, metadata)
    for record in records:
        if record["image_id"] not in labels:
            raise ValueError(
                f"{metadata.json_file} has the image {record['file_name']} (id "
                f"{record['image_id']}), and {entry['JSON']} has none with this id"
            )
        record["sem_seg_file_name"] = labels[record["image_id"]]
    return records


def _categories(entry: dict) -> list[dict] | None:
    """The categories of an entry's JSON, by id; None where the file is missing.

    Raises:
        FileNotFoundError: it is missing, and there are no CLASSES.
        ValueError: it is no such file, or has other categories than CLASSES and THINGS.
    """
    json_file, name, panoptic = entry["JSON"], entry["NAME"], entry["KIND"] == "panoptic"
    if not os.path.isfile(json_file):
        if "CLASSES" not in entry:
            check_complete([json_file], _advice(entry))
            raise ValueError(f"DATASETS.CUSTOM ({name}): JSON {json_file} is not a file")
        return None
    content = parse_json(json_file)
    findings = check_form(content, labelled=False)
    if not findings:
        findings = check_categories(content["categories"])
    if not findings and panoptic:
        findings = [
            f"the category {c['id']!r} ({c['name']}) has isthing {c.get('isthing')!r}, not 0 or 1"
            for c in content["categories"]
            if c.get("isthing") not in (0, 1)
        ]
    if findings:
        raise ValueError(message_of(json_file, findings))
    found = sorted(content["categories"], key=lambda category: category["id"])
    for key, names in (
        ("CLASSES", _names(found)),
        ("THINGS", [c["name"] for c in found if c.get("isthing")]),
    ):
        if key in entry and (names != list(entry[key])):
            raise ValueError(
                f"DATASETS.CUSTOM ({name}): {key} differ from the categories of {json_file}, by "
                f"id: {difference(entry[key], names) or 'their order'}"
            )
    return found


def _names(categories: list[dict]) -> list[str]:
    return [category["name"] for category in categories]


def _contiguous(categories: list[dict]) -> dict[int, int]:
    return {category["id"]: index for index, category in enumerate(categories)}


def _colors(entry: dict, categories: list[dict] | None) -> list[list[int]]:
    """The colours of an entry or of its categories, where each of them has one."""
    if entry.get("COLORS"):
        return [list(color) for color in entry["COLORS"]]
    found = [category.get("color") for category in categories or ()]
    right = all(isinstance(color, list) and len(color) == 3 for color in found)
    return [color for color in found if color] if right else []


def _advice(entry: dict) -> str:
    return (
        f"DATASETS.CUSTOM ({entry['NAME']}) names it; relative paths are those under "
        "DETECTRON2_DATASETS (now "
        f"{os.environ.get('DETECTRON2_DATASETS', 'unset, meaning ./datasets')})"
    )
