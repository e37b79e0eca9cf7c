"""Derive instance and panoptic truth, in COCO's formats, from the labels of CamVid (480 x 360).

CamVid labels classes, not instances. Here an instance is a connected part (8 neighbours) of a
SignSymbol, Car, Pedestrian or Bicyclist of at least 64 pixels; smaller parts become void. So an
object behind a pole is two, and cars that touch are one: compare scores on this truth with each
other only, not with published ones. The source is the folder that `srnet prepare camvid` writes.
Written into the output folder are

    annotations/{instances,panoptic}_{train,val,test}.json
    panoptic_{train,val,test}/NAME.png    ids R + 256 G + 256^2 B
    stuff_{train,val,test}/NAME.png       the semantic targets of Panoptic FPN: 0 for things, 1 to 7
                                          for stuff, 255 for void
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from srnet.data.datasets.camvid import CLASSES, IMAGES, THINGS, VOID
from srnet.data.datasets.root import datasets_root
from srnet.data.datasets.semantic_folders import load_semantic_folders
from srnet.data.paths import inside, written_to
from srnet.data.prepare.conversion import replacing_folder
from srnet.data.read import read_label

from . import coco_annotations as coco

MIN_AREA = 64  # pixels
KINDS = ("panoptic", "stuff")
TABLE = [(name, color, name in THINGS) for name, color in CLASSES]
IS_THING = [isthing for *_, isthing in TABLE]
THING_IDS = [i for i, isthing in enumerate(IS_THING, start=1) if isthing]


def segment(label: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Split a label map into segments, stuff first.

    Args:
        label: (H, W), classes 0 to 10 and 11 for void.

    Returns:
        (H, W), 0 for void and i for segment i, and the category ids of the segments.
    """
    ids, categories = np.zeros(label.shape, np.int32), []
    for category in sorted(range(1, len(TABLE) + 1), key=lambda c: c in THING_IDS):
        mask = (label == category - 1).astype(np.uint8)
        parts = mask
        if category in THING_IDS:
            _, parts = cv2.connectedComponents(mask, connectivity=8)
        areas = np.bincount(parts.ravel())
        for part in range(1, len(areas)):
            if category not in THING_IDS or areas[part] >= MIN_AREA:
                categories.append(category)
                ids[parts == part] = len(categories)
    return ids, categories


def convert(folder: Path, split: str, record: dict) -> tuple[str, dict, list, list]:
    """Write the two label images of an image; return their name, its size and its annotations."""
    ids, categories = segment(read_label(record["sem_seg_file_name"], len(CLASSES), VOID))
    name = f"{Path(record['file_name']).stem}.png"
    labels = np.array([VOID, *(category - 1 for category in categories)], np.uint8)[ids]
    colors = np.array([0, *(coco.panoptic_id(i + 1) for i in range(len(categories)))])[ids]
    _write(coco.id_to_color(colors), inside(folder / f"panoptic_{split}", name))
    targets = coco.stuff_targets(labels, IS_THING, VOID)
    _write(targets, inside(folder / f"stuff_{split}", name))
    height, width = ids.shape
    return name, {"height": height, "width": width}, *coco.annotate(ids, categories, THING_IDS)


def _write(image: np.ndarray, path: Path) -> None:
    with written_to(path):
        Image.fromarray(image).save(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    root = Path(datasets_root())
    for name, folder, what in (
        ("--camvid", "camvid", "the prepared CamVid"),
        ("--output", "camvid_coco", "the dataset's folder"),
    ):
        parser.add_argument(
            name,
            metavar="DIR",
            type=Path,
            default=root / folder,
            help=f"{what} (default: $DETECTRON2_DATASETS/{folder})",
        )


def prepare(arguments: argparse.Namespace) -> None:
    """Derive all splits.

    Raises:
        FileExistsError: the output folder holds something else.
    """
    known = {"annotations", *(f"{kind}_{split}" for kind in KINDS for split in IMAGES)}
    output = arguments.output.resolve()
    others = sorted({path.name for path in output.glob("*")} - known)
    if others:
        raise FileExistsError(
            f"{output} holds {others[0]}, which this script did not make: choose another --output"
        )
    with replacing_folder(output) as folder:
        (folder / "annotations").mkdir()
        for split, expected in IMAGES.items():
            for kind in KINDS:
                (folder / f"{kind}_{split}").mkdir()
            records = load_semantic_folders(
                str(arguments.camvid / split),
                str(arguments.camvid / f"{split}annot"),
                prepare="srnet prepare camvid segnet SEGNET_CAMVID",
                expected=expected,
            )
            with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
                made = list(pool.map(partial(convert, folder, split), records, chunksize=8))
            images = [
                {"file_name": Path(record["file_name"]).name, **size}
                for record, (_, size, *_) in zip(records, made, strict=True)
            ]
            annotations = [(name, things, segments) for name, _, things, segments in made]
            instances, panoptic = coco.coco_files(images, annotations, TABLE)
            for kind, content in (("instances", instances), ("panoptic", panoptic)):
                path = folder / "annotations" / f"{kind}_{split}.json"
                with written_to(path):
                    path.write_text(json.dumps(content))
            found = [thing["category_id"] for thing in instances["annotations"]]
            counts = ", ".join(f"{found.count(i)} {TABLE[i - 1][0]}" for i in THING_IDS)
            print(f"{split}: {len(images)} images, {len(found)} instances: {counts}")
    print(f"{output} holds them")
