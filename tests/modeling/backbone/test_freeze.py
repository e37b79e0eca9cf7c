"""MODEL.BACKBONE.FREEZE_AT of DFNet and Wider-ResNet, as Detectron2's ResNets have it."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.solver import build_optimizer
from srnet import build_model, get_cfg
from srnet.modeling import WiderResNet38
from srnet.modeling.backbone import wider_resnet
from srnet.modeling.backbone.dfnet import VARIANTS, DFNet
from torch import nn

DFNET = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
WIDER = "Cityscapes-SemanticSegmentation/srnet_WR_38_trainval_120k.yaml"
# A convolution has one parameter, its norm two. v1: two convolutions in the stem; three blocks of
# two and a shortcut in stage2 and in stage3; four blocks and two shortcuts in stage4.
DFNET_PARAMETERS = (6, 21, 21, 30)
# mod1 is a convolution; a block has a norm before each of its convolutions, and a shortcut where
# it changes the channels; the last has the network's norm, too.
WIDER_PARAMETERS = (1, 3 * 6 + 1, 3 * 6 + 1, 6 * 6 + 1, 3 * 6 + 1, 9 + 1, 9 + 1 + 2)


def opts(*more):
    return ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *more]


def trainable(module):
    return [name for name, p in module.named_parameters() if p.requires_grad]


def build(make, freeze_at):
    torch.manual_seed(0)
    return make(freeze_at=freeze_at)


def small_dfnet(freeze_at):
    return DFNet((((8, 2),), ((8, 1),), ((8, 1), (16, 1))), freeze_at=freeze_at)


def small_wider_resnet(freeze_at):
    return WiderResNet38(out_features=("mod2", "mod7"), freeze_at=freeze_at)


@pytest.fixture
def narrow(monkeypatch):
    """A Wider-ResNet of few channels, with the blocks that it has."""
    stages = {
        name: (blocks, tuple(width // 64 for width in widths))
        for name, (blocks, widths) in wider_resnet.STAGES.items()
    }
    monkeypatch.setattr(wider_resnet, "STAGES", stages)


@pytest.mark.parametrize("freeze_at", range(5))
def test_as_many_stages_of_dfnet_are_frozen(freeze_at):
    backbone = build_backbone(get_cfg(DFNET, opts("MODEL.BACKBONE.FREEZE_AT", freeze_at)))
    assert len(trainable(backbone)) == sum(DFNET_PARAMETERS[freeze_at:])
    assert len(trainable(DFNet(VARIANTS["v1"]))) == sum(DFNET_PARAMETERS) == 78


@pytest.mark.parametrize("freeze_at", [0, 1, 2, 5, 7])
def test_as_many_stages_of_wider_resnet_are_frozen(freeze_at):
    cfg = get_cfg(WIDER, opts("MODEL.BACKBONE.FREEZE_AT", freeze_at))
    with torch.device("meta"):
        backbone = wider_resnet.build_wider_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert len(trainable(backbone)) == sum(WIDER_PARAMETERS[freeze_at:])
    assert sum(WIDER_PARAMETERS) == 117


@pytest.mark.parametrize("name", [DFNET, WIDER, "CamVid-SemanticSegmentation/lite0.yaml"])
def test_the_configs_of_the_zoo_freeze_nothing(name):
    assert get_cfg(name).MODEL.BACKBONE.FREEZE_AT == 0


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("make", [small_dfnet, small_wider_resnet])
def test_a_step_leaves_frozen_stages_as_they_were(make):
    network = build(make, 2).train()
    stages = [name for name, _ in network.named_children() if name not in ("pool", "relu")]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    outputs = network(torch.randn(2, 3, 64, 64))
    sum(x.square().mean() for x in outputs.values()).backward()
    optimizer.step()
    for name, value in network.state_dict().items():
        frozen = name.startswith((f"{stages[0]}.", f"{stages[1]}."))
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("make", [small_dfnet, small_wider_resnet])
@pytest.mark.parametrize("freeze_at", [1, 3])
def test_checkpoints_and_predictions_are_those_of_the_network(make, freeze_at):
    whole, frozen = build(make, 0), build(make, freeze_at)
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 1, 2)
    assert {k: v.shape for k, v in whole.state_dict().items()} == {
        k: v.shape for k, v in frozen.state_dict().items()
    }
    frozen.load_state_dict(whole.state_dict())
    x = torch.randn(1, 3, 64, 64)
    expected = whole.eval()(x)
    for name, value in frozen.eval()(x).items():
        torch.testing.assert_close(value, expected[name])
    whole.load_state_dict(frozen.state_dict())


def test_new_modules_in_a_frozen_stage_are_trained():
    cfg = get_cfg("ImageNet-Classification/dfnet_v1_SR.yaml", opts("MODEL.BACKBONE.FREEZE_AT", "3"))
    names = trainable(build_backbone(cfg))
    assert all(".context." in name for name in names if name.startswith(("stage2", "stage3")))
    assert {name.split(".")[0] for name in names} == {"stage2", "stage3", "stage4"}


@pytest.mark.parametrize(("make", "most"), [(small_dfnet, 4), (small_wider_resnet, 7)])
def test_more_stages_than_there_are_is_an_error(make, most):
    for wrong in (-1, most + 1):
        with (
            torch.device("meta"),
            pytest.raises(ValueError, match=rf"FREEZE_AT={wrong} must be 0 to {most} for"),
        ):
            make(wrong)


CLASSIFIER = "ImageNet-Classification/resnet_18_SR.yaml"


@pytest.mark.parametrize("freeze_at", [0, 2, 5])
def test_a_classifier_trains_what_is_not_frozen(freeze_at):
    """Gates are new and stay trainable; frozen norms keep their statistics."""
    datasets = ("DATASETS.TRAIN", (), "DATASETS.TEST", (), "MODEL.CLASSIFIER.NUM_CLASSES", 3)
    cfg = get_cfg(CLASSIFIER, opts("MODEL.BACKBONE.FREEZE_AT", freeze_at, *datasets))
    torch.manual_seed(0)
    model = build_model(cfg).train()
    # The gates start at zero.
    for name, parameter in model.named_parameters():
        if ".context." in name:
            nn.init.normal_(parameter, std=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(cfg, model)
    images = torch.randint(0, 256, (4, 3, 32, 32))
    batch = [{"image": x, "class_index": i % 3} for i, x in enumerate(images)]
    model(batch)["loss_cls"].backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    stages = ("stem", "res2", "res3", "res4", "res5")[:freeze_at]
    for name, value in model.state_dict().items():
        stage = name.removeprefix("backbone.").partition(".")[0]
        frozen = stage in stages and ".context." not in name
        assert torch.equal(value, before[name]) == frozen, name


def test_more_stages_than_a_resnet_has_are_refused():
    with pytest.raises(ValueError, match=r"FREEZE_AT=6 must be .*0 to 5 for a ResNet"):
        get_cfg(CLASSIFIER, ["MODEL.BACKBONE.FREEZE_AT", 6])
