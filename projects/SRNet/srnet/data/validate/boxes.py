"""Whether the boxes of a file are COCO's [x, y, width, height], and not of another format.

Corners and shares of the image are boxes, too, and would train a detector on the wrong ones. What
an annotation's polygons enclose tells them apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

SAMPLE = 200  # annotations that are looked at, from all over the file
CLOSE = 1.5  # pixels between a box and what its polygons enclose
RIGHT = "[x, y, width, height] in pixels"
# How the formats write what lies between the corners (x1, y1) and (x2, y2), in pixels.
FORMATS: dict[str, Callable[[float, float, float, float], tuple[float, ...]]] = {
    RIGHT: lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
    "corners [x1, y1, x2, y2]": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    "centres [x, y, width, height]": lambda x1, y1, x2, y2: (
        (x1 + x2) / 2,
        (y1 + y2) / 2,
        x2 - x1,
        y2 - y1,
    ),
}
SHARES = "shares of the image's width and height"


def check_box_format(images: list[dict], annotations: list[dict]) -> list[str]:
    """Find out whether boxes are written in another format than COCO's.

    Args:
        images: of the file, each with `id`, `width` and `height`.
        annotations: right ones, each with `bbox`.

    Returns:
        The finding, if most of the boxes that can be told are in another format and few in COCO's.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    step = -(-len(annotations) // SAMPLE) or 1
    sample = annotations[::step]
    counts: Counter[str] = Counter()
    told = 0
    for annotation in sample:
        formats = set(_formats(annotation, sizes[annotation["image_id"]]))
        told += bool(formats)
        # Where a box begins in the image's corner, several formats agree.
        counts.update({RIGHT} if RIGHT in formats else formats)
    if counts[RIGHT] * 10 > told or told < 2:
        return []
    name, count = counts.most_common(1)[0]
    if count * 2 <= len(sample):
        return []
    share = f"{count} of {len(sample)} annotations"
    return [f"bbox seems to hold {name}, in {share}: COCO's is {RIGHT}"]


def _formats(annotation: dict, size: tuple[int, int]) -> Iterator[str]:
    """Yield the formats in which the box is what the polygons enclose; shares by themselves."""
    box = np.asarray(annotation["bbox"], float)
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list) or not segmentation:
        if (box <= 1).all() and (box % 1).any() and min(size) > 2:
            yield SHARES
        return
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    corners = *points.min(0), *points.max(0)
    for name, write in FORMATS.items():
        wanted = np.asarray(write(*corners))
        if (np.abs(box - wanted) <= CLOSE).all():
            yield name
        elif (box <= 1).all() and (np.abs(box * (*size, *size) - wanted) <= CLOSE).all():
            yield SHARES
