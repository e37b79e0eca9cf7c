"""Wider-ResNet-38, and DeepLabV3+ on it."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.projects.deeplab.semantic_seg import DeepLabV3PlusHead
from srnet import build_model, get_cfg
from srnet.layers import PixelCrossEntropy, SqueezeReasoning
from srnet.modeling import SRDeepLabV3PlusHead, WiderResNet38
from srnet.modeling.backbone.wider_resnet import PreActivationBlock

CONFIG = "configs/Cityscapes-SemanticSegmentation/deeplabv3plus_WR_38_trainval_120k.yaml"


@pytest.fixture(scope="module")
def model(root):
    return build_model(get_cfg(str(root / CONFIG), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_size_is_that_of_gated_scnns_deeplab(model):
    """DeepWV3Plus, the DeepLabV3+ on this network that Gated-SCNN compares with, has 137.1 M.

    Its head pools, projects and classifies without what Detectron2's adds: here counted from its
    layers, beside this backbone. The norm at the end of the backbone is not in it.
    """
    aspp = 4096 * 256 * (1 + 3 * 9 + 1) + 5 * 512
    decoder = 1280 * 256 + 128 * 48 + (304 + 256) * 9 * 256 + 2 * 512 + 256 * 19
    total = parameters(model.backbone) - parameters(model.backbone.norm_out) + aspp + decoder
    assert round(total / 1e6, 1) == 137.1


def test_strides_and_channels():
    with torch.device("meta"):  # shapes alone
        net = WiderResNet38(out_features=("mod2", "mod3", "mod4", "mod7"))
        outputs = net.eval()(torch.zeros(1, 3, 65, 33))
    assert list(outputs) == list(net.output_shape()) == ["mod2", "mod3", "mod4", "mod7"]
    for name, shape in net.output_shape().items():
        size = tuple(-(-n // shape.stride) for n in (65, 33))
        assert outputs[name].shape == (1, shape.channels, *size)
    assert net.output_shape()["mod7"] == ShapeSpec(channels=4096, stride=8)


def test_unknown_features_are_named():
    with pytest.raises(ValueError, match=r"res5.*mod2"):
        WiderResNet38(out_features=("res5",))


def test_a_block_whose_convolutions_are_zero_passes_its_input():
    block = PreActivationBlock(8, (4, 4, 8), dilation=2, dropout=0.5)
    torch.nn.init.zeros_(block.conv3.weight)
    x = torch.randn(2, 8, 7, 7)
    torch.testing.assert_close(block(x.clone()), x)


SHAPES = {"low": ShapeSpec(channels=6, stride=2), "high": ShapeSpec(channels=12, stride=8)}
HEAD = {
    "project_channels": [4],
    "aspp_dilations": [1, 2, 3],
    "aspp_dropout": 0.0,
    "decoder_channels": [16, 16],
    "common_stride": 2,
    "norm": "BN",
    "num_classes": 5,
    "ignore_value": 255,
}


def features(height, width):
    torch.manual_seed(1)
    return {
        "low": torch.randn(2, 6, -(-height // 2), -(-width // 2)),
        "high": torch.randn(2, 12, -(-height // 8), -(-width // 8)),
    }


def heads():
    theirs = DeepLabV3PlusHead(SHAPES, train_size=None, **HEAD)
    context = SqueezeReasoning(16, num_nodes=4)
    ours = SRDeepLabV3PlusHead(SHAPES, context=context, loss=PixelCrossEntropy(255), **HEAD)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("context.") for name in missing)
    return ours, theirs


def test_a_fresh_context_predicts_as_detectron2():
    ours, theirs = (head.eval() for head in heads())
    with torch.no_grad():
        found = ours(features(64, 48))[0]
        expected = theirs(features(64, 48))[0]
    found = torch.nn.functional.interpolate(found, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(found, expected)


def test_the_loss_is_detectron2s_and_takes_any_crop():
    ours, theirs = (head.train() for head in heads())
    targets = torch.randint(0, 5, (2, 64, 48))
    targets[:, :3] = 255
    found = ours(features(64, 48), targets)[1]["loss_sem_seg"]
    torch.testing.assert_close(found, theirs(features(64, 48), targets)[1]["loss_sem_seg"])
    ours(features(65, 49), torch.randint(0, 5, (2, 65, 49)))[1]["loss_sem_seg"].backward()
    assert ours.context.conv_r.weight.grad.abs().sum() > 0


def test_a_context_that_changes_the_channels_is_refused():
    context = torch.nn.Conv2d(16, 8, 1)  # has out_channels, as such modules do
    with pytest.raises(ValueError, match="Conv2d changes the number of channels"):
        SRDeepLabV3PlusHead(SHAPES, context=context, loss=PixelCrossEntropy(), **HEAD)


def test_the_config_builds_it(model):
    assert isinstance(model.sem_seg_head, SRDeepLabV3PlusHead)
    assert model.sem_seg_head.in_features == ["mod2", "mod7"]
    with torch.no_grad():
        assert model.eval().logits(torch.rand(1, 3, 33, 41)).shape == (1, 19, 33, 41)
