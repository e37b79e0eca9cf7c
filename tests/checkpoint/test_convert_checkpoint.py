"""Published checkpoints, in networks that compute as their authors', load and compute the same."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from srnet import get_cfg
from srnet.checkpoint import Checkpointer
from srnet.checkpoint.convert import convert
from srnet.modeling import WiderResNet38
from srnet.modeling.backbone import wider_resnet
from torch import nn
from torchvision.models.resnet import BasicBlock


def randomise(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


class Model(nn.Module):
    """A backbone inside a model."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def build(name, *options):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DFNET.NORM", "BN", "MODEL.WIDER_RESNET.NORM", "BN", *options])
    return Model(BACKBONE_REGISTRY.get(name)(cfg, ShapeSpec(channels=3))).eval()


class AuthorsDFNet(nn.Module):
    """DFNet with the modules and names of the authors' code."""

    def __init__(self, stages):
        super().__init__()
        convs = []
        for before, after in ((3, 32), (32, 64)):
            convs += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after)]
            convs.append(nn.ReLU())
        self.stage1 = nn.Sequential(*convs)
        channels = 64
        self.names = list(stages)
        for name, (width, count, stride) in stages.items():
            blocks = []
            for i in range(count):
                down = None
                if i == 0 and (stride == 2 or channels != width):
                    down = nn.Sequential(
                        nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                    )
                blocks.append(BasicBlock(channels, width, stride if i == 0 else 1, down))
                channels = width
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.stage1(x)
        for name in self.names:
            x = getattr(self, name)(x)
        return x


AUTHORS = {
    "v1": {
        "stage2": (64, 3, 2),
        "stage3": (128, 3, 2),
        "stage4": (256, 3, 2),
        "stage5": (512, 1, 1),
    },
    "v2": {
        "stage2_1": (64, 2, 2),
        "stage2_2": (128, 1, 1),
        "stage3_1": (128, 10, 2),
        "stage3_2": (256, 1, 1),
        "stage4_1": (256, 4, 2),
        "stage4_2": (512, 2, 1),
    },
}


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_dfnet(tmp_path, variant):
    theirs = randomise(AuthorsDFNet(AUTHORS[variant]))
    torch.save({f"module.{k}": v for k, v in theirs.state_dict().items()}, tmp_path / "in.pth")
    convert("dfnet", tmp_path / "in.pth", tmp_path / "out.pth")
    ours = build("build_dfnet_backbone", "MODEL.DFNET.VARIANT", variant)
    Checkpointer(ours).load(str(tmp_path / "out.pth"))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone(image)["stage4"], theirs(image))


class PublishedBlock(nn.Module):
    """Gated-SCNN's block: bn1, convs.*, proj_conv."""

    def __init__(self, before, channels, stride, dilation, norm_relu):
        super().__init__()
        self.bn1 = norm_relu(before)
        if stride != 1 or before != channels[-1]:
            self.proj_conv = nn.Conv2d(before, channels[-1], 1, stride, bias=False)
        three = {"padding": dilation, "dilation": dilation, "bias": False}
        if len(channels) == 2:
            layers = [
                ("conv1", nn.Conv2d(before, channels[0], 3, stride, **three)),
                ("bn2", norm_relu(channels[0])),
                ("conv2", nn.Conv2d(channels[0], channels[1], 3, 1, **three)),
            ]
        else:
            layers = [
                ("conv1", nn.Conv2d(before, channels[0], 1, bias=False)),
                ("bn2", norm_relu(channels[0])),
                ("conv2", nn.Conv2d(channels[0], channels[1], 3, stride, **three)),
                ("bn3", norm_relu(channels[1])),
                ("dropout", nn.Dropout(0.3)),
                ("conv3", nn.Conv2d(channels[1], channels[2], 1, bias=False)),
            ]
        self.convs = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        y = self.bn1(x)
        shortcut = self.proj_conv(y) if hasattr(self, "proj_conv") else x
        return self.convs(y) + shortcut


class NormRelu(nn.BatchNorm2d):
    """In-place ABN's names: the norm and its activation in one module."""

    def forward(self, x):
        return torch.relu(super().forward(x))


def published_wider_resnet(norm_relu):
    layers = [("mod1", nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 64, 3, 1, 1, bias=False))))]
    before = 64
    for index, (blocks, channels) in enumerate(wider_resnet.STAGES.values(), start=2):
        if index in (2, 3):
            layers.append((f"pool{index}", nn.MaxPool2d(3, 2, 1)))
        stage = OrderedDict()
        for block in range(blocks):
            stride = 2 if index == 4 and block == 0 else 1
            dilation = {5: 2, 6: 4, 7: 4}.get(index, 1)
            stage[f"block{block + 1}"] = PublishedBlock(
                before, channels, stride, dilation, norm_relu
            )
            before = channels[-1]
        layers.append((f"mod{index}", nn.Sequential(stage)))
    layers.append(("bn_out", norm_relu(before)))
    return randomise(nn.Sequential(OrderedDict(layers)))


@pytest.mark.parametrize("abn", [False, True])
def test_wider_resnet(tmp_path, monkeypatch, abn):
    slim = {n: (b, tuple(c // 16 for c in w)) for n, (b, w) in wider_resnet.STAGES.items()}
    monkeypatch.setattr(wider_resnet, "STAGES", slim)
    sequential = lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())  # noqa: E731
    theirs = published_wider_resnet(NormRelu if abn else sequential)
    state = {f"module.{k}": v for k, v in theirs.state_dict().items()}
    state["module.classifier.fc.weight"] = torch.zeros(10, 256)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "in.pth.tar")
    convert("wider-resnet", tmp_path / "in.pth.tar", tmp_path / "out.pth")
    ours = Model(WiderResNet38(out_features=("mod7",))).eval()
    Checkpointer(ours).load(str(tmp_path / "out.pth"))
    image = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        expected = theirs(image)
        torch.testing.assert_close(ours.backbone(image)["mod7"], expected, rtol=1e-4, atol=1e-4)


def test_torchvision_resnet(tmp_path):
    theirs = randomise(torchvision.models.resnet18(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "in.pth")
    convert("resnet", tmp_path / "in.pth", tmp_path / "out.pth")
    options = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    options += ["MODEL.RESNETS.OUT_FEATURES", ["res5"], "MODEL.RESNETS.STRIDE_IN_1X1", False]
    ours = build("build_resnet_backbone", *options)
    Checkpointer(ours).load(str(tmp_path / "out.pth"))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(ours.backbone(image)["res5"], x, rtol=1e-4, atol=1e-4)


def test_what_is_no_such_checkpoint_is_refused(tmp_path):
    def fails(kind, data, message, error=ValueError):
        if isinstance(data, bytes):
            (tmp_path / "in.pth").write_bytes(data)
        else:
            torch.save(data, tmp_path / "in.pth")
        with pytest.raises(error, match=rf"in\.pth.*{message}"):
            convert(kind, tmp_path / "in.pth", tmp_path / "out.pth")
        assert not list(tmp_path.glob("out*"))

    resnet = torchvision.models.resnet18(weights=None).state_dict()
    dfnet = AuthorsDFNet(AUTHORS["v1"]).state_dict()
    fails("dfnet", resnet, "0 residual blocks: DFNet-v1 has 10, DFNet-v2 has 20")
    fails("wider-resnet", resnet, "missing and .* unknown")
    fails("resnet", dfnet, "not those of a torchvision ResNet")
    fails("dfnet", {**dfnet, "stage1.0.weight": torch.zeros(1)}, r"stem.0.weight has shape \(1,\)")
    fails("resnet", {**resnet, "layer9.weight": torch.ones(3)}, r"1 unknown.*res10\.weight")
    fails("resnet", {**resnet, "bn1.weight": torch.ones(3)}, r"has shape \(3,\), not \(64,\)")
    fails(
        "resnet", {k: v for k, v in resnet.items() if k != "bn1.bias"}, "1 parameters are missing"
    )
    fails("dfnet", [1, 2], "not weights by name", RuntimeError)
    fails("dfnet", {"model": nn.Linear(1, 1)}, "more than arrays", RuntimeError)
    fails("dfnet", b"PK nothing", "is damaged", RuntimeError)
    fails("dfnet", b"version https://git-lfs.github.com/spec/v1", "git-lfs pointer", RuntimeError)


def test_a_failing_run_leaves_the_target(tmp_path):
    (tmp_path / "out.pth").write_bytes(b"old")
    with pytest.raises(RuntimeError, match=r"none\.pth is missing"):
        convert("dfnet", tmp_path / "none.pth", tmp_path / "out.pth")
    assert (tmp_path / "out.pth").read_bytes() == b"old"


def test_lightnings_form_converts(tmp_path):
    theirs = randomise(AuthorsDFNet(AUTHORS["v1"])).state_dict()
    for name, prefix in (("plain", ""), ("lightning", "model.")):
        weights = {f"{prefix}{k}": v for k, v in theirs.items()}
        torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "in.pth")
        convert("dfnet", tmp_path / "in.pth", tmp_path / f"{name}.pth")
    one, other = (
        torch.load(tmp_path / f"{name}.pth", weights_only=True)["model"]
        for name in ("plain", "lightning")
    )
    assert one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())
