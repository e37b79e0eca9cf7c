"""Detectors with context modules in what PyTorch and Detectron2 do with whole networks."""

import copy
import pickle

import pytest
import torch
from detectron2.export import TracingAdapter, scripting_with_instances
from detectron2.structures import Boxes
from srnet import build_model, get_cfg
from torch import nn

CONFIG = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.FPN.OUT_CHANNELS", "16"]
SMALL += ["MODEL.RPN.PRE_NMS_TOPK_TEST", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"]
SMALL += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "5"]
SMALL += ["MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"]
FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": torch.Tensor,
    "pred_boxes": Boxes,
    "scores": torch.Tensor,
    "pred_classes": torch.Tensor,
    "pred_masks": torch.Tensor,
}
each_context = pytest.mark.parametrize("name", ["sr", "nl", "se", "gc"])
each_fold = pytest.mark.parametrize("fold", ["always", "never"])


def build(*options):
    torch.manual_seed(0)
    model = build_model(get_cfg(CONFIG, [*SMALL, *options])).eval()
    for name, parameter in model.named_parameters():
        if ".context." in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def image():
    return torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1)) * 255


def normalized():
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)


@each_context
@pytest.mark.parametrize("position", ["output", "residual"])
@torch.no_grad()
def test_the_backbone_is_scripted(name, position):
    backbone = build("MODEL.CONTEXT.NAME", name, "MODEL.CONTEXT.POSITION", position).backbone
    assert_same(torch.jit.script(backbone)(normalized()), backbone(normalized()))


@pytest.mark.parametrize("name", ["sr", "nl"])
@torch.no_grad()
def test_a_detector_is_scripted(name):
    detectron2s = ["MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
    model = build("MODEL.CONTEXT.NAME", name, "MODEL.CONTEXT.FOLD", "always", *detectron2s)
    (expected,) = model.inference([{"image": image()}], do_postprocess=False)
    scripted = scripting_with_instances(model, FIELDS)
    (found,) = scripted.inference([{"image": image()}], do_postprocess=False)
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=1e-3, atol=1e-2
    )
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    assert len(expected) == 5


@each_fold
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_a_detector_is_traced(fold):
    model = build("MODEL.CONTEXT.FOLD", fold)

    def inference(model, inputs):
        return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]

    adapter = TracingAdapter(model, [{"image": image()}], inference)
    traced = torch.jit.trace(adapter, (image(),), check_trace=False)
    for found, expected in zip(traced(image()), adapter(image()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


@each_fold
@torch.no_grad()
def test_the_backbone_is_compiled(fold):
    backbone = build("MODEL.CONTEXT.FOLD", fold).backbone
    compiled = torch.compile(backbone, fullgraph=True, backend="eager")
    assert_same(compiled(normalized()), backbone(normalized()))


@each_fold
@pytest.mark.parametrize("strict", [True, False])
@torch.no_grad()
def test_the_backbone_is_exported(fold, strict):
    backbone = build("MODEL.CONTEXT.FOLD", fold).backbone
    program = torch.export.export(backbone, (normalized(),), strict=strict)
    assert_same(program.module()(normalized()), backbone(normalized()))


@torch.no_grad()
def test_the_exported_backbone_is_folded():
    """Without the 1x1 convolutions to b, to c and back."""

    def convolutions(fold):
        backbone = build("MODEL.CONTEXT.FOLD", fold).backbone
        program = torch.export.export(backbone, (normalized(),), strict=False)
        return sum("conv2d" in str(node.target) for node in program.graph.nodes)

    assert convolutions("always") == convolutions("never") - 3


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "pickle"],
)
@pytest.mark.parametrize("position", ["output", "residual"])
@torch.no_grad()
def test_a_copy_has_modules_of_its_own(copied, position):
    model = build("MODEL.CONTEXT.FOLD", "always", "MODEL.CONTEXT.POSITION", position)
    expected = model.backbone(normalized())
    twin = copied(model)
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert_same(twin.backbone(normalized()), expected)
    for name, parameter in twin.named_parameters():
        if ".context." in name:
            nn.init.zeros_(parameter)
    assert not torch.allclose(twin.backbone(normalized())["p5"], expected["p5"])
    assert_same(model.backbone(normalized()), expected)


def test_networks_hold_no_hooks():
    for module in build().modules():
        assert not (module._forward_hooks or module._forward_pre_hooks)
