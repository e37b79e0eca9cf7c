"""From segment maps to the COCO formats: polygons, instance and panoptic annotations."""

from collections.abc import Container, Sequence

import cv2
import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Outline a mask with polygons whose rasterization by pycocotools is the mask again.

    COCO's polygons have no holes: a part with a hole becomes two, cut through the hole.

    Args:
        mask: (H, W) of bool.

    Returns:
        Polygons [x1, y1, x2, y2, ...] along the edges between pixels.
    """
    # In a mask of twice the size an edge between pixels lies between columns 2i - 1 and 2i: the
    # border pixels OpenCV returns on either side are rounded to it.
    double = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [(contour[:, 0] + 1) // 2 for contour in contours]
    polygons = []
    for i, (*_, child, parent) in enumerate(hierarchy[0] if len(contours) else ()):
        if parent >= 0:
            continue
        if child < 0:
            polygons.append(_simplified(outlines[i]).ravel().tolist())
            continue
        drawn = np.zeros_like(double)
        cv2.drawContours(drawn, contours, i, (1,), cv2.FILLED, hierarchy=hierarchy, maxLevel=1)
        part = drawn[::2, ::2].astype(bool) & mask
        hole = outlines[child][:, 0]
        left, right = part.copy(), part.copy()
        cut = (hole.min() + hole.max() + 1) // 2
        left[:, cut:] = right[:, :cut] = False
        polygons += mask_to_polygons(left) + mask_to_polygons(right)
    return polygons


def _simplified(outline: np.ndarray) -> np.ndarray:
    """Drop repeated corners (n, 2) and those on a straight line."""
    outline = outline[np.any(outline != np.roll(outline, 1, axis=0), axis=1)]
    before, after = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    return outline[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def bounding_box(mask: np.ndarray) -> list[int]:
    """COCO's [x, y, width, height] of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def panoptic_id(segment: int) -> int:
    """An id from 1 to 2^24 - 1 for a segment, spread so that its colour can be told from others."""
    return segment * 0x9E3779 % (1 << 24)  # an odd factor: no two segments share one


def id_to_color(ids: np.ndarray) -> np.ndarray:
    """Map ids (H, W) to colours (H, W, 3), id = R + 256 G + 256^2 B."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def color_to_id(colors: np.ndarray) -> np.ndarray:
    """Map colours (H, W, 3) to ids (H, W)."""
    return colors.astype(np.int64) @ (1, 256, 256**2)


def annotate(
    segment_ids: np.ndarray, category_ids: Sequence[int], things: Container[int]
) -> tuple[list[dict], list[dict]]:
    """Describe the segments of an image as COCO does.

    Args:
        segment_ids: (H, W); 0 is void, i is segment i.
        category_ids: the category of segment i at i - 1.
        things: the categories of things.

    Returns:
        Instance annotations, which lack "id" and "image_id", and panoptic `segments_info`. The
        things come in the same order in both.
    """
    instances, segments = [], []
    for i, category in enumerate(category_ids, start=1):
        mask = segment_ids == i
        x, y, width, height = box = bounding_box(mask)
        shared = {
            "category_id": category,
            "bbox": box,
            "area": int(mask.sum()),
            "iscrowd": 0,
        }
        segments.append({"id": panoptic_id(i), **shared})
        if category in things:
            outlines = mask_to_polygons(mask[y : y + height, x : x + width])
            polygons = [(np.add(np.reshape(o, (-1, 2)), (x, y))).ravel().tolist() for o in outlines]
            instances.append({**shared, "segmentation": polygons})
    return instances, segments


def stuff_targets(labels: np.ndarray, isthing: Sequence[bool], void: int) -> np.ndarray:
    """Make the labels of Panoptic FPN's stuff branch from labels of all classes.

    Args:
        labels: (H, W), the place of the class in `isthing`, or `void`.
        isthing: of each class.
        void: the label of no class, below 256.

    Returns:
        (H, W) of uint8: 0 for things, 1 and on for stuff in its order, 255 for void.
    """
    table = np.full(256, 255, np.uint8)
    table[: len(isthing)] = np.where(isthing, 0, np.cumsum(np.logical_not(isthing)))
    table[void] = 255
    return table[labels]


def coco_files(
    images: list[dict],
    annotations: list[tuple[str, list, list]],
    classes: Sequence[tuple[str, tuple, bool]],
) -> tuple[dict, dict]:
    """Put the annotations of a split into COCO's two formats.

    Args:
        images: "file_name", "height" and "width" of each; gets its "id".
        annotations: of each image the name of its panoptic PNG and what :func:`annotate` returns.
        classes: name, colour and whether it is a thing; the category id is the place, from 1.

    Returns:
        The contents of the instance and the panoptic file.
    """
    categories = [
        {"id": i, "name": name, "isthing": int(isthing), "color": list(color)}
        for i, (name, color, isthing) in enumerate(classes, start=1)
    ]
    instances: list[dict] = []
    panoptic: list[dict] = []
    for image_id, (image, annotation) in enumerate(zip(images, annotations, strict=True), start=1):
        image["id"] = image_id
        name, things, segments = annotation
        for thing in things:
            instances.append({"id": len(instances) + 1, "image_id": image_id, **thing})
        panoptic.append({"image_id": image_id, "file_name": name, "segments_info": segments})
    things = [category for category in categories if category["isthing"]]
    return (
        {"images": images, "annotations": instances, "categories": things},
        {"images": images, "annotations": panoptic, "categories": categories},
    )
