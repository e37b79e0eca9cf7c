"""timm's networks as backbones, against timm itself."""

import pytest
import srnet
import torch
from safetensors.torch import save_file
from srnet.checkpoint.efficientnet_lite import DEPTHS, convert_efficientnet_lite0
from torch import nn

timm = pytest.importorskip("timm")

CAMVID = "CamVid-SemanticSegmentation/lite0_SR.yaml"
DETECTORS = [
    "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
    "quick_schedules/panoptic_fpn_R_18_SR.yaml",
]
NETWORKS = ["tf_efficientnet_lite0", "resnet10t", "regnetx_002", "convnext_atto"]


def build(config, *opts):
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *opts]
    return srnet.build_model(srnet.get_cfg(config, options))


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_timms(name):
    model = build(CAMVID, "MODEL.TIMM.NAME", name, "MODEL.CONTEXT.NAME", "").eval()
    network = timm.create_model(name, features_only=True).eval()
    network.load_state_dict(model.backbone.body.state_dict())
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        ours, theirs = model.backbone(image), network(image)
    by_stride = dict(zip(network.feature_info.reduction(), theirs, strict=True))
    shapes = model.backbone.output_shape()
    assert list(ours) == ["res3", "res4", "res5"]
    for key, value in ours.items():
        torch.testing.assert_close(
            value, by_stride[shapes[key].stride], rtol=1e-4, atol=1e-4
        )  # channels last
        assert value.shape[1] == shapes[key].channels


def test_a_context_module_stands_after_its_stage_and_starts_as_the_identity():
    torch.manual_seed(0)
    plain = build(CAMVID).eval()
    torch.manual_seed(0)
    options = ("MODEL.CONTEXT.STAGES", ["res4"], "MODEL.CONTEXT.NUM_NODES", 8)
    model = build(CAMVID, *options).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before, after = plain.backbone(image), model.backbone(image)
        for key, value in before.items():
            assert torch.equal(value, after[key])
        model.backbone.body.blocks[4].context.conv_r.weight.normal_()
        after = model.backbone(image)
    assert torch.equal(before["res3"], after["res3"])
    assert not torch.allclose(before["res4"], after["res4"])
    assert not torch.allclose(before["res5"], after["res5"])  # the next stages read it


@pytest.mark.parametrize("freeze_at, first", [(0, "conv_stem"), (2, "blocks.2"), (5, None)])
def test_freeze_at(freeze_at, first):
    model = build(CAMVID, "MODEL.BACKBONE.FREEZE_AT", freeze_at).train()
    body = model.backbone.body
    trained = [name for name, p in body.named_parameters() if p.requires_grad]
    assert trained[0].startswith(first) if first else not trained
    frozen = {n: b.clone() for n, b in body.named_buffers()}
    image = torch.randint(0, 256, (3, 64, 64)).float()
    model([{"image": image, "sem_seg": torch.zeros(64, 64, dtype=torch.int64)}] * 2)
    moved = [n for n, b in body.named_buffers() if not torch.equal(b, frozen[n])]
    assert moved[0].startswith(first.replace("conv_stem", "bn1")) if first else not moved


@pytest.mark.parametrize("config", DETECTORS)
def test_detectors_predict(config):
    backbone = ("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t")
    model = build(config, *backbone, "MODEL.CONTEXT.STAGES", ["res5"]).eval()
    with torch.no_grad():
        result = model([{"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}])[0]
    assert result["instances"].image_size == (64, 96)


@pytest.mark.parametrize(
    "opts, message",
    [
        (("MODEL.TIMM.NAME", "tf_efficientnet_lite"), r"nearest names are .*tf_efficientnet_lite0"),
        (("MODEL.TIMM.OUT_FEATURES", ["res6"]), r"OUT_FEATURES=\['res6'\] must .* of stem, res2"),
        (("MODEL.CONTEXT.STAGES", ["stage2"]), r"STAGES=\['stage2'\]: choose from stem, res2"),
        (("MODEL.BACKBONE.FREEZE_AT", 7), "FREEZE_AT=7 must be 0 to 5"),
        (
            ("MODEL.TIMM.NAME", "convnext_atto", "MODEL.BACKBONE.FREEZE_AT", 1),
            "FREEZE_AT=1: this network has no stem .* from 0, 2, 3, 4, 5",
        ),
        (("MODEL.TIMM.NAME", "vit_tiny_patch16_224"), r"strides \[16, 16, 16\]"),
        (
            ("MODEL.TIMM.NAME", "convnext_atto", "MODEL.CONTEXT.STAGES", ["res5"]),
            "ConvNeXtStage.*leave STAGES empty",
        ),
    ],
)
def test_what_cannot_be_is_refused(opts, message):
    with pytest.raises(ValueError, match=message):
        build(CAMVID, *opts)


def test_weights_of_a_file_are_loaded_before_the_context(tmp_path):
    """With timm's classifier in it, or without, as PyTorch's or as safetensors."""
    network = timm.create_model("resnet10t")
    torch.save(network.state_dict(), tmp_path / "full.pth")
    state = timm.create_model("resnet10t", features_only=True).state_dict()
    save_file(state, tmp_path / "body.safetensors")
    name = ("MODEL.TIMM.NAME", "resnet10t", "MODEL.TIMM.WEIGHTS")
    for file, wanted in (("full.pth", network.state_dict()), ("body.safetensors", state)):
        model = build(CAMVID, *name, str(tmp_path / file), "MODEL.CONTEXT.STAGES", ["res5"])
        for key, value in model.backbone.body.state_dict().items():
            assert ".context." in key or torch.equal(value, wanted[key])
    # A checkpoint of the whole model replaces them: they are not even read.
    model = build(CAMVID, *name, "missing.pth", "MODEL.WEIGHTS", "checkpoint.pth")
    assert model.backbone.body.layer1[0].conv1.weight.isfinite().all()


def test_files_that_are_not_the_networks_weights(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "objects.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x80\0\0\0\0\0\0\0{")
    for file in ("other.pth", "objects.pth", "cut.safetensors"):
        with pytest.raises(RuntimeError, match=rf"MODEL.TIMM.WEIGHTS=.*{file} .*lite0 \(") as error:
            build(CAMVID, "MODEL.TIMM.WEIGHTS", str(tmp_path / file))
        assert "weights_only" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"MODEL.TIMM.WEIGHTS=.*no.pth: there is no such"):
        build(CAMVID, "MODEL.TIMM.WEIGHTS", str(tmp_path / "no.pth"))


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Name or service not known\nmore lines")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(
        RuntimeError, match=r"resnet10t .*not known\).*MODEL.TIMM.WEIGHTS to the file"
    ):
        build(CAMVID, "MODEL.TIMM.NAME", "resnet10t", "MODEL.TIMM.PRETRAINED", True)


def published(body):
    """A state dict in the names of the published Lite0, from that of timm's network."""
    index = 0
    numbers = {}
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            numbers[f"blocks.{stage}.{block}."] = index
            index += 1
    order = iter(body.state_dict().items())
    names = ["_conv_stem", *["_bn0"] * 5]
    state = {}
    for theirs, (name, value) in zip(names, order, strict=False):
        state[f"{theirs}.{name.split('.')[-1]}"] = value
    for name, value in order:
        block = name[: name.rindex("conv" if "conv" in name else "bn")]
        part = name[len(block) :].split(".")[0]
        expanded = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
        expanded |= {"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
        first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv"}
        first |= {"bn2": "_bn2"}
        table = first if block.startswith("blocks.0.") else expanded
        state[f"_blocks.{numbers[block]}.{table[part]}.{name.split('.')[-1]}"] = value
    state["_fc.weight"] = torch.zeros(1000, 1280)
    return state


def test_published_weights_of_lite0_are_renamed():
    body = timm.create_model("tf_efficientnet_lite0", features_only=True)
    state = published(body)
    converted = convert_efficientnet_lite0(state)
    wanted = {f"body.{name}": value for name, value in body.state_dict().items()}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    assert converted.keys() == wanted.keys() - counters
    assert all(torch.equal(value, wanted[name]) for name, value in converted.items())
    for name in ("_blocks.0._se_reduce.weight", "_blocks.99._bn0.weight"):
        with pytest.raises(ValueError, match=rf"{name} is no parameter"):
            convert_efficientnet_lite0({name: torch.zeros(1)})
