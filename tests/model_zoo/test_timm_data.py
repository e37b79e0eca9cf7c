"""Pixel mean, std and colour order of timm's networks, against timm's own data configs."""

import logging

import pytest
from srnet import get_cfg
from srnet.model_zoo.names import CONFIGS

timm = pytest.importorskip("timm")

LITE0 = "CamVid-SemanticSegmentation/lite0_SR.yaml"  # it gives mean and std
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "RGB")
HALF = ([127.5] * 3, [127.5] * 3, "RGB")


def values(cfg):
    return list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD), cfg.INPUT.FORMAT


def test_what_the_config_gives_beside_the_name_stays(caplog):
    with caplog.at_level(logging.INFO):
        cfg = get_cfg(LITE0)
    assert values(cfg) == ([127.0] * 3, [128.0] * 3, "RGB")
    (line,) = [r.getMessage() for r in caplog.records if "PIXEL_MEAN" in r.getMessage()]
    assert "PIXEL_MEAN [127.0, 127.0, 127.0] of the config" in line and "RGB of timm" in line


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite4"])
def test_another_network_brings_its_own(name):
    theirs = timm.get_pretrained_cfg(name)
    mean, std, order = values(get_cfg(LITE0, ["MODEL.TIMM.NAME", name]))
    assert mean == pytest.approx([255 * x for x in theirs.mean])
    assert std == pytest.approx([255 * x for x in theirs.std])
    assert order == "RGB"


def test_bgr_turns_the_order_and_what_is_given_stays():
    network = ["MODEL.TIMM.NAME", "resnet10t", "INPUT.FORMAT", "BGR"]
    mean, std, _ = IMAGENET
    assert values(get_cfg(LITE0, network)) == (mean[::-1], std[::-1], "BGR")
    given = [*network, "MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0]]
    assert values(get_cfg(LITE0, given)) == ([1.0, 2.0, 3.0], std[::-1], "BGR")


def test_values_of_a_base_config_are_another_networks(tmp_path):
    """Base-SemanticSegmentation has those of torchvision's ResNets."""
    text = f'_BASE_: "{CONFIGS}/Base-SemanticSegmentation.yaml"\n'
    text += "MODEL:\n  BACKBONE:\n    NAME: build_timm_backbone\n"
    text += "  TIMM:\n    NAME: tf_efficientnet_lite0\n  SEM_SEG_HEAD:\n    NAME: DFSegHead\n"
    text += "    IN_FEATURES: [res3, res4, res5]\n"
    text += "INPUT:\n  MIN_SIZE_TRAIN: [180, 720]\n  CROP: {TYPE: absolute, SIZE: [256, 320]}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert values(get_cfg(tmp_path / "mine.yaml")) == HALF
    (tmp_path / "child.yaml").write_text(
        "_BASE_: mine.yaml\nMODEL:\n  PIXEL_STD: [1.0, 1.0, 1.0]\n"
    )
    assert values(get_cfg(tmp_path / "child.yaml")) == (HALF[0], [1.0] * 3, "RGB")


def test_other_backbones_are_left_alone():
    cfg = get_cfg("CamVid-SemanticSegmentation/dfnet_v1.yaml", ["MODEL.TIMM.NAME", "resnet10t"])
    assert values(cfg) == IMAGENET
    cfg = get_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    assert values(cfg) == ([103.53, 116.28, 123.675], [1.0] * 3, "BGR")
