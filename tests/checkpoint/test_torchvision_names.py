"""torchvision's ResNet weights in Detectron2's ResNets."""

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from srnet import get_cfg
from srnet.checkpoint import Checkpointer
from torch import nn


class Model(nn.Module):
    """A backbone inside a model, as a detector has it."""

    def __init__(self, *options):
        super().__init__()
        cfg = get_cfg()
        cfg.merge_from_list(["MODEL.RESNETS.STRIDE_IN_1X1", False, *options])
        build = BACKBONE_REGISTRY.get("build_resnet_context_backbone")
        self.backbone = nn.Module()
        self.backbone.bottom_up = build(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet18", ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]),
        ("resnext50_32x4d", ["MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 4]),
    ],
)
def test_weights_load_and_compute_the_same(tmp_path, name, options):
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    options = [*options, "MODEL.RESNETS.OUT_FEATURES", ["res5"]]
    options += ["MODEL.CONTEXT.NAME", "sr", "MODEL.CONTEXT.STAGES", ["res5"]]
    model = Model(*options).eval()
    Checkpointer(model).load(str(tmp_path / "weights.pth"))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        ours = model.backbone.bottom_up(image)["res5"]
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_torchvisions_own_model_keeps_its_names(tmp_path):
    model = torchvision.models.resnet18(weights=None)
    torch.save({k: v + 1 for k, v in model.state_dict().items()}, tmp_path / "weights.pth")
    before = model.layer1[0].conv1.weight.detach().clone()
    Checkpointer(model).load(str(tmp_path / "weights.pth"))
    torch.testing.assert_close(model.layer1[0].conv1.weight, before + 1)
