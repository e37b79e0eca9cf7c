"""A run on two or four processes without a GPU is the run on one, to rounding, in every loss.

Detectron2's `launch`, torchrun and srun (its variables) start them.
"""

import json
import os
import socket
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
    """A function from what starts the processes to the results of every run by name."""
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

    finished = {}

    def start(kind):
        folder = output / str(kind)
        folder.mkdir()
        words = [process_runs.__file__, str(kind), str(folder), json.dumps(runs)]
        logs, processes = [], []
        for launcher, variables in LAUNCHERS.get(kind, lambda: [([], {})])():
            logs.append(folder / f"log{len(logs)}")
            environment = {"DETECTRON2_DATASETS": str(base), "OMP_NUM_THREADS": "1"} | variables
            with logs[-1].open("w") as log:  # a pipe that nobody reads yet would fill
                processes.append(
                    subprocess.Popen(
                        [sys.executable, *launcher, *words],
                        env={**os.environ, **environment},
                        stdout=log,
                        stderr=log,
                    )
                )
        statuses = [process.wait() for process in processes]
        assert not any(statuses), "".join(log.read_text()[-3000:] for log in logs)
        return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}

    def find(*kinds):
        missing = [kind for kind in kinds if kind not in finished]
        with ThreadPoolExecutor() as pool:
            finished.update(zip(missing, pool.map(start, missing), strict=True))
        return [finished[kind] for kind in kinds]

    return find


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def one_node():
    return [(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"], {})]


def two_nodes():
    common = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    common += ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    return [([*common, f"--node-rank={i}"], {}) for i in range(2)]


def two_tasks():
    task = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    task |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2"}
    task |= {"MASTER_PORT": free_port()}
    return [([], {**task, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(2)]


# What starts the processes: words of the command line and variables of each program to begin.
LAUNCHERS = {"torchrun": one_node, "torchrun on two nodes": two_nodes, "srun": two_tasks}


USUAL = (1, 2, 4, "torchrun on two nodes")


@pytest.mark.parametrize(
    "processes",
    [*USUAL[1:]]
    + [pytest.param(kind, marks=pytest.mark.faults_slow) for kind in ("torchrun", "srun")],
)
@pytest.mark.parametrize("name", RUNS)
def test_every_logged_loss_is_that_of_one_process(results, name, processes):
    if processes in USUAL:
        results(*USUAL)  # at the same time
    one, several = (found[name] for found in results(1, processes))
    totals = [losses["total_loss"] for losses in one["losses"]]
    assert len(totals) == 3 and len(set(totals)) == 3
    for expected, found in zip(one["losses"], several["losses"], strict=True):
        assert found == pytest.approx(expected, rel=1e-6)
    assert several["statistics"] == pytest.approx(one["statistics"], rel=1e-4, abs=1e-8)
    assert several["average"] == pytest.approx(one["average"], rel=1e-6)
