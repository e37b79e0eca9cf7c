"""The check of a panoptic truth in COCO's format: the JSON file and its PNG images.

panopticapi meets what is wrong after all inference, or not at all.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from detectron2.data import Metadata
from panopticapi.utils import rgb2id

from ..read import UnreadableImageError, decode
from .coco import (
    check_categories,
    check_form,
    check_images,
    duplicates,
    hashable,
    is_id,
    message_of,
    parse_json,
)

THREADS = 8  # Pillow decodes without Python's lock


def read_panoptic(metadata: Metadata, rank: int = 0, world_size: int = 1) -> dict:
    """Read, check and complete the truth of a panoptic dataset.

    Args:
        metadata: has `panoptic_json`, `panoptic_root` and both `*_dataset_id_to_contiguous_id`.
        rank: of the process; each looks at its share of the PNG images.
        world_size: number of processes.

    Returns:
        The content of the JSON file. Every segment has `iscrowd`, 0 where it is missing or null,
        and `area`, the pixels that it has in the PNG; every category has `isthing`.

    Raises:
        FileNotFoundError: the first PNG image that is missing, with the id of its image.
        ValueError: the file or its images are wrong; the message has all findings.
    """
    content = parse_json(metadata.panoptic_json)
    findings = check_form(content)
    if not findings:
        findings += check_categories(content["categories"])
        findings += check_images(content["images"])
    if not findings:
        findings += _check_table(content["categories"], metadata)
        findings += _check_annotations(content)
    if findings:
        raise ValueError(message_of(metadata.panoptic_json, findings))
    _check_presence(content["annotations"], metadata)
    images = {image["id"]: image for image in content["images"]}
    check = partial(_check_png, images=images, folder=metadata.panoptic_root)
    looked_at = [
        annotation
        for place, annotation in enumerate(content["annotations"])
        if place % world_size == rank
        or any(s.get("area") is None for s in annotation["segments_info"])
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(check, looked_at)
        findings = [finding for of_image in found for finding in of_image]
    if findings:
        raise ValueError(message_of(metadata.panoptic_json, findings))
    return content


def _check_table(categories: list[dict], metadata: Metadata) -> list[str]:
    """Compare the categories with those that the dataset is registered with; fill in `isthing`."""
    # The stuff's class 0 is all things, Detectron2's "separated" form.
    known = {*metadata.thing_dataset_id_to_contiguous_id}
    known |= {i for i, k in metadata.stuff_dataset_id_to_contiguous_id.items() if k}
    found = {category["id"] for category in categories}
    findings = []
    for category in (c for c in categories if c["id"] in known):
        isthing = int(category["id"] in metadata.thing_dataset_id_to_contiguous_id)
        if category.get("isthing") is None:
            category["isthing"] = isthing
        if category["isthing"] != isthing:
            findings.append(
                f"the category {category['id']} has isthing {category['isthing']!r}, and the "
                f"dataset is registered with {isthing}"
            )
    return findings + [
        f"{what} {', '.join(map(str, sorted(ids)[:8]))}{', ...' if len(ids) > 8 else ''}"
        for what, ids in (
            ("it lacks categories that the dataset is registered with:", known - found),
            ("it has categories that the dataset is registered without:", found - known),
        )
        if ids
    ]


def _check_annotations(content: dict) -> list[str]:
    """Check and complete the annotations of a file whose images and categories are right."""
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    annotations, findings = content["annotations"], []
    for annotation in annotations:
        identity, name = annotation.get("image_id"), annotation.get("file_name")
        where = f"the annotation of the image with id {identity!r}"
        if hashable(identity) not in images:
            findings.append(
                f"an annotation has image_id {identity!r}, which is not among the file's images"
            )
        if not (isinstance(name, str) and name):
            findings.append(f"{where} has file_name {name!r}, not a name")
        segments = annotation.get("segments_info")
        if not (isinstance(segments, list) and all(type(segment) is dict for segment in segments)):
            findings.append(f"{where} has no list of objects segments_info")
            continue
        for segment in segments:
            findings += (f"{where} {finding}" for finding in _wrong_segment(segment, categories))
        ids = (segment.get("id") for segment in segments)
        findings += (f"{where}: {finding}" for finding in duplicates("segments have the id", ids))
    listed = [annotation.get("image_id") for annotation in annotations]
    findings += duplicates("annotations have the image_id", iter(listed))
    known = set(map(hashable, listed))
    missing = [images[i] for i in images if i not in known]
    if missing:
        findings.append(
            f"{len(missing)} images have no annotation, the first is {missing[0]['file_name']} (id "
            f"{missing[0]['id']})"
        )
    return findings


def _wrong_segment(segment: dict, categories: set[int]) -> Iterator[str]:
    identity, category = segment.get("id"), segment.get("category_id")
    if not (is_id(identity) and 0 < identity < 256**3):
        yield f"has a segment with id {identity!r}, not a whole number from 1 to {256**3 - 1}"
    if hashable(category) not in categories:
        yield (
            f"has category_id {category!r} for the segment {identity!r}, which is not among the "
            "file's categories"
        )
    if segment.get("iscrowd") is None:
        segment["iscrowd"] = 0
    if segment["iscrowd"] not in (0, 1):
        yield f"has iscrowd {segment['iscrowd']!r} for the segment {identity!r}, not 0 or 1"


def _check_presence(annotations: list[dict], metadata: Metadata) -> None:
    present = set(os.listdir(metadata.panoptic_root))
    for annotation in annotations:
        if annotation["file_name"] not in present:
            path = os.path.join(metadata.panoptic_root, annotation["file_name"])
            raise FileNotFoundError(
                f"the panoptic PNG {path} of the image with id {annotation['image_id']} is "
                f"missing; {metadata.panoptic_json} lists it"
            )


def _check_png(annotation: dict, images: dict[int, dict], folder: str) -> list[str]:
    """Compare a PNG image with its annotation: what can be read, its size, mode, ids and areas.

    panopticapi takes the areas of segments as they are: with a wrong one PQ is beyond 100.
    """
    path = os.path.join(folder, annotation["file_name"])
    where = f"{path}, of the image with id {annotation['image_id']},"
    try:
        picture = decode(path, "panoptic PNG")
    except UnreadableImageError as error:
        return [str(error)]
    image = images[annotation["image_id"]]
    if picture.size != (image["width"], image["height"]):
        return [
            f"{where} has {picture.size[0]} x {picture.size[1]} pixels, and the image "
            f"{image['width']} x {image['height']}"
        ]
    if picture.mode not in ("RGB", "RGBA"):
        return [f"{where} is a {picture.mode} image, and ids are colours: R + 256 G + 256^2 B"]
    ids = rgb2id(np.asarray(picture)).ravel()
    starts = np.flatnonzero(np.diff(ids, prepend=-1))  # of runs: few, so quickly sorted
    values, inverse = np.unique(ids[starts], return_inverse=True)
    areas = np.bincount(inverse, np.diff(starts, append=ids.size)).astype(int)
    drawn = dict(zip(values.tolist(), areas.tolist(), strict=True))
    drawn.pop(0, None)
    listed = {segment["id"]: segment for segment in annotation["segments_info"]}
    findings = [
        f"{where} {what} {', '.join(map(str, sorted(ids)[:5]))}"
        for what, ids in (
            ("draws segments that segments_info lacks:", drawn.keys() - listed.keys()),
            ("lacks segments of segments_info:", listed.keys() - drawn.keys()),
        )
        if ids
    ]
    for identity in drawn.keys() & listed.keys():
        if listed[identity].get("area") is None:
            listed[identity]["area"] = drawn[identity]
        if listed[identity]["area"] != drawn[identity]:
            findings.append(
                f"{where} draws {drawn[identity]} pixels of the segment {identity}, whose area is "
                f"{listed[identity]['area']!r}"
            )
    return findings
