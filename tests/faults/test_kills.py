"""kill -9 at random moments: a resumed training is the uninterrupted one, to the last bit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from srnet.data.prepare import scenes
from srnet.data.prepare.conversion import run_script

pytestmark = pytest.mark.fault("kills and resumes")
COMMON = {
    "MODEL.DEVICE": "cpu",
    "SOLVER.MAX_ITER": 7,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.EMA.ENABLED": True,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.EVAL_PERIOD": 3,
    "SEED": 1,
}
SEMANTIC = {
    "MODEL.CONTEXT.NAME": "ann",  # with dropout
    "INPUT.CROP.SIZE": "[64,64]",
    "INPUT.MIN_SIZE_TRAIN": "(48,96)",
    "INPUT.MIN_SIZE_TEST": 48,
}
CLASSIFIER = {
    "MODEL.CLASSIFIER.NUM_CLASSES": 2,
    "INPUT.CLASSIFICATION.SIZE": 32,
    "INPUT.CLASSIFICATION.RESIZE_TEST": 36,
    "INPUT.CLASSIFICATION.SIZE_TEST": 32,
    "INPUT.CLASSIFICATION.MIXUP": 0.2,
    "DATASETS.IMAGE_FOLDER_TRAIN": "classes",
    "DATASETS.IMAGE_FOLDER_TEST": "classes",
    "SOLVER.ACCUMULATE": 2,
    "SOLVER.IMS_PER_BATCH": 4,
}
DETECTOR = {
    "INPUT.MIN_SIZE_TRAIN": "(48,64)",
    "INPUT.MAX_SIZE_TRAIN": 96,
    "INPUT.MIN_SIZE_TEST": 48,
    "MODEL.ROI_HEADS.NUM_CLASSES": 4,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 5,
}
INSTANCES = {
    "DATASETS.TRAIN": "('scenes_instance_train',)",
    "DATASETS.TEST": "('scenes_instance_val',)",
}
FAMILIES = {
    "semantic": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", SEMANTIC),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", CLASSIFIER),
    "mask_rcnn": ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", {**DETECTOR, **INSTANCES}),
    "panoptic": ("quick_schedules/scenes_panoptic_fpn_R_18_SR.yaml", DETECTOR),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, small_camvid):
    base = tmp_path_factory.mktemp("trees")
    (base / "camvid").symlink_to(small_camvid / "camvid")
    options = ["--size", "96x128", "--train", "6", "--val", "2"]
    run_script(scenes, ["--output", str(base / "scenes"), *options])
    rng = np.random.default_rng(0)
    for name in "ab":
        (base / "classes" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(base / "classes" / name / f"{i}.png")
    return base


def check_kills(family, kills, datasets, root, output, tried):
    import kill_runs

    config, options = FAMILIES[family]
    opts = [str(x) for item in {**COMMON, **options}.items() for x in item]
    runs = {family: (str(root / "configs" / config), opts)}
    result = subprocess.run(
        [sys.executable, kill_runs.__file__, output, json.dumps(runs), str(kills), "0"],
        env={**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((output / "report.json").read_text())[family]
    print(f"{family}: {report}")
    for moment, count in report["kills"].items():
        for i in range(count):
            tried(f"{family}, killed: {moment} {i}")
    assert report["problems"] == []
    assert sum(report["kills"].values()) == kills


def test_two_kills_of_a_classifier(datasets, root, tmp_path, tried):
    check_kills("classifier", 2, datasets, root, tmp_path, tried)


@pytest.mark.faults_slow
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_kills(datasets, root, tmp_path, tried, family):
    check_kills(family, 20, datasets, root, tmp_path, tried)
