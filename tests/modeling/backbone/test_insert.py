"""ResNets with context modules: names, numbers and options against Detectron2's own networks."""

import copy

import pytest
import torch
from detectron2 import layers
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import resnet
from srnet import get_cfg
from srnet.modeling import insert_context
from srnet.modeling.backbone.deform_conv import TorchvisionDeformConv, available_deform_conv
from torch import nn

NARROW = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8]
NARROW += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"]]
SR = ["MODEL.CONTEXT.NAME", "sr", "MODEL.CONTEXT.REDUCTION", 8]


def build(name, *options, seed=0):
    cfg = get_cfg()
    cfg.merge_from_list([*NARROW, "MODEL.CONTEXT.STAGES", ["res5"], *options])
    torch.manual_seed(seed)
    return BACKBONE_REGISTRY.get(name)(cfg, ShapeSpec(channels=3))


def randomize(backbone):
    for name, parameter in backbone.named_parameters():
        if ".context." in name:
            nn.init.normal_(parameter, std=0.3)


@torch.no_grad()
def features(backbone, size=64):
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    return backbone.eval()(image)


BASIC = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
OPTIONS = {
    "R-50": [],
    "R-18": ["MODEL.RESNETS.DEPTH", 18, *BASIC],
    "R-34": ["MODEL.RESNETS.DEPTH", 34, *BASIC],
    "X-101": [
        *("MODEL.RESNETS.DEPTH", 101, "MODEL.RESNETS.NUM_GROUPS", 4),
        *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.STRIDE_IN_1X1", False),
    ],
    "R-152": ["MODEL.RESNETS.DEPTH", 152],
    "dilation": ["MODEL.RESNETS.RES5_DILATION", 2],
    "trained norm": ["MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0],
    "all frozen": ["MODEL.BACKBONE.FREEZE_AT", 5],
    "deformable": ["MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]],
    "modulated": [
        *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True]),
        *("MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.RESNETS.DEFORM_NUM_GROUPS", 2),
    ],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("position", ["output", "residual"])
def test_a_fresh_twin_is_detectron2s_network(options, position):
    with available_deform_conv():
        plain = build("build_resnet_backbone", *options)
    twin = build("build_resnet_context_backbone", *options, *SR, "MODEL.CONTEXT.POSITION", position)
    # The same seed, so the same weights under the same names, and the new ones beside them.
    weights, new = plain.state_dict(), twin.state_dict()
    added = {name for name in new if name not in weights}
    assert weights.keys() < new.keys()
    assert all(torch.equal(value, new[name]) for name, value in weights.items())
    assert added and all(name.startswith("res5.") and ".context." in name for name in added)
    if position == "output":
        assert "res5.0.context.conv_b.weight" in added
    trained = {name for name, p in plain.named_parameters() if p.requires_grad}
    assert {name for name, p in twin.named_parameters() if p.requires_grad} == trained | added
    try:
        expected = features(plain)
    except NotImplementedError as error:  # the deformable convolution of a compiled Detectron2
        pytest.skip(f"Detectron2 says: {error}")
    for name, value in expected.items():
        torch.testing.assert_close(features(twin)[name], value, rtol=0, atol=0)
    assert twin.output_shape() == plain.output_shape()


def test_modules_run_after_the_chosen_blocks():
    twin = build("build_resnet_context_backbone", *SR, "MODEL.CONTEXT.BLOCKS", [0, -1])
    plain = build("build_resnet_backbone")
    randomize(twin)
    x = features(plain)["res4"]
    with torch.no_grad():
        for index, block in enumerate(plain.res5.eval()):
            x = block(x)
            if index in (0, 2):
                x = twin.res5[index].context(x)
    assert not hasattr(twin.res5[1], "context")
    torch.testing.assert_close(features(twin)["res5"], x)
    assert not torch.allclose(features(plain)["res5"], x)


def test_the_gate_on_the_residual_branch_stands_where_se_does():
    options = ["MODEL.CONTEXT.NAME", "se", "MODEL.CONTEXT.POSITION", "residual"]
    twin = build("build_resnet_context_backbone", *options, "MODEL.CONTEXT.BLOCKS", [1])
    plain = build("build_resnet_backbone")
    randomize(twin)
    x = features(plain)["res4"]
    block = plain.res5[1].eval()
    with torch.no_grad():
        x = plain.res5[0].eval()(x)
        residual = block.conv3(block.conv2(block.conv1(x).relu()).relu())
        x = (twin.res5[1].conv3.context(residual) + x).relu()
        x = plain.res5[2].eval()(x)
    torch.testing.assert_close(features(twin)["res5"], x)


def test_several_stages_and_the_fpn():
    options = [*SR, "MODEL.CONTEXT.STAGES", ["res4", "res5"], "MODEL.CONTEXT.BLOCKS", [-1]]
    options += ["MODEL.FPN.IN_FEATURES", ["res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 16]
    twin = build("build_resnet_context_fpn_backbone", *options)
    plain = build("build_resnet_fpn_backbone", *options)
    added = {n.rsplit(".context.")[0] for n in twin.state_dict().keys() - plain.state_dict().keys()}
    assert added == {"bottom_up.res4.5", "bottom_up.res5.2"}
    for name, value in features(plain).items():
        torch.testing.assert_close(features(twin)[name], value, rtol=0, atol=0)


def test_blocks_of_each_stage():
    """MODEL.CONTEXT.BLOCKS as a list of lists; an empty one stands for all blocks."""
    options = [*SR, "MODEL.CONTEXT.STAGES", ["res4", "res5"], "MODEL.CONTEXT.BLOCKS", [[1, -1], []]]
    twin = build("build_resnet_context_backbone", *options)
    places = {name for name, module in twin.named_modules() if name.endswith(".context")}
    last = len(twin.res4) - 1
    assert places == {
        *("res4.1.context", f"res4.{last}.context"),
        *("res5.0.context", "res5.1.context", "res5.2.context"),
    }


def test_the_deeplab_resnet():
    options = ["MODEL.RESNETS.RES4_DILATION", 2, "MODEL.RESNETS.RES5_DILATION", 4]
    options += ["MODEL.RESNETS.RES5_MULTI_GRID", [1, 2, 4]]
    plain = build("build_resnet_deeplab_backbone", *options)
    twin = build("build_resnet_deeplab_context_backbone", *options, *SR)
    for name, value in features(plain).items():
        torch.testing.assert_close(features(twin)[name], value, rtol=0, atol=0)
    assert features(plain)["res5"].shape[-1] == 8


def test_no_name_is_detectron2s_network():
    twin = build("build_resnet_context_backbone", "MODEL.CONTEXT.NAME", "")
    assert twin.state_dict().keys() == build("build_resnet_backbone").state_dict().keys()


def test_a_copy_has_modules_of_its_own():
    twin = build("build_resnet_context_backbone", *SR)
    randomize(twin)
    before = features(twin)["res5"]
    other = copy.deepcopy(twin)
    for block in other.res5:
        nn.init.zeros_(block.context.conv_r.weight)
    torch.testing.assert_close(features(twin)["res5"], before)
    assert not torch.allclose(features(other)["res5"], before)


@pytest.mark.parametrize(
    "options, message",
    [
        (["MODEL.CONTEXT.STAGES", []], "STAGES"),
        (["MODEL.CONTEXT.STAGES", ["res6"]], "res2, res3, res4, res5"),
        (["MODEL.CONTEXT.BLOCKS", [3]], "res5 has 3 blocks"),
        (["MODEL.CONTEXT.BLOCKS", [-4]], "between -3 and 2"),
        (["MODEL.CONTEXT.BLOCKS", [[0], [1]]], "a list for each of"),
        (["MODEL.CONTEXT.POSITION", "before"], "output, residual"),
        (["MODEL.CONTEXT.NAME", "psp"], "changes the number of channels"),
        (["MODEL.CONTEXT.NAME", "srr"], "NAME='srr' must be .*sr_gate"),
    ],
)
def test_bad_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build("build_resnet_context_backbone", *SR, *options)


@pytest.mark.parametrize("groups", [1, 2])
def test_deformable_convolution_is_a_convolution_at_moved_positions(groups):
    """Offsets of (1, -2) everywhere read the image moved by as much."""
    deform = TorchvisionDeformConv(
        4, 6, 3, padding=1, groups=groups, deformable_groups=2, norm=nn.BatchNorm2d(6)
    ).eval()
    x = torch.randn(1, 4, 12, 12)
    offset = torch.tensor([1.0, -2.0]).repeat(2 * 9)[None, :, None, None].expand(1, 36, 12, 12)
    mask = torch.full((1, 18, 12, 12), 0.5)
    moved = torch.zeros_like(x)
    moved[:, :, :-1, 2:] = x[:, :, 1:, :-2]
    expected = nn.functional.conv2d(moved, deform.weight, padding=1, groups=groups)
    inside = (slice(None), slice(None), slice(2, -2), slice(3, -1))
    scale = (1 + deform.norm.eps) ** 0.5
    torch.testing.assert_close(deform(x, offset)[inside] * scale, expected[inside])
    torch.testing.assert_close(deform(x, offset, mask)[inside] * scale * 2, expected[inside])


def test_detectron2_is_as_it_was_after_a_deformable_network_was_built():
    before = resnet.DeformConv, resnet.ModulatedDeformConv
    twin = build("build_resnet_context_backbone", *OPTIONS["deformable"], *SR)
    assert (resnet.DeformConv, resnet.ModulatedDeformConv) == before
    assert (layers.DeformConv, layers.ModulatedDeformConv) == before
    with pytest.raises(RuntimeError), available_deform_conv():
        raise RuntimeError
    assert (resnet.DeformConv, resnet.ModulatedDeformConv) == before
    if not issubclass(resnet.DeformConv, nn.Module):
        assert isinstance(twin.res5[0].conv2, TorchvisionDeformConv)


def test_a_block_of_another_class_is_refused():
    class OwnBlock(resnet.BasicBlock):
        pass

    stages = [[OwnBlock(4, 4)]]
    backbone = resnet.ResNet(resnet.BasicStem(3, 4), stages, out_features=["res2"])
    with pytest.raises(ValueError, match="cannot stand in a OwnBlock: choose one of BasicBlock"):
        insert_context(backbone, lambda channels: nn.Identity(), stages=["res2"])
