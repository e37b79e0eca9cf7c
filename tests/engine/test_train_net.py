"""train_net.py as its users run it, on a drawn CamVid tree."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch
from detectron2.engine import default_argument_parser
from srnet.engine import launch

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


def losses(folder):
    """Iteration -> loss, from the last line of each iteration of metrics.json."""
    found = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        record = json.loads(line)
        if "total_loss" in record:
            found[record["iteration"]] = record["total_loss"]
    return found


def options(folder, iterations, **more):
    chosen = {"OUTPUT_DIR": folder, "SOLVER.MAX_ITER": iterations, "SOLVER.CHECKPOINT_PERIOD": 2}
    chosen.update(more)
    return [x for item in chosen.items() for x in item]


@pytest.fixture(scope="module")
def finished(train_net, small_camvid, tmp_path_factory):
    """The folder and output of an uninterrupted run of six iterations."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train_net(small_camvid, CONFIG, *options(folder, 6))


def test_a_run_leaves_what_detectron2_users_expect(finished):
    folder, result = finished
    output = result.stdout + result.stderr
    assert "eta:" in output and "Evaluation results for camvid_sem_seg_val" in output
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "model_final.pth", "inference"} <= names
    assert any(n.startswith("events.out.tfevents") for n in names)


def test_poly_schedule_of_the_paper(train_net, small_camvid, finished):
    folder, _ = finished
    state = torch.load(folder / "model_final.pth", weights_only=True)
    optimizer = state["trainer"]["_trainer"]["optimizer"]["param_groups"][0]
    assert optimizer["momentum"] == 0.9 and optimizer["weight_decay"] == 5e-4
    assert optimizer["lr"] == pytest.approx(0.05 * (1 - 6 / 6) ** 0.9)


def test_eval_only_repeats_the_metrics_of_the_training(train_net, small_camvid, finished, tmp_path):
    folder, result = finished
    weights = folder / "model_final.pth"
    again = train_net(
        small_camvid, CONFIG, "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path
    )
    pattern = r"copypaste: (\d.*)"
    assert re.findall(pattern, again.stdout) == re.findall(pattern, result.stdout) != []


@pytest.mark.parametrize("kind", ["empty", "other classes", "stranger"])
def test_eval_only_refuses_what_is_not_the_models(
    train_net, small_camvid, finished, tmp_path, kind
):
    """It gave the mIoU of random weights, and exit status 0."""
    weights = finished[0] / "model_final.pth"
    if kind == "empty":
        more, message = [], "MODEL.WEIGHTS is empty"
    elif kind == "other classes":
        data = torch.load(weights, weights_only=True)["model"]
        head = {n: v for n, v in data.items() if n.startswith("sem_seg_head")}
        name = next(n for n, v in head.items() if v.shape[:1] == (11,))
        data[name] = data[name][:7].clone()
        torch.save(data, tmp_path / "other.pth")
        more, message = ["MODEL.WEIGHTS", tmp_path / "other.pth"], name
    else:
        torch.save({"encoder.weight": torch.ones(3)}, tmp_path / "other.pth")
        more, message = ["MODEL.WEIGHTS", tmp_path / "other.pth"], "encoder.weight"
    arguments = ("--eval-only", "OUTPUT_DIR", tmp_path, *more)
    result = train_net(small_camvid, CONFIG, *arguments, check=False)
    assert result.returncode != 0 and "mIoU" not in result.stdout
    assert message in result.stderr.strip().splitlines()[-1]


def test_a_resumed_run_is_the_uninterrupted_one(train_net, small_camvid, finished, tmp_path):
    """Killed at iteration 4 of 6, with its newest checkpoint cut short."""
    folder, _ = finished
    train_net(small_camvid, CONFIG, *options(tmp_path, 6, **{"SOLVER.CHECKPOINT_PERIOD": 1}))
    for name in ("model_0000004.pth", "model_0000005.pth", "model_final.pth"):
        (tmp_path / name).unlink()
    newest = tmp_path / "model_0000003.pth"
    newest.write_bytes(newest.read_bytes()[:5000])
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    result = train_net(small_camvid, CONFIG, "--resume", *options(tmp_path, 6))
    output = result.stdout + result.stderr
    assert "model_0000003.pth" in output and "the checkpoint before it" in output
    assert "Starting training from iteration 3" in output
    one, other = (
        torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (folder, tmp_path)
    )
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_kill_in_mid_training_loses_one_period_at_most(train_net, small_camvid, root, tmp_path):
    command = [sys.executable, root / "projects/SRNet/train_net.py"]
    command += ["--config-file", root / "configs" / CONFIG]
    chosen = {"INPUT.CROP.SIZE": "[64,64]", "INPUT.MIN_SIZE_TRAIN": "(48,96)", "SEED": 1}
    chosen |= {"SOLVER.IMS_PER_BATCH": 4, "DATALOADER.NUM_WORKERS": 0}
    command += options(tmp_path, 10_000, **chosen)
    environment = {**os.environ, "DETECTRON2_DATASETS": str(small_camvid), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(c) for c in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 300
    while not (tmp_path / "model_0000003.pth").exists() and time.time() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = max(int(p.stem[6:]) for p in tmp_path.glob("model_0*.pth"))
    result = train_net(small_camvid, CONFIG, "--resume", *options(tmp_path, last + 3))
    assert f"Starting training from iteration {last + 1}" in result.stdout + result.stderr
    assert (tmp_path / "model_final.pth").exists()


def test_two_processes_train_and_evaluate(train_net, small_camvid, tmp_path):
    """On gloo, with synchronized batch norm; test_processes.py compares them with one."""
    result = train_net(small_camvid, CONFIG, "--num-gpus=2", *options(tmp_path, 3))
    assert "Evaluation results for camvid_sem_seg_test" in result.stdout
    assert (tmp_path / "model_final.pth").exists() and (tmp_path / "log.txt.rank1").exists()


def test_two_processes_evaluate_every_image_once(train_net, small_camvid, finished, tmp_path):
    folder, result = finished
    weights = folder / "model_final.pth"
    arguments = ("--eval-only", "--num-gpus=2", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path)
    again = train_net(small_camvid, CONFIG, *arguments)
    pattern = r"copypaste: (\d.*)"
    assert re.findall(pattern, again.stdout) == re.findall(pattern, result.stdout) != []


def test_the_dilated_fcn_trains(train_net, small_camvid, tmp_path):
    config = "CamVid-SemanticSegmentation/srnet_R_50.yaml"
    weights = ("MODEL.WEIGHTS", "")
    train_net(small_camvid, config, *weights, *options(tmp_path, 2, **{"DATASETS.TEST": "()"}))
    assert all(loss < 20 for loss in losses(tmp_path).values())


def test_a_missing_dataset_is_one_message(train_net, tmp_path):
    result = train_net(tmp_path, CONFIG, *options(tmp_path / "out", 2), check=False)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert str(tmp_path / "camvid" / "train") in last and "srnet prepare camvid" in last


@pytest.mark.parametrize("processes, workers", [(1, 1), (2, 0)])
def test_a_bad_image_in_the_loop_is_one_message(
    train_net, small_camvid, tmp_path, processes, workers
):
    """Detectron2 showed its traceback before; now log.txt has it."""
    datasets = tmp_path / "datasets"
    shutil.copytree(small_camvid, datasets)
    for path in (datasets / "camvid" / "train").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    more = [f"--num-gpus={processes}", *options(tmp_path / "out", 2)]
    more += ["DATALOADER.NUM_WORKERS", processes * workers]
    result = train_net(datasets, CONFIG, *more, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stdout + result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("train_net.py: error: ") and str(datasets / "camvid" / "train") in last
    assert "Traceback" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_weights_that_cannot_be_fetched(train_net, small_camvid, tmp_path):
    weights = ("MODEL.WEIGHTS", "http://127.0.0.1:9/w.pth")
    result = train_net(small_camvid, CONFIG, *weights, *options(tmp_path, 2), check=False)
    assert "cannot fetch http://127.0.0.1:9/w.pth" in result.stderr.strip().splitlines()[-1]


def test_options_after_config_keys_and_no_datasets(train_net, tmp_path):
    arguments = ("DATASETS.TEST", "()", "--eval-only", "OUTPUT_DIR", tmp_path)
    result = train_net(tmp_path, CONFIG, *arguments, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("train_net.py: error: DATASETS.TEST is empty")


def test_detectron2s_options(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "projects" / "SRNet"))
    import train_net

    words = "--config-file c.yaml MODEL.DEVICE cpu --resume --num-gpus 2 SEED 1 --eval-only"
    words += " --num-machines 2 --machine-rank 1 --dist-url tcp://host:1"
    ours = train_net.parse_args(words.split())
    words = words.replace("MODEL.DEVICE cpu", "").replace("SEED 1", "") + " MODEL.DEVICE cpu SEED 1"
    theirs = default_argument_parser().parse_args(words.split())
    assert vars(theirs).items() <= vars(ours).items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 3}, "--num-gpus 3: this machine has 2"),
        ({"num_gpus": 0}, "--num-gpus 0: must be at least 1"),
        ({"num_gpus": -1}, "--num-gpus -1: must be at least 1"),
        ({"machine_rank": 1}, "--machine-rank 1: must be from 0 to 0"),
        ({"num_machines": 2, "machine_rank": -1}, "--machine-rank -1: must be from 0 to 1"),
        ({"num_machines": 0}, "--num-machines 0: must be at least 1"),
        ({"num_machines": 2}, "needs --dist-url"),
    ],
)
def test_processes_that_there_cannot_be(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    args = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto", **options}
    with pytest.raises(ValueError, match=message):
        launch(print, Namespace(**args))
