"""Models of random weights, and pictures, for the tests of predicting."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from srnet import build_model, get_cfg

CONFIGS = {
    "semantic": "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
    "instances": "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
    "panoptic": "quick_schedules/panoptic_fpn_R_18_SR.yaml",
    "classifier": "ImageNet-Classification/resnet_18_SR.yaml",
}
# Untrained detectors give each class a score of about one in the number of classes.
OPTIONS = {
    "instances": ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0],
    "panoptic": [
        *["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0],
        *["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0],
        *["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 1],
    ],
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A config with weights for each family, made on first use: trained(family)."""
    folder, made = tmp_path_factory.mktemp("trained"), {}

    def make(family):
        if family not in made:
            torch.manual_seed(0)
            cfg = get_cfg(CONFIGS[family], ["MODEL.DEVICE", "cpu", *OPTIONS.get(family, [])])
            model = build_model(cfg)
            for parameter in model.parameters():  # SR is to be more than the identity
                if not parameter.abs().max():
                    torch.nn.init.normal_(parameter, std=0.1)
            path = str(folder / f"{family}.pth")
            torch.save({"model": model.state_dict()}, path)
            options = OPTIONS.get(family, [])
            made[family] = SimpleNamespace(config=CONFIGS[family], weights=path, options=options)
        return made[family]

    return make


@pytest.fixture(scope="session")
def pixels():
    """A smooth coloured picture, BGR: pixels(height, width, seed)."""

    def draw(height=48, width=64, seed=0):
        small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)

    return draw
