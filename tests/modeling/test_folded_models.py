"""Whole models at inference: folded and plain SR predict the same, and train as they did."""

import copy

import pytest
import torch
from detectron2.modeling.backbone import FPN
from srnet import build_model, get_cfg
from srnet.layers import SqueezeReasoning
from srnet.modeling.context import ContextConv
from torch import nn

NARROW = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8]
NARROW += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 8]
PYRAMID = [*NARROW, "MODEL.CONTEXT.REDUCTION", 8, "MODEL.FPN.OUT_CHANNELS", 32]
CONFIGS = {
    "FCN": ("CamVid-SemanticSegmentation/srnet_R_50.yaml", ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 64]),
    "real-time": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", []),
    "instance": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml", PYRAMID),
    "panoptic": ("COCO-PanopticSegmentation/panoptic_fpn_R_50_SR_1x.yaml", PYRAMID),
}
each_model = pytest.mark.parametrize("name", CONFIGS)
each_squeeze = pytest.mark.parametrize("squeeze", ["gap", "ghp"])


@pytest.fixture(scope="module")
def build(root):
    def make(name, *options):
        config, narrow = CONFIGS[name]
        options = [*narrow, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *options]
        torch.manual_seed(0)
        model = build_model(get_cfg(str(root / "configs" / config), [*map(str, options)]))
        for module in modules(model):
            nn.init.normal_(module.conv_r.weight, std=0.3)
        return model.eval()

    return make


def modules(model):
    return [module for module in model.modules() if isinstance(module, SqueezeReasoning)]


def context_convs(model):
    return [module for module in model.modules() if isinstance(module, ContextConv)]


def choose(model, fold):
    for module in context_convs(model):
        module.fold = fold


def dense(model, images):
    """Logits, or the maps of the pyramid: all that boxes and masks are made of."""
    if hasattr(model, "logits"):
        return {"logits": model.logits(images)}
    return model.backbone(images)


@torch.no_grad()
def both(model, images):
    choose(model, True)
    folded = dense(model, images)
    choose(model, False)
    return folded, dense(model, images)


@each_model
@each_squeeze
@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (2, 3, 64, 32)])
def test_folded_is_plain(build, name, squeeze, shape):
    model = build(name, "MODEL.CONTEXT.SQUEEZE", squeeze).double()
    images = torch.randn(shape, dtype=torch.double)
    folded, plain = both(model, images)
    for key, value in plain.items():
        torch.testing.assert_close(folded[key], value, rtol=1e-9, atol=1e-9)
    # It is the modules that are compared: without them the model predicts something else.
    for module in modules(model):
        nn.init.zeros_(module.conv_r.weight)
    without = both(model, images)[1]
    assert any(not torch.allclose(without[key], value) for key, value in plain.items())


@each_model
def test_folded_under_autocast(build, name):
    model = build(name)
    images = torch.randn(1, 3, 64, 96)
    expected = both(model, images)[1]
    with torch.autocast("cpu", torch.bfloat16):
        folded, plain = both(model, images)
    for key, exact in expected.items():
        ours, theirs = ((y[key].float() - exact).norm() / exact.norm() for y in (folded, plain))
        assert ours < 1.5 * theirs + 1e-3


@each_model
def test_predictions_in_fp32(build, name):
    """What a user gets: the same labels or boxes, to rounding."""
    model = build(name)
    image = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0))
    outputs = []
    for fold in (True, False, None):
        choose(model, fold)
        with torch.no_grad():
            outputs.append(model([{"image": image.float(), "height": 64, "width": 96}])[0])
    for output in outputs[1:]:
        if "sem_seg" in output:
            torch.testing.assert_close(
                output["sem_seg"], outputs[0]["sem_seg"], rtol=1e-3, atol=1e-4
            )
        if "instances" in output:
            boxes, others = (o["instances"].pred_boxes.tensor for o in (output, outputs[0]))
            torch.testing.assert_close(boxes, others, rtol=1e-3, atol=1e-2)


@each_model
def test_training_runs_the_plain_form(build, name):
    """Training ignores `fold`, and all parameters of the modules get their gradients."""
    model = build(name)
    losses = []
    for fold in (True, False):
        choose(model, fold)
        twin = copy.deepcopy(model)
        part = twin.backbone if not hasattr(twin, "logits") else twin
        part.train()
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        if part is twin:
            features = twin.sem_seg_head.predict(twin.backbone(images))
        else:
            features = part(images)["p5"]
        features.square().mean().backward()
        losses.append(features.detach())
        for module in modules(twin):
            assert all(p.grad is not None for p in module.parameters())
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", ["instance", "panoptic"])
@torch.no_grad()
def test_the_backbone_alone_has_the_context(build, name):
    """The pyramid folds what its backbone, asked by itself, computes."""
    model = build(name)
    pyramid = model.backbone
    assert "backbone.bottom_up.res5.2.context.conv_b.weight" in model.state_dict()
    choose(model, True)
    assert pyramid.can_fold()
    images = torch.randn(1, 3, 64, 96)
    features = pyramid.bottom_up(images)
    x = features["res4"]
    for block in pyramid.bottom_up.res5:
        x = block.context(block.before_context(x))
    assert torch.equal(features["res5"], x)
    expected = pyramid.fpn_output5(pyramid.fpn_lateral5(x))
    torch.testing.assert_close(pyramid(images)["p5"], expected, rtol=1e-3, atol=1e-3)


WRAPPED = {
    "backbone": lambda pyramid: pyramid.bottom_up,
    "stage": lambda pyramid: pyramid.bottom_up.res5,
    "block": lambda pyramid: pyramid.bottom_up.res5[2],
    "context": lambda pyramid: pyramid.bottom_up.res5[2].context,
    "lateral": lambda pyramid: pyramid.fpn_lateral5,
}


@pytest.mark.parametrize("place", WRAPPED)
@torch.no_grad()
def test_hooks_see_what_they_are_put_on(build, place):
    pyramid = build("instance", "MODEL.CONTEXT.FOLD", "always").backbone
    images = torch.randn(1, 3, 64, 96)
    folded, seen = pyramid(images)["p5"], []
    WRAPPED[place](pyramid).register_forward_hook(lambda *call: seen.append(call[-1]))
    assert not pyramid.can_fold()
    torch.testing.assert_close(pyramid(images)["p5"], folded, rtol=1e-3, atol=1e-3)
    expected = pyramid.bottom_up(images)["res5"]
    if place == "lateral":
        expected = pyramid.fpn_lateral5(expected)
    assert torch.equal(seen[0]["res5"] if place == "backbone" else seen[0], expected)


@pytest.mark.parametrize(
    "options",
    [("NAME", "nl"), ("BLOCKS", [0]), ("POSITION", "residual"), ("FOLD", "never")],
    ids=lambda option: "-".join(map(str, option)),
)
@torch.no_grad()
def test_what_cannot_fold_is_detectron2s_pyramid(build, options):
    pyramid = build("instance", f"MODEL.CONTEXT.{options[0]}", options[1]).backbone
    assert not pyramid.can_fold()
    images = torch.randn(1, 3, 64, 96)
    expected = FPN.forward(pyramid, images)
    assert all(torch.equal(value, expected[key]) for key, value in pyramid(images).items())


@each_model
def test_exports(build, name):
    model = build(name)
    choose(model, True)
    part = model.backbone

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model if hasattr(model, "logits") else part

        def forward(self, images):
            if hasattr(self.model, "logits"):
                return self.model.sem_seg_head.predict(self.model.backbone(images))
            return self.model(images)["p5"]

    images = torch.randn(1, 3, 64, 96)
    whole = Dense().eval()
    with torch.no_grad():
        program = torch.export.export(whole, (images,))
        torch.testing.assert_close(program.module()(images), whole(images), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_config_chooses(build):
    images = torch.rand(1, 3, 64, 96)
    models = {k: build("real-time", "MODEL.CONTEXT.FOLD", k) for k in ("auto", "always", "never")}
    assert [context_convs(model)[0].fold for model in models.values()] == [None, True, False]
    always, never = (models[k].logits(images) for k in ("always", "never"))
    assert not torch.equal(always, never)
    torch.testing.assert_close(always, never, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"MODEL\.CONTEXT\.FOLD='sometimes'"):
        build("real-time", "MODEL.CONTEXT.FOLD", "sometimes")
