"""The check of a file in COCO's instance format: all findings at once, before hours of work.

What has one meaning is filled in: a missing or null `iscrowd` is 0, a missing `bbox` or `area` is
that of the mask. Polygons without three points enclose nothing and are left out, as Detectron2 does
in training. The rest is refused with file, id, key and value.
"""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as mask_api

from ..paths import check_regular
from ..read import MAX_PIXELS
from .boxes import check_box_format

MAX_NUMBER = 2**63 - 1
MAX_SIDE = 100_000  # pixels; drawing a polygon takes memory for its length
MAX_SHOWN = 20  # findings in a message
TOLERANCE = 1.0  # pixels by which a box may reach beyond its image; Detectron2 clips it
_EMPTY: list = []  # marks the polygons of an instance none of which has three points
FAR = 2  # a polygon may leave its image, but not by so many of its long sides: drawing takes memory


def read_coco(json_file: str | os.PathLike, *, masks: bool = False, labelled: bool = True) -> dict:
    """Read, check and complete a file in COCO's instance format.

    Args:
        json_file: its path.
        masks: every instance needs a segmentation.
        labelled: the file must have annotations, which those of test sets lack.

    Returns:
        Its content. Every annotation has `iscrowd`, `bbox` and `area`, and its polygons have three
        points or more. Annotations with other polygons alone are left out, and a warning says so.

    Raises:
        ValueError: it is no such file, or its content is wrong; the message has all findings.
    """
    content = parse_json(json_file)
    findings = check_form(content, labelled)
    if not findings:
        findings += check_categories(content["categories"])
        findings += check_images(content["images"])
    if not findings and "annotations" in content:
        findings += _check_annotations(content, masks)
        # COCO 2014's valminusminival and minival, which Detectron2 registers, have a few twice.
        if "minival" not in os.path.basename(json_file):
            ids = (annotation.get("id") for annotation in content["annotations"])
            findings += duplicates("annotations have the id", ids)
    if not findings:
        findings += check_box_format(content["images"], content.get("annotations", []))
    if findings:
        raise ValueError(message_of(json_file, findings))
    kept = [a for a in content.get("annotations", ()) if a.get("segmentation") is not _EMPTY]
    dropped = len(content.get("annotations", ())) - len(kept)
    if dropped:
        content["annotations"] = kept
        logging.getLogger(__name__).warning(
            "%s: Filtered out %d instances without valid segmentation: no polygon has three points",
            json_file,
            dropped,
        )
    return content


def parse_json(json_file: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is none, cut off, or begins with a byte order mark; the message names it.
    """
    check_regular(json_file)
    with open(json_file, "rb") as file:
        text = file.read()
    if text.startswith(b"\xef\xbb\xbf"):
        raise ValueError(f"{json_file} begins with a byte order mark: save it as UTF-8 without one")
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of JSON and of UTF-8; lists in lists in lists
        start = text[:30].decode(errors="replace")
        raise ValueError(
            f"{json_file} is not JSON, or cut off ({len(text)} bytes): {error}. It begins with "
            f"{start!r}"
        ) from error


def message_of(json_file: str | os.PathLike, findings: list[str]) -> str:
    """An error message of one or several findings in a file."""
    if len(findings) == 1:
        return f"{json_file}: {findings[0]}"
    shown = findings[:MAX_SHOWN]
    if len(findings) > len(shown):
        shown.append(f"... and {len(findings) - len(shown)} more")
    return "\n  ".join([f"{json_file}: {len(findings)} errors:", *shown])


def check_form(content: object, labelled: bool = True) -> list[str]:
    """Find out whether a file holds lists of images, categories and, if wanted, annotations."""
    if not isinstance(content, dict):
        return [
            f"it is a {type(content).__name__}, not an object with images, annotations and "
            "categories" + (" (a list is the form of results)" if isinstance(content, list) else "")
        ]
    findings = []
    for key in ("images", "annotations", "categories"):
        if key not in content:
            if labelled or key != "annotations":
                findings.append(f"it has no {key}")
        elif not isinstance(content[key], list):
            findings.append(f"{key} is a {type(content[key]).__name__}, not a list")
        elif not all(type(item) is dict for item in content[key]):
            findings.append(f"{key} holds something that is not an object")
        elif not content[key] and key != "annotations":
            findings.append(f"{key} is empty")
    return findings


def is_id(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number that NumPy can hold; true and false are not."""
    return type(value) is int and abs(value) <= MAX_NUMBER


def duplicates(what: str, values: Iterator) -> list[str]:
    """Find values that occur more than once."""
    counts = Counter(value for value in values if isinstance(value, int | str))
    return [f"{count} {what} {value!r}" for value, count in counts.items() if count > 1]


def check_categories(categories: list[dict]) -> list[str]:
    """Find wrong and duplicate ids and names of categories."""
    findings = []
    for category in categories:
        if not is_id(category.get("id")):
            findings.append(f"a category has id {category.get('id')!r}, not a whole number")
        if not isinstance(category.get("name"), str):
            name = category.get("name")
            findings.append(f"the category {category.get('id')!r} has name {name!r}, not a text")
    findings += duplicates("categories have the id", (c.get("id") for c in categories))
    return findings + duplicates("categories have the name", (c.get("name") for c in categories))


def check_images(images: list[dict]) -> list[str]:
    """Find wrong ids, names and sizes of images."""
    findings = []
    for image in images:
        name, identity = image.get("file_name"), image.get("id")
        if not is_id(identity):
            findings.append(f"the image {name!r} has id {identity!r}, not a whole number")
        if not (isinstance(name, str) and name):
            findings.append(f"the image with id {identity!r} has file_name {name!r}, not a name")
        for key in ("height", "width"):
            value = image.get(key)
            if not (is_id(value) and value > 0):
                findings.append(
                    f"the image {name!r} (id {identity!r}) has {key} {value!r}, not a number of "
                    "pixels"
                )
        height, width = image.get("height"), image.get("width")
        if is_id(height) and is_id(width) and _is_too_large(height, width):
            findings.append(
                f"the image {name!r} (id {identity!r}) has {width} x {height} pixels; images of "
                f"more than {MAX_PIXELS} pixels, or {MAX_SIDE} on a side, are not read"
            )
    return findings + duplicates("images have the id", (image.get("id") for image in images))


def _is_too_large(height: int, width: int) -> bool:
    return height * width > MAX_PIXELS or max(height, width) > MAX_SIDE


def _check_annotations(content: dict, masks: bool) -> list[str]:
    """Check and complete the annotations of a file whose images and categories are right.

    Returns:
        The findings.
    """
    images = {image["id"]: image for image in content["images"]}
    sizes = {identity: (image["width"], image["height"]) for identity, image in images.items()}
    categories = {category["id"] for category in content["categories"]}
    findings = []
    for annotation in content["annotations"]:
        if not _is_plain(annotation, sizes, categories):
            image = images.get(hashable(annotation.get("image_id")))
            where = f"annotation {annotation.get('id')!r}"
            if image is not None:
                where += f" of the image {image['file_name']} (id {image['id']})"
            wrong = [f"{where} {f}" for f in _findings(annotation, image, categories, masks)]
            findings += wrong
            if not wrong and annotation.get("segmentation"):
                annotation["segmentation"] = _enclosing(annotation["segmentation"])
    return findings


def _enclosing(segmentation: list | dict) -> list | dict:
    """The polygons with three points or more; `_EMPTY` where there is none."""
    if isinstance(segmentation, dict):
        return segmentation
    return [polygon for polygon in segmentation if _is_whole(polygon)] or _EMPTY


def _is_plain(annotation: dict, sizes: dict, categories: set) -> bool:
    """Whether an annotation of polygons has everything and is right; fast, for nearly all are."""
    try:
        x, y, width, height = annotation["bbox"]
        right, top = sizes[annotation["image_id"]]
        return (
            type(annotation["id"]) is int
            and annotation["category_id"] in categories
            and annotation["iscrowd"] == 0
            and annotation["area"] >= 0
            and x >= -TOLERANCE
            and y >= -TOLERANCE
            and 0 <= width <= right - x + TOLERANCE
            and 0 <= height <= top - y + TOLERANCE
            and type(annotation["segmentation"]) is list
            and len(annotation["segmentation"]) > 0
            and "keypoints" not in annotation
            and all(
                _is_whole(polygon) and _is_near(polygon, FAR * max(right, top))
                for polygon in annotation["segmentation"]
            )
        )
    except (KeyError, OverflowError, TypeError, ValueError):
        return False


def _is_near(polygon: list[float], far: int) -> bool:
    """Whether the coordinates of a polygon are numbers that are not far away; fast."""
    return math.isfinite(sum(polygon)) and -far <= min(polygon) and max(polygon) <= far


def _is_whole(polygon: list[float]) -> bool:
    """Whether a polygon has three points or more."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def hashable(value: object) -> object:
    """The value, or None where it can be no id at all."""
    return value if isinstance(value, int | str) else None


def _findings(annotation: dict, image: dict | None, categories: set, masks: bool) -> Iterator[str]:
    """What is wrong with an annotation, as the ends of sentences; fills in what it lacks."""
    if not is_id(annotation.get("id")):
        yield f"has id {annotation.get('id')!r}, not a whole number"
    category = annotation.get("category_id")
    if hashable(category) not in categories:
        yield f"has category_id {category!r}, which is not among the file's categories"
    if annotation.get("iscrowd") is None:
        annotation["iscrowd"] = 0
    if annotation["iscrowd"] not in (0, 1):
        yield f"has iscrowd {annotation['iscrowd']!r}, not 0 or 1"
    if image is None:
        yield f"has image_id {annotation.get('image_id')!r}, which is not among the file's images"
        return
    keypoints = annotation.get("keypoints")
    if not _are_keypoints(keypoints):
        yield f"has keypoints {_short(keypoints)}, not a list of numbers [x, y, visibility, ...]"
    wrong = _wrong_segmentation(annotation.get("segmentation"), image)
    if wrong:
        yield f"has {wrong}"
    elif masks and not annotation.get("segmentation"):  # of a crowd, too: evaluation needs it
        yield (
            f"has segmentation {annotation.get('segmentation')!r}, and MODEL.MASK_ON needs the "
            "masks of all instances"
        )
    box = annotation.get("bbox")
    if box is None and not wrong and annotation.get("segmentation"):
        annotation["bbox"] = mask_api.toBbox(_encode(annotation, image)).tolist()
    else:
        wrong_box = _wrong_box(box, image)
        if wrong_box:
            yield f"has bbox {box!r}{wrong_box}"
            return
    if annotation.get("area") is None and not wrong:
        annotation["area"] = _area(annotation, image)
    elif not (_is_number(annotation.get("area")) and annotation["area"] >= 0) and not wrong:
        yield f"has area {annotation.get('area')!r}, not a number of pixels"


def _are_keypoints(value: object) -> bool:
    """Whether keypoints are missing, or numbers in threes."""
    if value is None:
        return True
    return isinstance(value, list) and len(value) % 3 == 0 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= MAX_NUMBER  # false of NaN and infinity, too
    )


def _wrong_box(box: object, image: dict) -> str:
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return ", not the four numbers [x, y, width, height]"
    x, y, width, height = box
    if width < 0 or height < 0:
        return ", whose width or height is negative"
    if (
        min(x, y) < -TOLERANCE
        or x + width > image["width"] + TOLERANCE
        or y + height > image["height"] + TOLERANCE
    ):
        return f", which reaches beyond the image's {image['width']} x {image['height']} pixels"
    return ""


def _wrong_segmentation(segmentation: object, image: dict) -> str:
    """What is wrong with a segmentation that is there, or an empty text."""
    size = [image["height"], image["width"]]
    if segmentation is None or segmentation == []:
        return ""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != size:
            return f"an RLE of the size {segmentation.get('size')!r}, and the image has {size}"
        if isinstance(counts, list):
            if not all(is_id(c) and c >= 0 for c in counts) or sum(counts) != size[0] * size[1]:
                return f"an RLE whose counts are not the {size[0] * size[1]} pixels of the image"
        elif not isinstance(counts, str) or not _decodes(segmentation):
            return "an RLE whose counts are invalid"
        return ""
    if not isinstance(segmentation, list):
        return f"segmentation {_short(segmentation)}, neither polygons nor an RLE"
    for polygon in segmentation:
        if not isinstance(polygon, list):
            return (
                f"segmentation {_short(segmentation)}, not a list of polygons [[x1, y1, x2, y2, "
                "...], ...]"
            )
        if not all(map(_is_number, polygon)):
            return f"a polygon {_short(polygon)} with something that is not a number"
        if polygon and not _is_near(polygon, FAR * max(size)):
            return (
                f"a polygon {_short(polygon)} far beyond the image's {size[1]} x {size[0]} pixels"
            )
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _decodes(rle: dict) -> bool:
    """Whether the runs of a compressed RLE add up to its pixels."""
    try:
        return _pixels(rle["counts"]) == rle["size"][0] * rle["size"][1]
    except (IndexError, ValueError):
        return False


def _pixels(counts: str) -> int:
    """The sum of the runs in COCO's text form: 5 bits a character, differences from the third on.

    Raises:
        IndexError: the text ends in the middle of a run.
        ValueError: a run is negative, or a character means nothing.
    """
    runs: list[int] = []
    place = 0
    while place < len(counts):
        value, shift, more = 0, 0, True
        while more:
            code = ord(counts[place]) - 48
            if not 0 <= code < 64:
                raise ValueError(counts[place])
            value |= (code & 0x1F) << shift
            more = bool(code & 0x20)
            place += 1
            shift += 5
            if not more and code & 0x10:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise ValueError(runs[-1])
    return sum(runs)


def _encode(annotation: dict, image: dict) -> dict:
    """The mask of an annotation as a compressed RLE."""
    segmentation, size = annotation["segmentation"], (image["height"], image["width"])
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return mask_api.frPyObjects(segmentation, *size)
        return segmentation
    polygons = [polygon for polygon in segmentation if _is_whole(polygon)]
    if not polygons:
        return mask_api.encode(np.zeros(size, np.uint8, order="F"))
    return mask_api.merge(mask_api.frPyObjects(polygons, *size))


def _area(annotation: dict, image: dict) -> float:
    """The pixels of the mask; those of the box where there is no mask."""
    if annotation.get("segmentation"):
        return float(mask_api.area(_encode(annotation, image)))
    return float(annotation["bbox"][2] * annotation["bbox"][3])
