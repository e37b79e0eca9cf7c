"""The benchmark of training samples: both ways make the same sample, and ratios are of a round."""

import numpy as np
import torch
from srnet import get_cfg
from srnet.analysis.samples import readers, sample_costs, to_text

CONFIG = "Cityscapes-SemanticSegmentation/srnet_R_50.yaml"
SMALL = ["INPUT.MIN_SIZE_TRAIN", (40, 160), "INPUT.CROP.SIZE", (60, 60)]


def test_both_ways_make_one_sample():
    cfg = get_cfg(CONFIG, SMALL)
    found = []
    for read in readers(cfg, (80, 160)).values():
        np.random.seed(3)
        found.append(read())
    assert torch.equal(found[0]["sem_seg"], found[1]["sem_seg"].long())
    assert (found[0]["image"] - found[1]["image"]).abs().max() <= 2
    assert found[0]["image"].dtype == torch.float32
    assert found[1]["sem_seg"].dtype == torch.uint8


def test_float_images_and_long_labels_have_20_bytes_a_pixel():
    costs = sample_costs(get_cfg(CONFIG, SMALL), (80, 160), images=3, rounds=2)
    assert {size for _, size in costs["Detectron2"]} == {60 * 60 * 20 / 1e6}
    assert all(size <= 60 * 60 * 13 / 1e6 for _, size in costs["this project"])


def test_the_ratio_is_that_of_the_rounds():
    text = to_text({"Detectron2": [(40.0, 10.0), (80.0, 10.0)], "this project": [(10.0, 2.0)] * 2})
    assert "time, this project / Detectron2: 0.188 (0.125 to 0.250)" in text
    assert "bytes, this project / Detectron2: 0.200 (0.200 to 0.200)" in text
