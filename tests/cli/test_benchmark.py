"""tools/benchmark.py: what is timed, in which order, and the table."""

import importlib
import json
import subprocess
import sys

import pytest
import torch
from srnet import get_cfg


@pytest.fixture(scope="module")
def latency(root):
    sys.path.insert(0, str(root / "tools"))
    yield importlib.import_module("latency")
    sys.path.remove(str(root / "tools"))


def config(root, name="CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"):
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs" / name))
    return cfg


@pytest.mark.parametrize("channels_last", [None, False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_run_is_one_pass_at_the_size_asked_for(root, latency, half, channels_last):
    run = latency.prepare(
        config(root), size=(64, 96), batch=2, half=half, channels_last=channels_last
    )
    logits = run.step()
    assert logits.shape == (2, 11, 64, 96)
    assert logits.dtype == (torch.bfloat16 if half else torch.float32)


def test_runs_take_turns_after_the_warm_up(latency):
    calls = []
    times = latency.measure([lambda: calls.append("a"), lambda: calls.append("b")], warmup=2)
    assert calls == ["a", "b"] * 52
    assert [len(t) for t in times] == [50, 50]
    assert all(t > 0 for found in times for t in found)


def test_times_are_what_passes(latency):
    import time

    (times,) = latency.measure([lambda: time.sleep(0.01)], warmup=0, repeats=3)
    assert all(0.01 <= t < 0.2 for t in times)


def test_the_table_has_median_quartiles_fps_and_the_ratio(latency, cells_of):
    table = latency.compare({"a": [0.01, 0.02, 0.03], "b": [0.04, 0.01, 0.01]}, batch=2)
    rows = {row[0]: row[1:] for row in cells_of(table)}
    assert rows["a"] == ["20.00", "10.00 to 30.00", "10.00", "100.0"]
    assert rows["b"][0] == "10.00"
    assert "FPS of the second to the first: 2.000; of the fastest: 1.000" in table
    assert "second" not in latency.compare({"a": [0.01]})


PANOPTIC = "quick_schedules/panoptic_fpn_R_18.yaml"


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        PANOPTIC,
        "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
        "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
        "ImageNet-Classification/resnet_18_SE.yaml",
    ],
)
def test_every_kind_of_model_is_timed(root, latency, name, train):
    run = latency.prepare(config(root, name), size=(64, 96), batch=2, train=train)
    before = {k: v.clone() for k, v in run.model.named_parameters()}
    result = run.step()
    if train:
        assert all(p.grad is not None for p in run.model.parameters() if p.requires_grad)
        assert all(torch.equal(p, before[k]) for k, p in run.model.named_parameters())
    else:
        assert len(result) == 2


def test_twins_have_the_same_work(root, latency):
    """A fresh SR is the identity: with the weights of the plain model it predicts the same."""
    plain = latency.prepare(config(root, PANOPTIC), size=(64, 96))
    twin = config(root, PANOPTIC.replace(".yaml", "_SR.yaml"))
    twin = latency.prepare(twin, size=(64, 96), weights=plain.model.state_dict())
    boxes = [run.step()[0]["instances"].pred_boxes.tensor for run in (plain, twin)]
    torch.testing.assert_close(*boxes)
    assert len(boxes[0]) > 0


def test_half_precision_needs_logits(root, latency):
    with pytest.raises(ValueError, match="--half"):
        latency.prepare(config(root, PANOPTIC), size=(64, 64), half=True)


def test_two_configs_in_one_command(root, tmp_path):
    folder = root / "configs/Cityscapes-SemanticSegmentation"
    configs = [str(folder / f"dfnet_v1{tail}.yaml") for tail in ("", "_SR")]
    options = ["--size", "64", "128", "--warmup", "1", "--repeats", "3", "--device", "cpu"]
    command = [sys.executable, str(root / "tools/benchmark.py"), "latency", *configs, *options]
    command += ["--threads", "1", "--json", str(tmp_path / "times.json")]
    command += ["--opts", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "64 x 128, batch 1, fp32; 3 runs each" in result.stdout
    assert "FPS of the second to the first" in result.stdout
    times = json.loads((tmp_path / "times.json").read_text())
    assert [len(times[name]) for name in configs] == [3, 3]


SLIDING = ["sliding", "configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", "--size", "80", "96"]


def slide(root, *options):
    command = [sys.executable, "tools/benchmark.py", *SLIDING, "--device", "cpu", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def test_sliding_windows_against_the_plain_loop(root, cells_of):
    options = ["--window", "64", "64", "--stride", "43", "43", "--repeats", "2", "--threads", "1"]
    result = slide(root, *options)
    assert result.returncode == 0, result.stderr
    assert [row[0] for row in cells_of(result.stdout)][2:] == ["plain loop", "SemanticInference"]
    assert "FPS of the second to the first" in result.stdout


def test_a_window_larger_than_the_image_is_refused(root):
    result = slide(root)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "--window (769, 769) is larger than --size (80, 96)" in result.stderr
