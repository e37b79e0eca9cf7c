"""A resumed run is the uninterrupted one to the last bit: every family, one process and two."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase, launch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from PIL import Image
from srnet import get_cfg
from srnet.engine import Trainer, close_process_groups

ITERATIONS, STOP = 4, 1
COMMON = {
    "MODEL.DEVICE": "cpu",
    "SOLVER.MAX_ITER": ITERATIONS,
    "SOLVER.CHECKPOINT_PERIOD": STOP + 1,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TEST": "()",
}
SEMANTIC = {
    # Asymmetric non-local attention has dropout.
    "MODEL.CONTEXT.NAME": "ann",
    "INPUT.CROP.SIZE": "[64,64]",
    "INPUT.MIN_SIZE_TRAIN": "(48,96)",
    "SOLVER.IMS_PER_BATCH": 4,
    # The seed that is drawn is the checkpoint's.
    "SEED": -1,
}
CLASSIFIER = {
    "MODEL.CLASSIFIER.NUM_CLASSES": 2,
    "INPUT.CLASSIFICATION.SIZE": 32,
    "INPUT.CLASSIFICATION.MIXUP": 0.2,
    # get_cfg looks for it under DETECTRON2_DATASETS.
    "DATASETS.IMAGE_FOLDER_TRAIN": "classes",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.EMA.ENABLED": True,
    "SEED": 1,
}
DETECTOR = {"INPUT.MIN_SIZE_TRAIN": "(96,)", "INPUT.MAX_SIZE_TRAIN": 128, "SEED": 1}
FAMILIES = {
    "semantic": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", SEMANTIC),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", CLASSIFIER),
    "mask_rcnn": ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", DETECTOR),
    "panoptic": ("quick_schedules/panoptic_fpn_R_18_SR.yaml", DETECTOR),
}


class Losses(HookBase):
    def __init__(self):
        self.values = {}

    def after_step(self):
        names = [n for n in self.trainer.storage.histories() if "loss" in n]
        histories = self.trainer.storage.histories()
        self.values[self.trainer.iter] = {n: histories[n].latest() for n in names}


def train(config, opts, folder, resume):
    cfg = get_cfg(config, [*opts, "OUTPUT_DIR", str(folder)])
    seed_all_rng(100 + resume + comm.get_rank())  # a new process has other random numbers
    trainer, losses = Trainer(cfg), Losses()
    trainer.register_hooks([losses])
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return losses.values


@close_process_groups
def run_twice(output: str, runs: dict[str, tuple[str, list[str]]]) -> None:
    """Train each family at once, and resumed from the checkpoint in the middle."""
    torch.set_num_threads(1)
    for family, (config, opts) in runs.items():
        whole, resumed = Path(output, family, "whole"), Path(output, family, "resumed")
        curves = [train(config, opts, whole, False)]
        if comm.is_main_process():
            resumed.mkdir()
            name = f"model_{STOP:07d}.pth"
            shutil.copy(whole / name, resumed / name)
            (resumed / "last_checkpoint").write_text(name)
        comm.synchronize()
        curves.append(train(config, opts, resumed, True))
        if comm.is_main_process():
            Path(output, family, "curves.json").write_text(json.dumps(curves))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, small_camvid, request):
    """A DETECTRON2_DATASETS folder, and the families whose data it has."""
    from coco_trees import make_panoptic_coco  # not there in the processes

    base, families = tmp_path_factory.mktemp("trees"), ["semantic", "classifier"]
    (base / "camvid").symlink_to(small_camvid / "camvid")
    rng = np.random.default_rng(0)
    for name in "ab":
        (base / "classes" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(base / "classes" / name / f"{i}.png")
    with suppress(pytest.skip.Exception):
        make_panoptic_coco(request.getfixturevalue("data_root"), base)
        families = list(FAMILIES)
    return base, families


@pytest.fixture(scope="module", params=[1, 2])
def finished(request, datasets, root, tmp_path_factory):
    """The folder of the runs of all families, on one process or two."""
    base, families = datasets
    output = tmp_path_factory.mktemp("runs")
    runs = {}
    for family in families:
        config, options = FAMILIES[family]
        chosen = {**COMMON, **options}
        opts = [str(x) for item in chosen.items() for x in item]
        runs[family] = (str(root / "configs" / config), opts)
    result = subprocess.run(
        [sys.executable, __file__, str(request.param), output, json.dumps(runs)],
        env={**os.environ, "DETECTRON2_DATASETS": str(base), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return output


@pytest.mark.parametrize(
    "family",
    ["semantic", "classifier"]
    + [pytest.param(name, marks=pytest.mark.data) for name in ("mask_rcnn", "panoptic")],
)
def test_losses_weights_and_moments_are_equal(finished, request, family):
    if family in ("mask_rcnn", "panoptic"):
        request.getfixturevalue("data_root")
    folder = finished / family
    whole, resumed = json.loads((folder / "curves.json").read_text())
    assert len(whole) == ITERATIONS and len({str(v) for v in whole.values()}) == ITERATIONS
    assert resumed == {i: whole[i] for i in list(whole)[STOP + 1 :]}
    states = [
        torch.load(folder / name / "model_final.pth", weights_only=True)
        for name in ("whole", "resumed")
    ]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    moments = [state["trainer"]["_trainer"]["optimizer"]["state"] for state in states]
    for index, value in moments[0].items():
        assert torch.equal(value["momentum_buffer"], moments[1][index]["momentum_buffer"]), index


if __name__ == "__main__":
    arguments = (sys.argv[2], json.loads(sys.argv[3]))
    launch(run_twice, int(sys.argv[1]), dist_url="auto", args=arguments)
