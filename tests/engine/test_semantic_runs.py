"""Every semantic config trains and evaluates on small trees; the tools run on what it leaves."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from srnet import build_model, get_cfg
from srnet.data import (
    register_all_ade20k,
    register_all_camvid,
    register_all_cityscapes,
    register_all_pascal_context,
)
from srnet.engine import Trainer
from srnet.model_zoo.names import config_names
from srnet.modeling.backbone import wider_resnet

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = ("Cityscapes", "ADE20K", "PascalContext", "CamVid")
# The networks keep their depth and form; their width is a fraction.
SLIM = {
    "MODEL.WEIGHTS": "",
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
}
SLIM_RESNET = {"MODEL.RESNETS.RES2_OUT_CHANNELS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 8}
SLIM_DEEPLAB = {"MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 32}
SMALL = {
    "INPUT.CROP.SIZE": [65, 65],
    "INPUT.MIN_SIZE_TRAIN": [50, 100],
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.SEM_SEG.WINDOW": [65, 65],
    "TEST.SEM_SEG.STRIDE": [33, 49],
    "SEED": 1,
}


def options(**more):
    return [str(x) for item in {**SLIM, **SMALL, **more}.items() for x in item]


@pytest.fixture(scope="module")
def trees(small_semantic, small_camvid, datasets_forgotten, tmp_path_factory):
    """A DETECTRON2_DATASETS folder with every dataset of these configs, registered."""
    root = tmp_path_factory.mktemp("trees")
    for path in (*small_semantic.iterdir(), small_camvid / "camvid"):
        (root / path.name).symlink_to(path)
    (root / "camvid_960x720").symlink_to(small_camvid / "camvid")
    with datasets_forgotten("camvid", "cityscapes_fine_instance", "pascal_context"):
        register_all_ade20k(str(root))
        register_all_camvid(str(root))
        register_all_cityscapes(str(root))
        register_all_pascal_context(str(root))
        yield root


@pytest.fixture
def slim_wider_resnet(monkeypatch):
    stages = {
        name: (blocks, tuple(width // 16 for width in widths))
        for name, (blocks, widths) in wider_resnet.STAGES.items()
    }
    monkeypatch.setattr(wider_resnet, "STAGES", stages)


@pytest.mark.parametrize(
    "config",
    [name for name in config_names() if name.split("-SemanticSegmentation")[0] in FOLDERS],
)
def test_every_config_trains_and_evaluates(trees, slim_wider_resnet, tmp_path, config):
    modes = {"TEST.SEM_SEG.SCALES": [0.5, 1.0]} if "120k" in config else {}
    modes |= SLIM_DEEPLAB if "_WR_" in config else SLIM_RESNET if "_R_" in config else {}
    if "ADE20K" in config:
        modes["INPUT.MIN_SIZE_TEST"] = 64
    cfg = get_cfg(str(CONFIGS / config), options(OUTPUT_DIR=str(tmp_path), **modes))
    trainer = Trainer(cfg)
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    trainer.train()
    changed = [k for k, v in trainer.model.named_parameters() if not torch.equal(v, before[k])]
    assert len(changed) > len(before) / 2
    for name in cfg.DATASETS.TEST:
        written = json.loads((tmp_path / "inference" / f"{name}_iou.json").read_text())
        assert len(written["classes"]) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        assert 0 <= written["mean"] <= 100


def test_two_processes_evaluate_as_one_and_submit(trees, train_net, root, tmp_path):
    """The commands a user runs: sliding windows, scales and flip; evaluation; the archive."""
    config = "Cityscapes-SemanticSegmentation/dfnet_v1_SR.yaml"
    opts = options(**{"TEST.SEM_SEG.MODE": "slide", "TEST.SEM_SEG.SCALES": [0.75, 1.0]})
    opts += ["TEST.SEM_SEG.FLIP", "True", "OUTPUT_DIR", str(tmp_path)]
    cfg = get_cfg(str(CONFIGS / config), opts)
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    expected = Trainer.test(cfg, model)["sem_seg"]
    opts += ["MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    train_net(trees, config, "--eval-only", "--num-gpus=2", *opts)
    path = tmp_path / "inference/cityscapes_fine_sem_seg_val_iou.json"
    assert json.loads(path.read_text())["mean"] == pytest.approx(expected["IoU"])

    command = [sys.executable, "-m", "srnet", "submit", "cityscapes", *opts]
    command += ["--config-file", config, "--num-gpus", 2]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(trees), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [str(c) for c in command], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "the test server refuses a part" in result.stdout
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert len(archive.namelist()) == 6
        with archive.open(archive.namelist()[0]) as file, Image.open(file) as image:
            assert image.size == (128, 64) and set(np.unique(image)) <= set(range(7, 34))
