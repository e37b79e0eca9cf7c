"""Image classifiers: Table X's sizes, the loss, predictions, and weights that do not fit."""

import numpy as np
import pytest
import torch
import torchvision
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import elementwise_flop_counter
from PIL import Image
from srnet import build_model, get_cfg
from srnet.checkpoint import Checkpointer
from srnet.data import ClassificationMapper
from srnet.layers import FLOP_HANDLES

# Parameters in millions and GFLOPs of Table X.
TABLE_X = {
    "resnet_50": (25.56, 4.122),
    "resnet_50_SE": (28.09, 4.130),
    "resnet_50_CBAM": (28.09, 4.139),
    "resnet_50_SR": (25.64, 4.127),
    "resnet_101": (44.55, 7.849),
    "resnet_101_SE": (49.33, 7.863),
    "resnet_101_SR": (44.70, 7.858),
}
# Besides fvcore's operations Table X counts one a value for ReLU and for what a pooling reads: with
# them ResNet-50 has its 4.122 GFLOPs.
VALUES = {
    f"aten::{name}": elementwise_flop_counter(*scales)
    for name, *scales in (("relu_", 0, 1), ("max_pool2d", 1, 0), ("mean", 1, 0), ("amax", 1, 0))
}
TORCHVISION = {
    "resnet_18": "resnet18",
    "resnext_50_32x4d": "resnext50_32x4d",
}


def build(root, config, *options):
    path = root / "configs" / "ImageNet-Classification" / f"{config}.yaml"
    torch.manual_seed(0)
    return build_model(get_cfg(str(path), ["MODEL.DEVICE", "cpu", *options])).eval()


def size(model, image=224, **handles):
    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model.logits(images)

    flops = FlopCountAnalysis(Logits(), torch.zeros(1, 3, image, image))
    flops.set_op_handle(**FLOP_HANDLES, **handles).unsupported_ops_warnings(False)
    return sum(p.numel() for p in model.parameters()), flops.total()


@pytest.mark.parametrize("config", TABLE_X)
def test_the_sizes_of_table_x(root, config):
    params, flops = size(build(root, config), **VALUES)
    assert params / 1e6 == pytest.approx(TABLE_X[config][0], rel=0.005)
    assert flops / 1e9 == pytest.approx(TABLE_X[config][1], rel=0.005)


@pytest.mark.parametrize("config", TORCHVISION)
def test_the_other_resnets_have_torchvisions_sizes(root, config):
    theirs = getattr(torchvision.models, TORCHVISION[config])().eval()
    params, flops = size(build(root, config), image=64)
    counted = FlopCountAnalysis(theirs, torch.zeros(1, 3, 64, 64))
    counted.unsupported_ops_warnings(False)
    assert params == sum(p.numel() for p in theirs.parameters())
    assert flops == pytest.approx(counted.total(), rel=0.001)


@pytest.mark.parametrize("depth", [18, 50, 101])
@pytest.mark.parametrize("gate", ["", "_SE", "_CBAM", "_SR"])
def test_a_gate_stands_in_every_block(root, depth, gate):
    model = build(root, f"resnet_{depth}{gate}", "MODEL.RESNETS.NORM", "BN")
    blocks = {"18": 8, "50": 16, "101": 33}[str(depth)]
    gates = [m for m in model.backbone.modules() if hasattr(m, "context")]
    assert len(gates) == (blocks if gate else 0)


@pytest.mark.parametrize(("variant", "blocks"), [("v1", 10), ("v2", 20)])
def test_dfnet_with_gates(root, variant, blocks):
    plain, gated = (build(root, f"dfnet_{variant}{gate}") for gate in ("", "_SR"))
    places = [n for n, m in gated.named_modules() if hasattr(m, "context")]
    assert len(places) == blocks and all(n.endswith("residual") for n in places)
    assert plain.state_dict().keys() < gated.state_dict().keys()
    # By hand: the first block of stage 2 with its gate on the residual branch.
    x = torch.randn(1, 64, 16, 16)
    block, bare = gated.backbone.stage2[0], plain.backbone.stage2[0]
    bare.load_state_dict(block.state_dict(), strict=False)
    with torch.no_grad():
        residual = bare.bn2(bare.conv2(bare.bn1(bare.conv1(x)).relu()))
        expected = (block.residual.context(residual) + bare.downsample(x)).relu()
        torch.testing.assert_close(block(x), expected)


SMALL = ("MODEL.CLASSIFIER.NUM_CLASSES", 7, "DATASETS.TRAIN", (), "DATASETS.TEST", ())


def samples(count=4, side=64):
    generator = torch.Generator().manual_seed(1)
    shape = (3, side, side)
    return [
        {
            "image": torch.randint(256, shape, generator=generator, dtype=torch.uint8),
            "class_index": i,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy(root, smoothing):
    options = (*SMALL, "MODEL.CLASSIFIER.LABEL_SMOOTHING", smoothing)
    model = build(root, "resnet_18_SR", *options)
    inputs = samples()
    with torch.no_grad():
        logits = np.stack([x["logits"].numpy() for x in model(inputs)]).astype(np.float64)
        model.training = True  # the loss, on the same statistics
        loss = model(inputs)["loss_cls"].item()
        one_hot = np.eye(7)[[x["class_index"] for x in inputs]]
        soft = [
            {**x, "target": torch.tensor(t).float()} for x, t in zip(inputs, one_hot, strict=True)
        ]
        assert model(soft)["loss_cls"].item() == pytest.approx(loss, rel=1e-5)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * one_hot + smoothing / 7
    assert loss == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-4)


def test_images_are_normalised_and_an_empty_batch_predicts_nothing(root):
    model = build(root, "resnet_18", *SMALL)
    image = samples(1)[0]["image"]
    mean = torch.tensor([123.675, 116.280, 103.530]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.120, 57.375]).view(3, 1, 1)
    with torch.no_grad():
        expected = model.logits(((image - mean) / std)[None])[0]
        torch.testing.assert_close(model([{"image": image}])[0]["logits"], expected)
    assert model([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.CLASSIFIER.IN_FEATURE", "res6"], "IN_FEATURE='res6'"),
        (["MODEL.CLASSIFIER.NUM_CLASSES", 1], "NUM_CLASSES=1 must be 2 or more"),
    ],
)
def test_bad_options(root, options, message):
    with pytest.raises(ValueError, match=message):
        build(root, "resnet_18", *SMALL, *options)


def save(model, path):
    torch.save({"model": model.state_dict()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("config", "other", "message"),
    [
        ("resnet_18", "dfnet_v1", r"parameters are missing in it, as backbone\.stem\.conv1"),
        ("resnet_50", "resnet_18", r"another shape in it"),
        ("resnet_18", "resnet_18_SR", r"16 parameters of its own have no place in the model"),
    ],
)
def test_a_checkpoint_of_another_architecture(root, tmp_path, config, other, message):
    path = save(build(root, other, *SMALL), tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match="another architecture") as error:
        Checkpointer(build(root, config, *SMALL)).load(path)
    assert str(path) in str(error.value)
    with pytest.raises(RuntimeError, match=message):
        raise error.value


def test_new_gates_and_other_classes_fit(root, tmp_path):
    """Fine-tuning: a plain network's weights in its SR twin, and a layer for other classes."""
    path = save(build(root, "resnet_18", *SMALL), tmp_path / "plain.pth")
    twin = build(root, "resnet_18_SR", *SMALL, "MODEL.CLASSIFIER.NUM_CLASSES", 3)
    Checkpointer(twin).load(path)
    weights = torch.load(path, weights_only=True)["model"]
    assert torch.equal(twin.backbone.stem.conv1.weight, weights["backbone.stem.conv1.weight"])


@pytest.fixture
def files(tmp_path):
    """Images of odd sizes, one smaller than the crop; lossless."""
    paths = []
    for i, (height, width) in enumerate([(75, 101), (300, 64), (33, 47), (256, 256), (120, 121)]):
        random = np.random.default_rng(i).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
        image = Image.fromarray(random.astype(np.uint8)).resize((width, height), Image.BICUBIC)
        image.save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    return paths


CROPS = ("INPUT.CLASSIFICATION.RESIZE_TEST", 80, "INPUT.CLASSIFICATION.SIZE_TEST", 64)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("crops", [CROPS, (*CROPS[:2], CROPS[2], 97)])
def test_raw_images_are_prepared_as_the_mapper_does(root, files, image_format, crops):
    """A batch of different sizes, as Detectron2 gives it: the size of the file is beside it."""
    options = (*SMALL, *crops, "INPUT.FORMAT", image_format)
    path = root / "configs" / "ImageNet-Classification" / "resnet_18.yaml"
    cfg = get_cfg(path, ["MODEL.DEVICE", "cpu", *options])
    model = build_model(cfg).eval()
    mapper = ClassificationMapper(cfg, is_train=False)
    mapped = [mapper({"file_name": file, "height": 1, "width": 1}) for file in files]
    raw = []
    for file in files:
        image = read_image(file, image_format)
        height, width = image.shape[:2]
        image = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
        raw.append({"image": image, "height": height, "width": width})
    for x, y in zip(raw, mapped, strict=True):
        assert torch.equal(model.prepare(x), y["image"])
        assert model.prepare(y) is y["image"]  # what the mapper made stays
    with torch.no_grad():
        found, expected = model(raw), model(mapped)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x["logits"], y["logits"])


def test_training_takes_images_as_they_are(root):
    model = build(root, "resnet_18", *SMALL).train()
    inputs = [{**x, "height": 500, "width": 400} for x in samples()]
    torch.manual_seed(0)
    loss = model(inputs)["loss_cls"]
    torch.testing.assert_close(loss, model(samples())["loss_cls"])


def test_detectron2s_predictor(root, files):
    """DefaultPredictor takes BGR and leaves resizing to the model."""
    path = root / "configs" / "ImageNet-Classification" / "resnet_18_SR.yaml"
    cfg = get_cfg(path, ["MODEL.DEVICE", "cpu", *SMALL, *CROPS])
    predictor = DefaultPredictor(cfg)
    mapper = ClassificationMapper(cfg, is_train=False)
    for file in files[:2]:
        with torch.no_grad():
            expected = predictor.model([mapper({"file_name": file})])[0]["logits"]
        torch.testing.assert_close(predictor(read_image(file, "BGR"))["logits"], expected)
