"""Boxes of another format than COCO's, told by what the polygons enclose."""

import numpy as np
import pytest
from srnet.data.validate.boxes import check_box_format

WIDTH, HEIGHT = 64, 48
IMAGES = [{"id": 3, "width": WIDTH, "height": HEIGHT}]
SIZE = np.array([WIDTH, HEIGHT] * 2)
RANDOM = np.random.default_rng(0)
CORNERS = np.sort(RANDOM.uniform((0, 0), (WIDTH, HEIGHT), (20, 2, 2)), axis=1).reshape(20, 4)


def xywh(corners):
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def annotations(boxes, polygons=True):
    made = []
    for box, (x1, y1, x2, y2) in zip(boxes.tolist(), CORNERS.tolist(), strict=True):
        outline = [x1, y1, x2, y1, x2, y2, x1, y2]
        made.append({"image_id": 3, "bbox": box, "segmentation": [outline] if polygons else []})
    return made


def test_coco_s_boxes_pass():
    for boxes in (xywh(CORNERS), xywh(CORNERS).round(), xywh(CORNERS) + 0.9):
        assert check_box_format(IMAGES, annotations(boxes)) == []
    assert check_box_format(IMAGES, annotations(xywh(CORNERS), polygons=False)) == []
    assert check_box_format(IMAGES, []) == []


def test_boxes_of_whole_bodies_pass():
    """They are larger than the masks of what is seen, in no format."""
    boxes = xywh(CORNERS) + np.array([-4, -9, 8, 30])
    assert check_box_format(IMAGES, annotations(boxes)) == []


@pytest.mark.parametrize(
    "boxes, name",
    [
        (CORNERS, "corners"),
        ((xywh(CORNERS) + np.pad(xywh(CORNERS)[:, 2:] / 2, ((0, 0), (0, 2)))), "centres"),
        (xywh(CORNERS) / SIZE, "shares"),
        (CORNERS / SIZE, "shares"),
    ],
)
def test_another_format_is_named(tried, boxes, name):
    tried(f"COCO: boxes are {name}")
    (finding,) = check_box_format(IMAGES, annotations(boxes))
    assert name in finding and "[x, y, width, height] in pixels" in finding


def test_shares_without_polygons(tried):
    tried("COCO: boxes are shares, without polygons")
    (finding,) = check_box_format(IMAGES, annotations(xywh(CORNERS) / SIZE, polygons=False))
    assert "shares" in finding


def test_a_few_wrong_boxes_are_no_format():
    boxes = xywh(CORNERS)
    boxes[:5] = CORNERS[:5]
    assert check_box_format(IMAGES, annotations(boxes)) == []
