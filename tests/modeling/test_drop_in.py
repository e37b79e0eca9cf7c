"""Detectron2 checkpoints in SR twins: the same predictions, and only the new parameters missing."""

import logging
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from srnet import get_cfg
from srnet.checkpoint import Checkpointer
from torch import nn

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Random weights: every class has about the same score, so no threshold.
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.RPN.PRE_NMS_TOPK_TEST", 50]
SMALL += ["MODEL.RPN.POST_NMS_TOPK_TEST", 20, "TEST.DETECTIONS_PER_IMAGE", 5]
SMALL += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
SMALL += ["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0]
SMALL += ["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 0]
R_18 = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
R_18_SR = ["MODEL.CONTEXT.REDUCTION", 16]  # of 512 channels


def build_detectron2(name, options):
    cfg = model_zoo.get_config(name)
    cfg.merge_from_list([*SMALL, *options])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for module in model.backbone.bottom_up.modules():
        if hasattr(module, "running_var"):  # keep the features of random weights in bounds
            module.running_var.fill_(2.0)
    return model


def build_twin(name, options):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.merge_from_list([*SMALL, *options])
    torch.manual_seed(1)
    return build_model(cfg).eval()


def save(model, path):
    weights = model.state_dict()
    if path.suffix == ".pth":
        torch.save({"model": weights}, path)
        return
    arrays = {name: value.numpy() for name, value in weights.items()}
    with open(path, "wb") as f:
        pickle.dump({"model": arrays, "__author__": "Detectron2 Model Zoo"}, f)


@torch.no_grad()
def predict(model):
    image = torch.randint(0, 256, (3, 128, 160), generator=torch.Generator().manual_seed(2))
    return model([{"image": image.float(), "height": 96, "width": 120}])[0]


def new_parameters(model):
    return {name for name in model.state_dict() if ".context." in name}


def load(model, path, monkeypatch):
    """Load a checkpoint; return what it reports."""
    reports = []
    report = Checkpointer._log_incompatible_keys
    monkeypatch.setattr(
        Checkpointer,
        "_log_incompatible_keys",
        lambda self, keys: (reports.append(keys), report(self, keys)),
    )
    Checkpointer(model).load(str(path))
    return reports[0]


PAIRS = [
    ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN", "1x", [], []),
    ("COCO-PanopticSegmentation/panoptic_fpn_R_50", "1x", [], []),
    ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN", "3x", R_18, R_18_SR),
    ("Misc/cascade_mask_rcnn_R_50_FPN", "1x", R_18, R_18_SR),
]


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("stem, schedule, options, context", PAIRS)
def test_the_twin_predicts_the_same(
    tmp_path, monkeypatch, caplog, stem, schedule, options, context, suffix
):
    model = build_detectron2(f"{stem}_{schedule}.yaml", options)
    save(model, tmp_path / f"model{suffix}")
    name = f"{stem}_SR_{schedule}.yaml".replace("Misc", "COCO-InstanceSegmentation")
    twin = build_twin(name, [*options, *context])
    with caplog.at_level(logging.WARNING):
        keys = load(twin, tmp_path / f"model{suffix}", monkeypatch)
    assert set(keys.missing_keys) == new_parameters(twin)
    assert len(new_parameters(twin)) == len(twin.backbone.bottom_up.res5) * 7
    assert not keys.unexpected_keys and not keys.incorrect_shapes
    assert "res5.0.context" in caplog.text

    expected, result = predict(model), predict(twin)
    one, other = expected["instances"], result["instances"]
    assert len(one) == 5 and one.pred_masks.any() and one.scores.isfinite().all()
    assert torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor)
    for field in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(one.get(field), other.get(field)), field
    if "panoptic_seg" in expected:
        assert torch.equal(expected["sem_seg"], result["sem_seg"])
        assert torch.equal(expected["panoptic_seg"][0], result["panoptic_seg"][0])
        assert expected["panoptic_seg"][1] == result["panoptic_seg"][1]
        assert len(expected["panoptic_seg"][1]) > 1

    for block in twin.backbone.bottom_up.res5:  # and it is the modules that could change it
        nn.init.normal_(block.context.conv_r.weight)
    assert not torch.equal(one.scores, predict(twin)["instances"].scores)


def to_caffe2(name):
    """The name of a ResNet parameter in Detectron's ImageNet pickles."""
    name = name.replace("stem.conv1.norm.", "res_conv1_bn.").replace("stem.conv1.", "conv1.")
    name = re.sub(r"(res\d)\.(\d+)\.shortcut\.norm\.", r"\1_\2_branch1_bn.", name)
    name = re.sub(r"(res\d)\.(\d+)\.shortcut\.", r"\1_\2_branch1.", name)
    for number, letter in zip("123", "abc", strict=True):
        name = re.sub(rf"(res\d)\.(\d+)\.conv{number}\.norm\.", rf"\1_\2_branch2{letter}_bn.", name)
        name = re.sub(rf"(res\d)\.(\d+)\.conv{number}\.", rf"\1_\2_branch2{letter}.", name)
    scale = "_s" if "_bn." in name else "_w"
    return name.replace(".weight", scale).replace(".bias", "_b")


@pytest.mark.parametrize("context", ["sr", "nl", "se", "cbam", "gc", "cgnl"])
def test_imagenet_weights_of_detectron_load_beside_the_module(tmp_path, monkeypatch, context):
    """Caffe2 names are matched by suffix; a module must not draw any of them to itself."""

    def backbone(name):
        cfg = get_cfg()
        cfg.merge_from_list(["MODEL.CONTEXT.NAME", name, "MODEL.CONTEXT.STAGES", ["res5"]])
        cfg.merge_from_list(["MODEL.RESNETS.OUT_FEATURES", ["res5"]])
        model = nn.Module()
        build = BACKBONE_REGISTRY.get("build_resnet_context_backbone")
        model.backbone = build(cfg, ShapeSpec(channels=3))
        return model

    plain, twin = backbone(""), backbone(context)
    names = plain.backbone.state_dict().items()
    learned = {n: v.numpy() for n, v in names if not re.search("running|num_batches", n)}
    blobs = {to_caffe2(name): value for name, value in learned.items()}
    blobs |= {"fc1000_w": np.zeros((1000, 2048), np.float32), "fc1000_b": np.zeros(1000)}
    with open(tmp_path / "R-50.pkl", "wb") as f:
        pickle.dump(blobs, f)
    keys = load(twin, tmp_path / "R-50.pkl", monkeypatch)
    # Statistics of frozen norms are not in such files, and PyTorch sets counters that are missing.
    new = {name for name in new_parameters(twin) if not name.endswith("num_batches_tracked")}
    assert new <= set(keys.missing_keys)
    assert all(name in new or "running" in name for name in keys.missing_keys)
    for name, value in learned.items():
        assert np.array_equal(twin.backbone.state_dict()[name].numpy(), value), name
