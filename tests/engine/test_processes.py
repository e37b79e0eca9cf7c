"""A run on two or four processes without a GPU is the run on one, to rounding, in every loss."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import process_runs
import pytest
from PIL import Image
from srnet.data.prepare import scenes
from srnet.data.prepare.conversion import run_script

COMMON = {
    "MODEL.DEVICE": "cpu",
    "SOLVER.MAX_ITER": 3,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.ACCUMULATE": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TEST": "()",
    "SEED": 1,
}
SEMANTIC = {"INPUT.CROP.SIZE": "[64,64]", "INPUT.MIN_SIZE_TRAIN": "(48,96)"}
CLASSIFIER = {
    "MODEL.CLASSIFIER.NUM_CLASSES": 2,
    "INPUT.CLASSIFICATION.SIZE": 32,
    "DATASETS.IMAGE_FOLDER_TRAIN": "classes",
    "MODEL.RESNETS.NORM": "SyncBN",
}
DETECTOR = {
    # Images of a batch differ in size, so some processes have smaller ones than others.
    "INPUT.MIN_SIZE_TRAIN": "(64,80,96)",
    "INPUT.MAX_SIZE_TRAIN": 128,
    "DATASETS.TRAIN": "('scenes_panoptic_train_separated',)",
    "MODEL.ROI_HEADS.NUM_CLASSES": 4,
    # Few, so that sampling leaves some out.
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
}
CLIP = {
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
}
ALL = {**CLIP, "SOLVER.EMA.ENABLED": True, "SOLVER.ACCUMULATE": 2}
CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
QUICK = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
CASCADE = {
    "MODEL.ROI_HEADS.NAME": "GlobalBatchCascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
}
RUNS = {
    "semantic": (CAMVID, SEMANTIC),
    # With no fewest number, OHEM decides for each pixel alone.
    "ohem": (
        CAMVID,
        {
            **SEMANTIC,
            "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "ohem",
            "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT": 0,
        },
    ),
    # Asymmetric non-local attention has dropout.
    "dropout": (CAMVID, {**SEMANTIC, **ALL, "MODEL.CONTEXT.NAME": "ann"}),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", {**CLASSIFIER, **ALL}),
    "mask_rcnn": (QUICK, {**DETECTOR, **ALL}),
    "cascade": (QUICK, {**DETECTOR, **CASCADE}),
    "panoptic": ("quick_schedules/scenes_panoptic_fpn_R_18_SR.yaml", {**DETECTOR, **ALL}),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_camvid, root):
    """The results of every run by name, on each number of processes."""
    base, output = tmp_path_factory.mktemp("trees"), tmp_path_factory.mktemp("runs")
    (base / "camvid").symlink_to(small_camvid / "camvid")
    run_script(
        scenes,
        ["--output", str(base / "scenes"), "--size", "96x128", "--train", "16", "--val", "1"],
    )
    rng = np.random.default_rng(0)
    for name in "ab":
        (base / "classes" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(base / "classes" / name / f"{i}.png")
    runs = {}
    for name, (config, options) in RUNS.items():
        chosen = {**COMMON, **options}
        opts = [str(x) for item in chosen.items() for x in item]
        runs[name] = (str(root / "configs" / config), opts)

    def start(processes):
        folder = output / str(processes)
        folder.mkdir()
        finished = subprocess.run(
            [sys.executable, process_runs.__file__, str(processes), folder, json.dumps(runs)],
            env={**os.environ, "DETECTRON2_DATASETS": str(base), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}

    with ThreadPoolExecutor() as pool:
        counts = (1, 2, 4)
        return dict(zip(counts, pool.map(start, counts), strict=True))


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", RUNS)
def test_every_logged_loss_is_that_of_one_process(results, name, processes):
    one, several = results[1][name], results[processes][name]
    totals = [losses["total_loss"] for losses in one["losses"]]
    assert len(totals) == 3 and len(set(totals)) == 3
    for expected, found in zip(one["losses"], several["losses"], strict=True):
        assert found == pytest.approx(expected, rel=1e-6)
    assert several["statistics"] == pytest.approx(one["statistics"], rel=1e-4, abs=1e-8)
    assert several["average"] == pytest.approx(one["average"], rel=1e-6)
