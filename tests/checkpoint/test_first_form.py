"""Checkpoints of the project's first form, one of each family: they load, and predict the same.

Each file of `first_form/` holds the weights of a small model, its config and options, and what the
model made of an image when the file was written.
"""

from pathlib import Path

import pytest
import torch
from srnet import build_model, get_cfg
from srnet.checkpoint import Checkpointer

FOLDER = Path(__file__).parent / "first_form"
FAMILIES = ("classifier", "fcn", "df_seg", "mask_rcnn", "panoptic_fpn")
IMAGE = (torch.arange(3 * 64 * 64).reshape(3, 64, 64) * 7919 % 256).float()


def read(family):
    content = torch.load(FOLDER / f"{family}.pth", weights_only=True)
    cfg = get_cfg(content["config"], [*content["opts"], "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    return content, cfg


@torch.no_grad()
def predict(model):
    """Means over the positions of the backbone's maps and of the segmentation, and the logits."""
    features = model.backbone(((IMAGE - model.pixel_mean) / model.pixel_std).unsqueeze(0))
    found = {f"backbone.{name}": x.mean((0, 2, 3)) for name, x in features.items()}
    (output,) = model([{"image": IMAGE}])
    if "sem_seg" in output:
        found["sem_seg"] = output["sem_seg"].mean((1, 2))
    return found | {name: x for name, x in output.items() if name == "logits"}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_loads_and_predicts_the_same(family):
    content, cfg = read(family)
    model = build_model(cfg).eval()
    assert model.load_state_dict(content["model"], strict=True)
    model = build_model(cfg).eval()
    reports = []
    checkpointer = Checkpointer(model)
    checkpointer._log_incompatible_keys = reports.append
    checkpointer.load(str(FOLDER / f"{family}.pth"))
    for keys in reports:
        assert not (keys.missing_keys or keys.unexpected_keys or keys.incorrect_shapes)
    assert len(reports) == 1
    found = predict(model)
    assert found.keys() == content["expected"].keys()
    for name, expected in content["expected"].items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


# The weights of df_seg are one number a tensor, which leaves its context nothing to say.
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "df_seg"])
def test_the_context_counts_in_these_numbers(family):
    """Without what is named `context` in the checkpoint the model predicts something else."""
    content, cfg = read(family)
    model = build_model(cfg).eval()
    weights = content["model"]
    named = [name for name in weights if ".context." in name]
    assert named
    model.load_state_dict(weights | {name: 0 * weights[name] for name in named})
    found = predict(model)
    assert any(not torch.allclose(found[n], x) for n, x in content["expected"].items())


def test_names_and_shapes_of_deeplab_on_a_wider_resnet():
    """137 M parameters: too many to be drawn and computed with in a test."""
    content, cfg = read("deeplabv3plus")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in content["model"].items()}
