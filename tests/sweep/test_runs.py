"""A tiny sweep that is trained, killed and continued."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import yaml
from srnet.engine.lock import NAME
from srnet.sweep import read_sweep
from srnet.sweep.launch import run_all
from srnet.sweep.runs import all_runs

MAX_ITER = 40


@pytest.fixture
def sweep_file(tmp_path):
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    content = {
        "base": "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
        "common": {
            "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
            "INPUT.CROP.SIZE": [64, 64],
            "INPUT.MIN_SIZE_TRAIN": [48, 96],
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.WARMUP_ITERS": 0,
            "SOLVER.MAX_ITER": MAX_ITER,
            "SOLVER.CHECKPOINT_PERIOD": 2,
            "DATALOADER.NUM_WORKERS": 0,
        },
        "rows": [
            {"name": "broken", "overrides": {"MODEL.WEIGHTS": str(broken)}},
            {"name": "gap", "overrides": {"MODEL.CONTEXT.SQUEEZE": "gap"}},
        ],
        "seeds": [1],
        "metrics": ["sem_seg/mIoU"],
        "reference": "broken",
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def wait_for(found, process, seconds=300):
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, "the sweep ended before"
        assert time.monotonic() < end
        time.sleep(0.05)


def test_killed_and_continued_with_a_row_that_fails(
    sweep_file, small_camvid, tmp_path, srnet, cells_of, monkeypatch
):
    out = tmp_path / "out"
    folder = out / "gap" / "seed1"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(small_camvid))
    command = [sys.executable, "-m", "srnet", "sweep", sweep_file, "--output", out]
    process = subprocess.Popen(
        [str(word) for word in [*command, "--rows", "gap"]],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for((folder / "last_checkpoint").exists, process)
    os.killpg(process.pid, signal.SIGKILL)  # the sweep and its training
    process.communicate()
    assert not (folder / "model_final.pth").exists()
    result = srnet("sweep", sweep_file, "--output", out)
    # The row that fails is first, and the other one is trained.
    assert result.status == 1
    log = out / "broken" / "seed1" / "sweep.log"
    assert f"[1/2] broken/seed1: failed: exit status 1: srnet: error: {tmp_path}" in result.out
    assert f"1 of 2 runs failed, their logs are {log}" in result.err and log.is_file()
    assert "[2/2] gap/seed1: goes on from its last checkpoint" in result.out
    assert "[2/2] gap/seed1: ended after" in result.out
    records = [json.loads(line) for line in (folder / "metrics.json").open()]
    assert records[-1]["iteration"] == MAX_ITER
    assert torch.load(folder / "model_final.pth")["iteration"] == MAX_ITER - 1
    begun = [line for line in (folder / "sweep.log").open() if "Starting training from" in line]
    assert len(begun) == 2 and begun[0].split()[-1] == "0" != begun[1].split()[-1]
    # The table has the value that the evaluator printed.
    value = records[-1]["camvid_sem_seg_test/sem_seg/mIoU"]
    assert ["gap", f"{value:.2f}"] in [cells[:2] for cells in cells_of(result.out)]
    # Once more: what has ended is not run again.
    before = (folder / "sweep.log").stat().st_mtime_ns
    again = srnet("sweep", sweep_file, "--output", out, "--rows", "gap")
    assert again.status == 0 and "[1/1] gap/seed1: has ended before" in again.out
    assert (folder / "sweep.log").stat().st_mtime_ns == before


def test_a_run_of_another_process_is_left_to_it(sweep_file, tmp_path):
    (run,) = (r for r in all_runs(read_sweep(sweep_file), tmp_path) if r.row.name == "gap")
    run.folder.mkdir(parents=True)
    owner = {"host": socket.gethostname(), "pid": os.getppid(), "started": "now"}
    (run.folder / NAME).write_text(json.dumps(owner))
    said = []
    assert run_all([run], {"gap": run.config()}, say=said.append) == []
    assert len(said) == 1 and "skipped: another training runs in this OUTPUT_DIR" in said[0]
    assert [path.name for path in run.folder.iterdir()] == [NAME]
