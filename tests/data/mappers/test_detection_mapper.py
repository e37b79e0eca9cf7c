"""The detectors' mapper beside Detectron2's own, on files that both read."""

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from PIL import Image
from srnet import get_cfg
from srnet.data import DetectionMapper, PanopticMapper
from srnet.data.seeding import seeded

SQUARE = [20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]


@pytest.fixture
def record(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)).save(tmp_path / "i.jpg")
    label = np.kron(rng.integers(0, 3, (12, 16)), np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(label).save(tmp_path / "l.png")
    annotations = [
        {"bbox": [20, 20, 40, 40], "bbox_mode": 1, "category_id": 1, "segmentation": [SQUARE]},
        {"bbox": [0, 0, 9, 9], "bbox_mode": 1, "category_id": 0, "iscrowd": 1, "segmentation": []},
    ]
    return {
        "file_name": str(tmp_path / "i.jpg"),
        "sem_seg_file_name": str(tmp_path / "l.png"),
        "image_id": 7,
        "height": 96,
        "width": 128,
        "annotations": annotations,
    }


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("ours", [DetectionMapper, PanopticMapper])
def test_training_data_is_detectron2s(record, ours, crop):
    cfg = get_cfg("COCO-PanopticSegmentation/panoptic_fpn_R_50_SR_1x.yaml")
    cfg.merge_from_list(["INPUT.CROP.ENABLED", crop, "INPUT.MIN_SIZE_TRAIN", (64, 96, 160)])
    before = copy.deepcopy(record)
    for position in range(4):
        with seeded(0, position):
            found = ours(cfg, True)(record)
        with seeded(0, position):
            expected = DatasetMapper(cfg, True)(record)
        assert found.keys() == expected.keys()
        for key in ("image", "sem_seg"):
            assert found[key].dtype == expected[key].dtype
            assert torch.equal(found[key], expected[key])
        for field in ("gt_boxes", "gt_classes", "gt_masks"):
            one, other = (getattr(x["instances"], field) for x in (found, expected))
            assert str(one) == str(other)
            if field == "gt_masks":
                assert np.array_equal(one.polygons, other.polygons)
    assert json.dumps(record) == json.dumps(before)


def test_test_data_is_detectron2s_without_labels(record):
    cfg = get_cfg("COCO-PanopticSegmentation/panoptic_fpn_R_50_SR_1x.yaml")
    found, expected = PanopticMapper(cfg, False)(record), DatasetMapper(cfg, False)(record)
    assert torch.equal(found["image"], expected.pop("image"))
    expected.pop("sem_seg")  # of no use to a model that predicts
    assert {k: v for k, v in found.items() if k != "image"} == expected
