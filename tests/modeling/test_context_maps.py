"""The maps around a Squeeze Reasoning module, against what the model itself computes with them."""

import pytest
import srnet
import torch
from srnet.layers import SqueezeReasoning
from srnet.modeling.context_maps import choose_module, context_maps, reasoning_modules

CPU = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
CAMVID = "CamVid-SemanticSegmentation/"
TIMM = ["MODEL.CONTEXT.STAGES", ["res4"], "MODEL.CONTEXT.NUM_NODES", 8]
ALL_OF_RES5 = ["MODEL.CONTEXT.BLOCKS", []]
MODELS = {
    "DF-Seg": (f"{CAMVID}dfnet_v1_SR.yaml", [], "sem_seg_head.context"),
    "FCN": (f"{CAMVID}srnet_R_50.yaml", [], "sem_seg_head.context"),
    "timm stage": (f"{CAMVID}lite0_SR.yaml", TIMM, "backbone.body.blocks.4.context"),
    "detector": (
        "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
        ALL_OF_RES5,
        "backbone.bottom_up.res5.0.context",
    ),
    "panoptic": (
        "quick_schedules/panoptic_fpn_R_18_SR.yaml",
        [],
        "backbone.bottom_up.res5.1.context",
    ),
}


class Recording(SqueezeReasoning):
    """Keeps the maps that it works on: of a subclass nothing is folded."""

    def forward(self, x):
        self.seen = x, super().forward(x)
        return self.seen[1]


def build(config, *opts):
    model = srnet.build_model(srnet.get_cfg(config, [*CPU, *opts])).eval()
    torch.manual_seed(0)
    for module in reasoning_modules(model).values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("config, opts, name", MODELS.values(), ids=MODELS)
def test_they_are_what_a_prediction_goes_through(config, opts, name):
    """An image whose size the model pads, and one module of several."""
    model = build(config, *opts)
    image = torch.rand(3, 70, 100) * 255
    maps = context_maps(model, image, name)
    module = reasoning_modules(model)[name]
    module.__class__ = Recording
    with torch.no_grad():
        model([{"image": image, "height": 70, "width": 100}])
    for own, seen in zip(maps[:2], module.seen, strict=True):
        torch.testing.assert_close(own, seen[0], rtol=1e-4, atol=1e-4)
    assert not torch.equal(maps.before, maps.after)
    assert maps.covered == ((70 / 96, 100 / 128) if "bottom_up" in name else (1, 1))


def test_the_last_module_is_the_default():
    model = build("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", *ALL_OF_RES5)
    assert choose_module(model)[0] == "backbone.bottom_up.res5.1.context"


def test_models_and_names_without_such_a_module():
    model = build(f"{CAMVID}dfnet_v1_SR.yaml")
    with pytest.raises(ValueError, match=r"no module res5: choose one of sem_seg_head\.context"):
        context_maps(model, torch.zeros(3, 64, 64), "res5")
    model = build(f"{CAMVID}dfnet_v1.yaml")
    with pytest.raises(ValueError, match=r"choose a config with MODEL\.CONTEXT\.NAME sr"):
        context_maps(model, torch.zeros(3, 64, 64))


def test_a_module_on_the_residual_branch():
    model = build(
        "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", "MODEL.CONTEXT.POSITION", "residual"
    )
    with pytest.raises(ValueError, match=r"context cannot be read: .*POSITION output"):
        context_maps(model, torch.zeros(3, 64, 64))


def test_a_timm_network_whose_parts_run_in_another_order():
    model = build(f"{CAMVID}lite0_SR.yaml", *TIMM)
    parts = model.backbone.body.blocks
    first = parts._modules.pop("0")
    model.backbone.body._modules = {"0": first, **model.backbone.body._modules}
    with pytest.raises((ValueError, RuntimeError)):
        context_maps(model, torch.zeros(3, 64, 64))
