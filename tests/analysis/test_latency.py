"""What is timed, in which order, and the table."""

import pytest
import torch
from srnet import get_cfg
from srnet.analysis import latency


def config(name="CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"):
    return get_cfg(name)


@pytest.mark.parametrize("channels_last", [None, False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_run_is_one_pass_at_the_size_asked_for(half, channels_last):
    run = latency.prepare(config(), size=(64, 96), batch=2, half=half, channels_last=channels_last)
    logits = run.step()
    assert logits.shape == (2, 11, 64, 96)
    assert logits.dtype == (torch.bfloat16 if half else torch.float32)


def test_runs_take_turns_after_the_warm_up():
    calls = []
    times = latency.measure([lambda: calls.append("a"), lambda: calls.append("b")], warmup=2)
    assert calls == ["a", "b"] * 52
    assert [len(t) for t in times] == [50, 50]
    assert all(t > 0 for found in times for t in found)


def test_times_are_what_passes():
    import time

    (times,) = latency.measure([lambda: time.sleep(0.01)], warmup=0, repeats=3)
    assert all(0.01 <= t < 0.2 for t in times)


def test_the_table_has_median_quartiles_fps_and_the_ratio(cells_of):
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
def test_every_kind_of_model_is_timed(name, train):
    run = latency.prepare(config(name), size=(64, 96), batch=2, train=train)
    before = {k: v.clone() for k, v in run.model.named_parameters()}
    result = run.step()
    if train:
        assert all(p.grad is not None for p in run.model.parameters() if p.requires_grad)
        assert all(torch.equal(p, before[k]) for k, p in run.model.named_parameters())
    else:
        assert len(result) == 2


def test_twins_have_the_same_work():
    """A fresh SR is the identity: with the weights of the plain model it predicts the same."""
    plain = latency.prepare(config(PANOPTIC), size=(64, 96))
    twin = config(PANOPTIC.replace(".yaml", "_SR.yaml"))
    twin = latency.prepare(twin, size=(64, 96), weights=plain.model.state_dict())
    boxes = [run.step()[0]["instances"].pred_boxes.tensor for run in (plain, twin)]
    torch.testing.assert_close(*boxes)
    assert len(boxes[0]) > 0


def test_half_precision_needs_logits():
    with pytest.raises(ValueError, match="--half"):
        latency.prepare(config(PANOPTIC), size=(64, 64), half=True)


def test_times_are_under_the_names_of_the_models():
    names = ["CamVid-SemanticSegmentation/dfnet_v1.yaml", "quick_schedules/mask_rcnn_R_18_FPN.yaml"]
    cfgs = {name: config(name) for name in names}
    times = latency.time_models(cfgs, size=(64, 64), warmup=0, repeats=2)
    assert [(name, len(found)) for name, found in times.items()] == [(n, 2) for n in names]


def test_the_conditions_are_named():
    said = latency.describe(device="cpu", size=(64, 128), repeats=3, half=True, train=True)
    assert "64 x 128, batch 1, bf16, training steps; 3 runs each" in said
