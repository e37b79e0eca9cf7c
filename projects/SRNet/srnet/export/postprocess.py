"""From the outputs of an exported detector to masks and a panoptic map, in NumPy alone.

This file needs nothing of the project and may be copied.
"""

import numpy as np


def paste_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize the mask of each box to the box, bilinearly, and place it in the image.

    Args:
        masks: (N, M, M) probabilities.
        boxes: (N, 4): x0, y0, x1, y1 in pixels of the image.
        height: of the image.
        width: of the image.

    Returns:
        (N, height, width) of bool.
    """
    pasted = np.zeros((len(masks), height, width), bool)
    for index, (mask, (x0, y0, x1, y1)) in enumerate(zip(masks, boxes, strict=True)):
        rows = _bilinear(y0, y1, height, len(mask))
        columns = _bilinear(x0, x1, width, len(mask))
        pasted[index] = rows @ mask @ columns.T >= 0.5
    return pasted


def combine_panoptic(
    scores: np.ndarray,
    classes: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray,
    *,
    overlap: float,
    stuff_area: int,
    min_score: float,
) -> tuple[np.ndarray, list[dict]]:
    """Merge instances and semantic labels as Panoptic FPN does (Kirillov et al., CVPR 2019).

    Instances are placed from the highest score on. What they leave free gets the stuff.

    Args:
        scores: (N,).
        classes: (N,).
        masks: (N, H, W) of bool.
        labels: (H, W): the largest logit of `sem_seg`; 0 stands for all things.
        overlap: an instance of which a larger part is taken is left out.
        stuff_area: stuff of fewer pixels is left out.
        min_score: instances below are left out.

    Returns:
        (H, W) of int32, the id of the segment of each pixel, 0 for none; and for each segment its
        "id", "isthing" and "category_id", for things its "score", for stuff its "area".
    """
    panoptic = np.zeros(labels.shape, np.int32)
    segments: list[dict] = []
    for index in np.argsort(-scores, kind="stable"):
        area = masks[index].sum()
        free = masks[index] & (panoptic == 0)
        if scores[index] < min_score or not area or (area - free.sum()) / area > overlap:
            continue
        panoptic[free] = len(segments) + 1
        thing = {"isthing": True, "category_id": int(classes[index])}
        segments.append({"id": len(segments) + 1, **thing, "score": float(scores[index])})
    for label in np.unique(labels):
        free = (labels == label) & (panoptic == 0)
        if label == 0 or free.sum() < stuff_area:
            continue
        panoptic[free] = len(segments) + 1
        stuff = {"isthing": False, "category_id": int(label), "area": int(free.sum())}
        segments.append({"id": len(segments) + 1, **stuff})
    return panoptic, segments


def _bilinear(start: float, end: float, length: int, count: int) -> np.ndarray:
    """(length, count): how much each of `count` cells from `start` to `end` adds to a pixel."""
    cells = (np.arange(length) + 0.5 - start) / (end - start) * count - 0.5
    return np.maximum(0, 1 - np.abs(cells[:, None] - np.arange(count)))
