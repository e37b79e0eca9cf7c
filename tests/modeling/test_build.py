"""srnet.build_model and detectron2.modeling.build_model: one model, fit for its device."""

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling import build_model as build_detectron2
from detectron2.utils import comm
from srnet import build_model, get_cfg
from torch import nn

QUICK = "quick_schedules/mask_rcnn_R_18_FPN.yaml"
CBAM = ["MODEL.CONTEXT.NAME", "cbam"]
GATES = ["MODEL.CONTEXT.GATE", "cbam"]
FAMILIES = {
    "fcn": ("CamVid-SemanticSegmentation/fcn_R_50.yaml", []),
    "real-time": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", []),
    "instance": ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", []),
    "frozen": (QUICK, [*CBAM, "MODEL.RESNETS.NORM", "FrozenBN"]),
    "panoptic": ("quick_schedules/panoptic_fpn_R_18_SR.yaml", ["MODEL.FPN.NORM", "SyncBN"]),
    "classifier": ("ImageNet-Classification/resnet_18_CBAM.yaml", []),
    "gates": (
        "CamVid-SemanticSegmentation/srnet_R_50.yaml",
        [*GATES, "MODEL.BACKBONE.NAME", "build_resnet_deeplab_context_backbone"],
    ),
}


def read(family, *opts):
    config, options = FAMILIES[family]
    return get_cfg(config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *options, *opts])


def describe(model):
    """The types of all modules, and the format of all weights."""
    formats = {
        name: (tuple(p.shape), p.stride(), p.dtype, p.device, p.requires_grad)
        for name, p in model.named_parameters()
    }
    return {name: type(module) for name, module in model.named_modules()}, formats


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_builders_build_the_same(family, channels_last):
    cfg = read(family, "MODEL.CHANNELS_LAST", channels_last)
    before = cfg.dump()
    models = []
    for build in (build_model, build_detectron2):
        torch.manual_seed(0)
        models.append(build(cfg))
    ours, theirs = models
    assert describe(ours) == describe(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert cfg.dump() == before
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in ours.modules())
    convs = [m.weight for m in ours.backbone.modules() if isinstance(m, nn.Conv2d)]
    convs = [w for w in convs if w.shape[1] > 1 and w.shape[2] > 1]  # else both formats are one
    assert len(convs) > 3
    for weight in convs:
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_cbam_in_a_detector_has_norms_that_a_cpu_runs(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    model = build_detectron2(read("frozen"))
    norms = [m for m in model.modules() if isinstance(m, NaiveSyncBatchNorm)]
    assert len(norms) == 2  # one for each block of res5


@pytest.mark.parametrize("build", [build_model, build_detectron2])
@pytest.mark.parametrize(
    "family, head", [("instance", "ROI_MASK_HEAD"), ("panoptic", "SEM_SEG_HEAD")]
)
def test_norms_of_detectron2s_heads_on_several_cpu_processes(monkeypatch, family, head, build):
    key = f"MODEL.{head}.NORM"
    assert build(read(family, key, "SyncBN"))  # one process runs it
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=f"{key} is SyncBN, .*: choose naiveSyncBN"):
        build(read(family, key, "SyncBN"))
    assert build(read(family, key, "naiveSyncBN"))
