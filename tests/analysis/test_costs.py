"""The counts of a model against sums by hand and fvcore's own."""

import pytest
import torch
from detectron2.utils.analysis import activation_count_operators
from srnet import build_model
from srnet.analysis import costs

QUICK = "quick_schedules/mask_rcnn_R_18_FPN"
SIZE = (192, 256)


@pytest.fixture(scope="module")
def results():
    names = (f"{QUICK}.yaml", f"{QUICK}_SR.yaml")
    return [costs.analyze(costs.load_config(n), SIZE) for n in names]


def test_the_heads_see_1000_boxes_and_100_masks(results):
    """64 channels of 7 x 7, two FC layers of 256, 81 scores and 80 boxes; masks of 14 x 14."""
    box = 64 * 49 * 256 + 256 * 256 + 256 * (81 + 320)
    mask = 196 * (2 * 9 * 64 * 64 + 4 * 64 * 64) + 784 * 64 * 80
    expected = (1000 * box + 100 * mask) / 1e9
    assert results[0]["roi_heads"][1] == pytest.approx(expected, rel=1e-6)


def test_the_module_costs_what_its_convolutions_do(results):
    """Two blocks of three 512 x 32 convolutions on 8 x 6 positions, and the graph of 16 nodes."""
    convolutions = 2 * 3 * 512 * 32
    parameters, gflops, activations = results[1]["context modules"]
    assert convolutions <= parameters * 1e6 <= convolutions + 2 * (16 * 16 + 2 * 2 + 2 * 32)
    assert gflops * 1e9 == pytest.approx(convolutions * 48, rel=1e-3)
    assert activations * 1e6 == pytest.approx(2 * (512 + 32 + 32) * 48)
    plain, twin = (result["model"] for result in results)
    change = [b - a for a, b in zip(plain, twin, strict=True)]
    assert change == pytest.approx([parameters, gflops, activations], abs=1e-6)


def test_activations_are_fvcores():
    cfg = costs.load_config("CamVid-SemanticSegmentation/dfnet_v1.yaml")
    ours = costs.analyze(cfg, (96, 128))["model"][2]
    model = build_model(cfg).eval()
    theirs = activation_count_operators(model, [{"image": torch.zeros(3, 96, 128)}])
    assert ours == pytest.approx(sum(theirs.values()), rel=1e-6)


def test_the_table_of_a_difference(results, cells_of):
    table = costs.to_markdown(["plain", "twin"], results)
    (difference,) = (r for r in cells_of(table) if r[:2] == ["difference", "model"])
    assert "+0.10" in difference
    assert "roi_heads" not in table
    assert "same counts" in costs.to_markdown(["a", "b"], [results[0]] * 2)
    alone = cells_of(costs.to_markdown(["plain"], results[:1]))
    assert ["plain", "roi_heads"] in [row[:2] for row in alone]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (f"{QUICK}.yaml", (800, 1200)),
        ("ImageNet-Classification/resnet_18.yaml", (224, 224)),
        ("CamVid-SemanticSegmentation/fcn_R_50_960x720.yaml", None),
    ],
)
def test_the_size_models_of_a_task_are_compared_at(name, size):
    cfg = costs.load_config(name)
    assert costs.default_size(cfg) == (size or tuple(cfg.INPUT.CROP.SIZE))
