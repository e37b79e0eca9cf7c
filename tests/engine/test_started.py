"""Processes that torchrun or srun has started: they meet, train, evaluate, and start again.

srun is its variables here. tests/engine/test_processes.py compares the losses of all families.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from srnet import build_model, get_cfg
from srnet.data.prepare import scenes
from srnet.data.prepare.conversion import run_script
from srnet.engine import meeting, started
from srnet.engine.cluster import Place
from srnet.engine.meeting import meet_processes
from srnet.engine.started import OtherCheckpoints, run_at_place
from torch.distributed import TCPStore

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=1)
CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


@pytest.fixture
def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def torchrun():
    """A store as torchrun keeps it, and the place of a process there: torchrun(rank, size)."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def place(rank, size, **more):
        return Place("torchrun", rank, size, 0, 1, "127.0.0.1", store.port, hosted=True, **more)

    place.store = store
    return place


def meet_all(places):
    """The meetings of processes that are threads."""
    found = {}
    threads = [
        threading.Thread(target=lambda p=p: found.update({p.rank: meet_processes(p, LONG)}))
        for p in places
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [found[place.rank] for place in places]


def test_a_restart_does_not_see_the_keys_of_the_start_before(torchrun):
    first = meet_all([torchrun(rank, 3) for rank in range(3)])
    first[0].store.set("failure", "x")
    second = meet_all([torchrun(rank, 3) for rank in (2, 0, 1)])
    assert len({m.room for m in first}) == len({m.room for m in second}) == 1
    assert not any(m.store.check(["failure"]) for m in second)
    assert [m.starts for m in first + second] == [1, 1, 1, 2, 2, 2]


def test_the_first_process_keeps_the_store_without_torchruns(port):
    found = meet_all([Place("srun", rank, 2, rank, 2, "127.0.0.1", port) for rank in range(2)])
    found[0].store.set("key", "value")
    assert found[1].store.get("key") == b"value"


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_waited_for_is_said(port, capsys, monkeypatch, rank):
    monkeypatch.setattr(meeting, "SAY_SECONDS", 0.3)
    whom = "1 of 2 processes" if rank == 0 else "the first process"
    with pytest.raises(TimeoutError, match=rf"waited for {whom} at .*\(--timeout\)") as error:
        meet_processes(Place("srun", rank, 2, 0, 1, "127.0.0.1", port), SHORT)
    assert ("SLURM_PROCID 1 is missing" if rank == 0 else "refused") in str(error.value)
    assert f"waiting for {whom} at " in capsys.readouterr().err


def test_a_first_process_that_does_not_come_to_torchruns_store(torchrun):
    with pytest.raises(TimeoutError, match="RANK 0 has not come"):
        meet_processes(torchrun(1, 2), SHORT)


def test_a_restart_is_told(torchrun):
    seen = []
    for _ in range(2):
        args = Namespace()
        run_at_place(lambda a: seen.append(a.restarted), args, torchrun(0, 1), LONG)
    run_at_place(lambda a: seen.append(a.restarted), args, torchrun(0, 1, restarts=1), LONG)
    assert seen == [False, True, True]


def test_what_the_first_start_refuses_the_second_does_too(torchrun):
    def refuse(args):
        raise OtherCheckpoints("there are others")

    with pytest.raises(OtherCheckpoints):
        run_at_place(refuse, Namespace(), torchrun(0, 1), LONG)
    with pytest.raises(OtherCheckpoints, match="there are others"):
        run_at_place(pytest.fail, Namespace(), torchrun(0, 1, restarts=1), LONG)


def test_a_gpu_for_each_process(monkeypatch):
    place = Place("srun", 6, 8, 2, 4, "h", 1)
    for visible, count, expected in (("", 0, None), ("", 4, 2), ("3", 1, 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert started.choose_gpu(place) == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(ValueError, match="started 4 processes on this machine, which has 1 GPU"):
        started.choose_gpu(place)


def srun(count, port, *, per_node):
    """The variables of each of `count` tasks of srun."""
    common = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(count)}
    common |= {"SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": str(port)}
    common |= {"SLURM_STEP_TASKS_PER_NODE": f"{per_node}(x{count // per_node})"}
    return [
        {**common, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i % per_node)} for i in range(count)
    ]


def command(config, output, *opts):
    small = ["INPUT.CROP.SIZE", "[64,64]", "INPUT.MIN_SIZE_TRAIN", "(48,96)"]
    small += ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0]
    words = ["-m", "srnet", "train", "--config-file", config, *small, "SEED", 1, *opts]
    return [str(word) for word in [*words, "OUTPUT_DIR", output]]


def start(datasets, words, variables, **more):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_cityscapes_instances_on_two_machines_of_srun(small_semantic, tmp_path, port):
    """Each machine writes its predictions into a folder of its own; one missing is an error."""
    slim = ["MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    slim += ["MODEL.CONTEXT.REDUCTION", 4, "MODEL.FPN.OUT_CHANNELS", 32]
    slim += ["INPUT.MIN_SIZE_TEST", 96, "MODEL.RPN.POST_NMS_TOPK_TEST", 20]
    slim += ["SOLVER.MAX_ITER", 2, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
    words = command("Cityscapes-InstanceSegmentation/mask_rcnn_R_50_FPN_SR.yaml", tmp_path, *slim)
    tasks = [start(small_semantic, words, task) for task in srun(2, port, per_node=1)]
    with ThreadPoolExecutor() as pool:  # reads both: a pipe that is full stops its process
        texts = list(pool.map(lambda task: task.communicate(timeout=500)[0], tasks))
    assert [task.returncode for task in tasks] == [0, 0], texts[0][-2000:] + texts[1][-2000:]
    assert {"loss_mask", "segm/AP", "segm/AP50"} <= {k for r in metrics(tmp_path) for k in r}


def test_options_beside_torchrun_are_one_message(small_camvid, tmp_path):
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    variables |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    process = start(small_camvid, command(CAMVID, tmp_path, "--num-gpus=2"), variables)
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 1 and "Traceback" not in text
    assert text.splitlines()[-1].startswith("srnet: error: --num-gpus 2 and torchrun's RANK and")


def workers_of(launcher):
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(child) for child in children]


def wait_until(ready, process, seconds=240):
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0][-3000:]
        time.sleep(0.02)


@pytest.fixture
def torchruns():
    """Begin a real torchrun, which is killed with its workers after the test."""
    begun = []

    def begin(datasets, options, words):
        launcher = ["-m", "torch.distributed.run", *options]
        begun.append(start(datasets, [*launcher, *words], {}, start_new_session=True))
        return begun[-1]

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.fault("many processes")
@pytest.mark.faults_slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_of_torchrun_is_started_again_and_resumes(
    small_camvid, tmp_path, torchruns, victim
):
    iterations = ["SOLVER.MAX_ITER", 30, "SOLVER.CHECKPOINT_PERIOD", 4, "DATASETS.TEST", "()"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    process = torchruns(small_camvid, options, command(CAMVID, whole, *iterations))
    text = process.communicate(timeout=400)[0]
    assert process.returncode == 0, text[-3000:]
    process = torchruns(small_camvid, options, command(CAMVID, killed, *iterations))
    wait_until(lambda: (killed / "model_0000003.pth").exists(), process)
    os.kill(workers_of(process.pid)[victim], signal.SIGKILL)
    text = process.communicate(timeout=400)[0]
    assert process.returncode == 0, text[-3000:]
    assert (killed / "log.txt").read_text().count("Starting training from iteration") == 2
    assert "Starting training from iteration 0\n" in (killed / "log.txt").read_text()
    final = [torch.load(f / "model_final.pth", weights_only=True) for f in (whole, killed)]
    for name, value in final[0]["model"].items():
        assert torch.equal(value, final[1]["model"][name]), name


@pytest.mark.fault("many processes")
@pytest.mark.faults_slow
def test_a_restart_does_not_continue_another_training(small_camvid, tmp_path, torchruns):
    output = tmp_path / "out"
    words = command(CAMVID, output, "SOLVER.MAX_ITER", 2, "DATASETS.TEST", "()")
    first = torchruns(small_camvid, ["--standalone"], words)
    assert first.communicate(timeout=300) and first.returncode == 0
    before = (output / "model_final.pth").stat().st_mtime_ns
    second = torchruns(small_camvid, ["--standalone", "--max-restarts=1"], words)
    text = second.communicate(timeout=300)[0]
    assert second.returncode != 0
    assert text.count("has checkpoints of another training") == 2
    assert (output / "model_final.pth").stat().st_mtime_ns == before


@pytest.mark.fault("many processes")
@pytest.mark.faults_slow
def test_a_stopped_task_of_srun_is_named(small_camvid, tmp_path, port):
    words = command(CAMVID, tmp_path, "SOLVER.MAX_ITER", 100000, "--timeout", 0.2)
    tasks = [start(small_camvid, words, task) for task in srun(2, port, per_node=2)]
    try:
        wait_until(lambda: (tmp_path / "metrics.json").exists(), tasks[0])
        tasks[1].send_signal(signal.SIGSTOP)
        text = tasks[0].communicate(timeout=120)[0]
        assert tasks[0].returncode == 1
        assert f"rank 1 (process {tasks[1].pid} on host {socket.gethostname()}) did not" in text
    finally:
        for task in tasks:
            task.kill()
            task.communicate()


@pytest.mark.fault("many processes")
@pytest.mark.faults_slow
def test_usr1_to_all_tasks_of_srun_saves_a_checkpoint(small_camvid, tmp_path, port):
    words = command(CAMVID, tmp_path, "SOLVER.MAX_ITER", 100000)
    tasks = [start(small_camvid, words, task) for task in srun(2, port, per_node=2)]
    try:
        wait_until(lambda: (tmp_path / "metrics.json").exists(), tasks[0])
        for task in tasks:
            task.send_signal(signal.SIGUSR1)
        with ThreadPoolExecutor() as pool:
            texts = list(pool.map(lambda task: task.communicate(timeout=120)[0], tasks))
        assert [task.returncode for task in tasks] == [138, 138], texts[0][-2000:]
        assert (tmp_path / "last_checkpoint").is_file()
    finally:
        for task in tasks:
            task.kill()


def make_classes(base):
    """A folder of pictures for each of two classes: `base/classes`."""
    for number, name in enumerate("ab"):
        (base / "classes" / name).mkdir(parents=True)
        for i in range(3):
            picture = np.full((40, 48, 3), 80 * number + 20 * i, np.uint8)
            cv2.imwrite(str(base / "classes" / name / f"{i}.png"), picture)


def make_scenes(base):
    words = ["--output", str(base / "scenes"), "--size", "96x128", "--train", "1", "--val", "3"]
    run_script(scenes, words)


EVALUATIONS = {
    "semantic": (CAMVID, [], None, "sem_seg"),
    "classifier": (
        "ImageNet-Classification/resnet_18_SR.yaml",
        [
            *("MODEL.CLASSIFIER.NUM_CLASSES", 2, "INPUT.CLASSIFICATION.SIZE_TEST", 32),
            *("DATASETS.IMAGE_FOLDER_TRAIN", "classes", "DATASETS.IMAGE_FOLDER_TEST", "classes"),
        ],
        make_classes,
        "classification",
    ),
    "panoptic": (
        "quick_schedules/scenes_panoptic_fpn_R_18_SR.yaml",
        ["INPUT.MIN_SIZE_TEST", 96, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0],
        make_scenes,
        "panoptic_seg",
    ),
}


@pytest.mark.parametrize(
    "family",
    ["semantic"]
    + [pytest.param(x, marks=pytest.mark.faults_slow) for x in ("classifier", "panoptic")],
)
def test_an_evaluation_on_two_machines_is_that_of_one_process(
    small_camvid, tmp_path, monkeypatch, port, family
):
    """The numbers of random weights are poor, but must be the same."""
    config, opts, make, part = EVALUATIONS[family]
    datasets = small_camvid
    if make is not None:
        datasets = tmp_path / "datasets"
        make(datasets)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    opts = [str(word) for word in ["MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0, *opts]]
    torch.manual_seed(0)
    weights = build_model(get_cfg(config, opts)).state_dict()
    torch.save({"model": weights}, tmp_path / "w.pth")
    results = []
    for name, variables in (("one", [{}]), ("two", srun(2, port, per_node=1))):
        words = ["-m", "srnet", "eval", "--config-file", config, *opts]
        words += ["MODEL.WEIGHTS", str(tmp_path / "w.pth"), "OUTPUT_DIR", str(tmp_path / name)]
        tasks = [start(datasets, words, task) for task in variables]
        with ThreadPoolExecutor() as pool:
            texts = list(pool.map(lambda task: task.communicate(timeout=500)[0], tasks))
        assert not any(task.returncode for task in tasks), texts[0][-3000:]
        results.append(json.loads((tmp_path / name / "inference" / "results.json").read_text()))
    assert part in str(results[0])
    assert repr(results[0]) == repr(results[1])  # NaN is not NaN
