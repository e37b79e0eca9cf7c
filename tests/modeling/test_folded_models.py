"""Whole models at inference: folded and plain SR predict the same, and train as they did."""

import copy

import pytest
import torch
from srnet import build_model, get_cfg
from srnet.layers import SqueezeReasoning
from srnet.modeling.backbone.insert import ContextLateral
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


def choose(model, fold):
    for module in modules(model):
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
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (3, 3, 96, 64)])
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
def test_the_pyramid_keeps_its_names(build, name):
    """The module of the last block stays where it was, and a copy has its own."""
    model = build(name)
    pyramid = model.backbone
    assert isinstance(pyramid.lateral_convs[0], ContextLateral)
    assert pyramid.lateral_convs[0].conv is pyramid.fpn_lateral5
    assert pyramid.lateral_convs[0].block is pyramid.bottom_up.res5[-1]
    assert "backbone.bottom_up.res5.2.context.conv_b.weight" in model.state_dict()
    twin = copy.deepcopy(model).backbone
    assert twin.lateral_convs[0].block is twin.bottom_up.res5[-1]
    assert twin.lateral_convs[0].conv is twin.fpn_lateral5


def test_another_module_stays_in_the_backbone(build):
    pyramid = build("instance", "MODEL.CONTEXT.NAME", "nl").backbone
    assert pyramid.lateral_convs[0] is pyramid.fpn_lateral5
    pyramid = build("instance", "MODEL.CONTEXT.BLOCKS", [0]).backbone
    assert pyramid.lateral_convs[0] is pyramid.fpn_lateral5
    pyramid = build("instance", "MODEL.CONTEXT.POSITION", "residual").backbone
    assert pyramid.lateral_convs[0] is pyramid.fpn_lateral5


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
    assert [modules(model)[0].fold for model in models.values()] == [None, True, False]
    always, never = (models[k].logits(images) for k in ("always", "never"))
    assert not torch.equal(always, never)
    torch.testing.assert_close(always, never, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"MODEL\.CONTEXT\.FOLD='sometimes'"):
        build("real-time", "MODEL.CONTEXT.FOLD", "sometimes")
