"""Whether a file predicts what the model predicts."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

from .graph import ExportError

LOGITS, SCORES, BOXES, MASKS = 1e-4, 1e-3, 0.5, 1e-2
"""Allowed differences. Boxes: pixels."""
ROUNDING = 2e-6
"""Of the largest logit, where that is more than `LOGITS`: above 50. The logits of lite0_SR in
float32 and float64 differ by 0.8e-6 of the largest (15)."""


class Difference(NamedTuple):
    """The largest difference of an output, and what is allowed."""

    output: str
    value: float
    allowed: float


Outputs = Mapping[str, np.ndarray]


def compare(expected: Outputs, found: Outputs, image: str) -> list[Difference]:
    """Compare the outputs for one image.

    Detections are matched first: of each class, the pairs of boxes with the largest IoU. So the
    order of detections with nearly equal scores does not matter.

    Args:
        expected: what the model predicts.
        found: what the file predicts.
        image: what messages call it.

    Returns:
        The difference of each output.

    Raises:
        ExportError: another number of detections or classes, or a difference that is not allowed.
    """
    if "boxes" in expected:
        expected, found = _match(expected, found, image)
    differences = []
    for name, value in expected.items():
        if value.shape != found[name].shape:
            raise ExportError(
                f"the exported file differs from the model on {image}: {name} is of the shape "
                f"{found[name].shape}, not {value.shape}"
            )
        if name == "classes" or not value.size:
            continue
        largest = float(np.abs(value - found[name]).max())
        allowed = {"scores": SCORES, "boxes": BOXES, "masks": MASKS}.get(name)
        if allowed is None:
            allowed = max(LOGITS, ROUNDING * float(np.abs(value).max()))
        if not largest <= allowed:  # true of NaN, too
            raise ExportError(
                f"the exported file differs from the model on {image}: {name} by {largest:.2g}, "
                f"and {allowed:.2g} is allowed"
            )
        differences.append(Difference(name, largest, allowed))
    return differences


def _match(expected: Outputs, found: Outputs, image: str) -> tuple[Outputs, Outputs]:
    """Bring the detections that were found into the order of those expected."""
    counts = [len(outputs["boxes"]) for outputs in (expected, found)]
    classes, others = (np.sort(outputs["classes"]) for outputs in (expected, found))
    if not np.array_equal(classes, others):
        raise ExportError(
            f"the exported file differs from the model on {image}: {counts[1]} detections, where "
            f"the model has {counts[0]}" + (", of other classes" if counts[0] == counts[1] else "")
        )
    ious = box_iou(*(torch.from_numpy(np.asarray(o["boxes"])) for o in (expected, found))).numpy()
    ious = np.where(expected["classes"][:, None] == found["classes"], ious, -1)
    order = np.full(counts[0], -1)
    for pair in np.argsort(-ious, axis=None, kind="stable"):
        one, other = np.unravel_index(pair, ious.shape)
        if order[one] < 0 and other not in order:
            order[one] = other
    names = [name for name in expected if name != "sem_seg"]
    return expected, {**found, **{name: found[name][order] for name in names}}
