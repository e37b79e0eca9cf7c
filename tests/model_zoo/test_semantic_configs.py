"""The semantic configs against the paper's settings."""

import pytest
from srnet import get_cfg


# Section IV: crop, iterations (from epochs, images and a batch of 16 where the paper has epochs).
@pytest.mark.parametrize(
    ("config", "crop", "iterations", "loss", "split"),
    [
        ("Cityscapes-SemanticSegmentation/srnet_R_50", 769, 50_000, "cross_entropy", "train"),
        ("Cityscapes-SemanticSegmentation/srnet_R_101", 769, 50_000, "cross_entropy", "train"),
        ("Cityscapes-SemanticSegmentation/srnet_R_50_trainval_120k", 769, 120_000, "ohem", ""),
        ("Cityscapes-SemanticSegmentation/srnet_R_101_trainval_120k", 769, 120_000, "ohem", ""),
        ("Cityscapes-SemanticSegmentation/srnet_WR_38_trainval_120k", 769, 120_000, "ohem", ""),
        ("Cityscapes-SemanticSegmentation/dfnet_v1_SR", 1024, 50_000, "cross_entropy", "train"),
        ("Cityscapes-SemanticSegmentation/dfnet_v2_SR", 1024, 50_000, "cross_entropy", "train"),
        ("ADE20K-SemanticSegmentation/srnet_R_50", 512, 120 * 20210 / 16, "cross_entropy", "train"),
        ("ADE20K-SemanticSegmentation/srnet_R_101", 512, 120 * 20210 / 16, "cross_entropy", ""),
        ("PascalContext-SemanticSegmentation/srnet_R_50", 480, 100 * 4998 / 16, "", "train"),
        ("PascalContext-SemanticSegmentation/srnet_R_101", 480, 100 * 4998 / 16, "", "train"),
        ("CamVid-SemanticSegmentation/srnet_R_50_960x720", 640, 100 * 468 / 16, "", "trainval"),
        ("CamVid-SemanticSegmentation/srnet_R_101_960x720", 640, 100 * 468 / 16, "", "trainval"),
    ],
)
def test_settings_of_the_paper(config, crop, iterations, loss, split):
    cfg = get_cfg(f"{config}.yaml")
    assert list(cfg.INPUT.CROP.SIZE) == [crop, crop]
    assert pytest.approx(iterations, rel=1e-3) == cfg.SOLVER.MAX_ITER
    assert iterations <= cfg.SOLVER.MAX_ITER
    assert cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE.startswith(loss)
    assert cfg.DATASETS.TRAIN[0].endswith(split)
    assert ("trainval" in cfg.DATASETS.TRAIN[0]) == ("trainval" in config or "960" in config)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY) == (0.01, 0.9, 5e-4)
    assert (cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.POLY_LR_POWER) == ("WarmupPolyLR", 0.9)
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    assert cfg.MODEL.SEM_SEG_HEAD.NORM == "SyncBN"
    assert (101 if "R_101" in config else 50) == cfg.MODEL.RESNETS.DEPTH
    assert (cfg.TEST.SEM_SEG.MODE == "whole") == ("dfnet" in config or "Cityscapes" not in config)


def test_real_time_models_train_at_their_scales():
    cfg = get_cfg("Cityscapes-SemanticSegmentation/dfnet_v2_SR.yaml")
    assert [size / 1024 for size in cfg.INPUT.MIN_SIZE_TRAIN] == [0.75, 2.0]
    assert cfg.INPUT.MAX_SIZE_TRAIN >= 2 * 2048
