"""What Panoptic FPN needs beyond a panoptic truth: labels of the stuff, and instances.

Both are derived from the panoptic PNG images, into a cache folder or where the user says.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
from detectron2.data import Metadata
from iopath.common.file_io import file_lock, get_cache_dir
from PIL import Image
from pycocotools import mask as mask_api
from tqdm import tqdm

from ..paths import inside
from ..prepare.coco_annotations import bounding_box, color_to_id, mask_to_polygons
from ..read import decode
from ..validate.coco import check_form, message_of, parse_json
from ..validate.panoptic import THREADS, read_panoptic

VOID = 255


def cache_folder(json_file: str, pngs: str) -> str:
    """Where the derived files of a panoptic truth are kept: a folder of its own for each truth.

    It lies in iopath's cache folder (`FVCORE_CACHE`, `~/.torch/iopath_cache` by default).
    """
    sources = "\0".join(map(os.path.realpath, (json_file, pngs)))
    key = hashlib.sha1(os.fsencode(sources)).hexdigest()[:16]
    return os.path.join(get_cache_dir(), "srnet", f"panoptic_{key}")


def derive(metadata: Metadata, *, with_instances: bool) -> dict[int, str]:
    """Make the derived files that are missing, or older than the JSON or the PNG images.

    One process makes them while the others wait.

    Args:
        metadata: of a panoptic dataset in Detectron2's separated form.
        with_instances: derive `json_file`, too.

    Returns:
        The path of the stuff label of each image id.

    Raises:
        FileNotFoundError: a panoptic PNG is missing.
        ValueError: the truth is wrong; the message has all findings.
    """
    content = parse_json(metadata.panoptic_json)
    findings = check_form(content)
    if findings:
        raise ValueError(message_of(metadata.panoptic_json, findings))
    os.makedirs(metadata.sem_seg_root, exist_ok=True)
    with file_lock(os.path.join(os.path.dirname(metadata.sem_seg_root), "derived")):
        if any(_stale(metadata, content["annotations"], with_instances)):
            content = read_panoptic(metadata)
            _make(metadata, content, with_instances)
    return {
        annotation["image_id"]: str(inside(metadata.sem_seg_root, annotation["file_name"]))
        for annotation in content["annotations"]
    }


def _stale(metadata: Metadata, annotations: list[dict], with_instances: bool) -> Iterator[bool]:
    """Whether each derived file is missing or older than what it is made from."""
    listed = os.path.getmtime(metadata.panoptic_json)
    newest = listed
    for annotation in annotations:
        name = annotation.get("file_name")
        if not isinstance(name, str) or not name:
            yield True  # reading the truth says what is wrong
            return
        source = inside(metadata.panoptic_root, name, metadata.panoptic_json)
        label = inside(metadata.sem_seg_root, name)
        made = os.path.getmtime(label) if os.path.exists(label) else -1.0
        changed = max(listed, os.path.getmtime(source) if os.path.exists(source) else listed)
        newest = max(newest, changed)
        yield made < changed
    if with_instances:
        there = os.path.exists(metadata.json_file)
        yield not there or os.path.getmtime(metadata.json_file) < newest


def _make(metadata: Metadata, content: dict, with_instances: bool) -> None:
    annotations = content["annotations"]
    convert = partial(_convert, metadata, with_instances)
    with ThreadPoolExecutor(THREADS) as pool:
        made: Iterable[list[dict]] = pool.map(convert, annotations)
        bar = tqdm(made, f"deriving labels of {metadata.name}", len(annotations), unit="image")
        found = [instance for of_image in bar for instance in of_image]
    if not with_instances:
        return
    for number, instance in enumerate(found, start=1):
        instance["id"] = number
    things = metadata.thing_dataset_id_to_contiguous_id
    categories = [c for c in content["categories"] if c["id"] in things]
    result = {"images": content["images"], "annotations": found, "categories": categories}
    with _whole(metadata.json_file) as path, open(path, "w") as file:
        json.dump(result, file)


def _convert(metadata: Metadata, with_instances: bool, annotation: dict) -> list[dict]:
    """Write the stuff label of an image; return its instances in COCO's form, without ids."""
    source = inside(metadata.panoptic_root, annotation["file_name"])
    ids = color_to_id(np.asarray(decode(source, "panoptic PNG").convert("RGB")))
    stuff = metadata.stuff_dataset_id_to_contiguous_id
    things = metadata.thing_dataset_id_to_contiguous_id
    values, places = np.unique(ids, return_inverse=True)
    classes = {
        segment["id"]: 0 if segment["category_id"] in things else stuff[segment["category_id"]]
        for segment in annotation["segments_info"]
    }
    table = np.array([classes.get(int(value), VOID) for value in values], np.uint8)
    label = table[places.reshape(ids.shape)]
    with _whole(str(inside(metadata.sem_seg_root, annotation["file_name"]))) as path:
        Image.fromarray(label).save(path, format="PNG")
    if not with_instances:
        return []
    return [
        _instance(annotation["image_id"], segment, ids == segment["id"])
        for segment in annotation["segments_info"]
        if segment["category_id"] in things
    ]


def _instance(image_id: int, segment: dict, mask: np.ndarray) -> dict:
    """A segment as an instance: polygons, or an RLE for a crowd as COCO has it."""
    x, y, width, height = box = bounding_box(mask)
    segmentation: list | dict
    if segment["iscrowd"]:
        rle = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {**rle, "counts": rle["counts"].decode()}
    else:
        outlines = mask_to_polygons(mask[y : y + height, x : x + width])
        segmentation = [np.add(np.reshape(o, (-1, 2)), (x, y)).ravel().tolist() for o in outlines]
    return {
        "image_id": image_id,
        "category_id": segment["category_id"],
        "iscrowd": segment["iscrowd"],
        "bbox": box,
        "area": int(mask.sum()),
        "segmentation": segmentation,
    }


@contextmanager
def _whole(path: str) -> Iterator[str]:
    """A name to write to, which becomes `path` once it is whole."""
    partial_path = f"{path}.partial"
    yield partial_path
    os.replace(partial_path, path)
