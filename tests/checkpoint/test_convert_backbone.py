"""Classifiers as backbones, and the weights of torchvision and timm in our classifiers."""

import pytest
import torch
import torchvision
from srnet import build_model, get_cfg
from srnet.checkpoint import Checkpointer
from srnet.checkpoint.architecture import check_backbone
from srnet.checkpoint.backbone import backbone_of, convert_backbone, read_weights
from torch import nn

NARROW = {"MODEL.RESNETS.RES2_OUT_CHANNELS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 8}
DATA = {"MODEL.DEVICE": "cpu", "DATASETS.TRAIN": (), "DATASETS.TEST": (), "MODEL.WEIGHTS": ""}
SMALL_HEADS = {
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
}


def build(root, config, options):
    flat = [x for item in {**DATA, **options}.items() for x in item]
    return build_model(get_cfg(str(root / "configs" / config), flat)).eval()


def randomize(model):
    """Statistics and gates that are not those of a fresh model."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.2, 0.5)
    return model


CASES = {
    "mask_rcnn": (
        "ImageNet-Classification/resnet_50_SR.yaml",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml",
        {"MODEL.RESNETS.STRIDE_IN_1X1": False, "MODEL.CONTEXT.REDUCTION": 4, **SMALL_HEADS},
    ),
    "camvid": (
        "ImageNet-Classification/resnet_50_deep_stem_SR.yaml",
        "CamVid-SemanticSegmentation/srnet_R_50.yaml",
        {
            "MODEL.BACKBONE.NAME": "build_resnet_deeplab_context_backbone",
            "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_classifier_with_gates_starts_other_models(root, tmp_path, case):
    classifier, config, options = CASES[case]
    trained = randomize(build(root, classifier, NARROW))
    path, backbone = tmp_path / "classifier.pth", tmp_path / "backbone.pth"
    torch.save({"model": trained.state_dict()}, path)
    convert_backbone(str(path), str(backbone))
    model = build(root, config, {**NARROW, **options, "MODEL.CONTEXT.GATE": "sr_gate"})
    reported = []
    checkpointer = Checkpointer(model)
    checkpointer._log_incompatible_keys = reported.append
    checkpointer.load(str(backbone))
    (report,) = reported
    # Nothing of the classifier is left over, and nothing but new modules is missing.
    assert not report.unexpected_keys and not report.incorrect_shapes
    new = ("sem_seg_head.", "backbone.fpn_", "proposal_generator.", "roi_heads.")
    for name in report.missing_keys:
        ours = name.startswith(new) or ".context." in name or "num_batches_tracked" in name
        assert ours and ".conv3.context." not in name, name
    mine, theirs = model.state_dict(), trained.state_dict()
    prefix = "backbone.bottom_up." if case == "mask_rcnn" else "backbone."
    for name, value in theirs.items():
        if name.startswith("backbone.") and "num_batches_tracked" not in name:
            assert torch.equal(mine[prefix + name.removeprefix("backbone.")], value), name
    assert any(".conv3.context." in name for name in mine)


def test_dfnet(root, tmp_path):
    trained = randomize(build(root, "ImageNet-Classification/dfnet_v1_SR.yaml", {}))
    path, backbone = tmp_path / "classifier.pth", tmp_path / "backbone.pth"
    torch.save({"model": trained.state_dict()}, path)
    convert_backbone(str(path), str(backbone))
    options = {
        "MODEL.BACKBONE.NAME": "build_dfnet_context_backbone",
        "MODEL.CONTEXT.GATE": "sr_gate",
        "MODEL.DFNET.OUT_FEATURES": ["stage2", "stage3", "stage4"],
    }
    model = build(root, "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", options)
    Checkpointer(model).load(str(backbone))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = trained.backbone(image)["stage4"]
        torch.testing.assert_close(model.backbone(image)["stage4"], expected)


def logits_agree(theirs, ours, path):
    torch.save(theirs.state_dict(), path)
    Checkpointer(ours).load(str(path))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours.logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "name"), [("resnet_18", "resnet18"), ("resnext_50_32x4d", "resnext50_32x4d")]
)
def test_torchvisions_weights_give_its_logits(root, tmp_path, config, name):
    theirs = randomize(getattr(torchvision.models, name)(num_classes=9).eval())
    ours = build(
        root, f"ImageNet-Classification/{config}.yaml", {"MODEL.CLASSIFIER.NUM_CLASSES": 9}
    )
    logits_agree(theirs, ours, tmp_path / "weights.pth")


def test_timms_se_resnet_gives_its_logits(root, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = randomize(timm.create_model("seresnet50", num_classes=9).eval())
    ours = build(
        root, "ImageNet-Classification/resnet_50_SE.yaml", {"MODEL.CLASSIFIER.NUM_CLASSES": 9}
    )
    logits_agree(theirs, ours, tmp_path / "weights.pth")


def test_the_average_is_taken_where_it_is_asked_for(root, tmp_path):
    path = tmp_path / "model.pth"
    weights = build(root, "ImageNet-Classification/dfnet_v1_SR.yaml", {}).state_dict()
    name = "backbone.stem.0.weight"
    average = {f"module.{k}": v for k, v in weights.items()}
    average |= {f"module.{name}": weights[name] + 1, "n_averaged": torch.tensor(3)}
    torch.save({"model": weights, "trainer": {"hooks": {"WeightAverage": average}}}, path)
    for flag, added in ((False, 0), (True, 1)):
        convert_backbone(str(path), str(tmp_path / "out.pth"), average=flag)
        saved = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
        wanted = {
            k.removeprefix("backbone.")
            for k in weights
            if k.startswith("backbone.") and not k.endswith("num_batches_tracked")
        }
        assert saved.keys() == wanted
        assert torch.equal(saved["stem.0.weight"], weights[name] + added)


@pytest.mark.parametrize(
    "name", ["resnet_18_CBAM", "resnext_50_32x4d_SE", "resnet_50_deep_stem_SR", "dfnet_v2"]
)
def test_the_zoos_classifiers_are_known_and_others_are_refused(root, name):
    classifier = build(root, f"ImageNet-Classification/{name}.yaml", {}).state_dict()
    weights = backbone_of(classifier)
    check_backbone(weights)
    gates = [k for k in weights if ".context." in k]
    first = next(k for k in weights if k.endswith("weight"))
    bad = [{"extra": torch.ones(3)}, {first: None}, {first: torch.ones(1)}]
    bad += [{gates[0]: torch.ones(3, 5)}, {gates[0]: None}] if gates else []
    bad += [{"head.context.weight": torch.ones(3)}]
    for changes in bad:
        kept = {k: v for k, v in {**weights, **changes}.items() if v is not None}
        with pytest.raises(ValueError, match=r"missing|shape|no block|unknown"):
            check_backbone(kept)


def test_a_backbone_of_a_stranger_leaves_the_output(tmp_path):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    target.write_bytes(b"old")
    torch.save({"state_dict": {"module.backbone.weight": torch.ones(3)}}, source)
    with pytest.raises(ValueError, match=r"in\.pth: the weights are not those of a ResNet"):
        convert_backbone(str(source), str(target))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth", "out.pth"]
    assert target.read_bytes() == b"old"


def test_what_is_no_classifier(tmp_path):
    with pytest.raises(RuntimeError, match=r"none\.pth is missing"):
        read_weights(str(tmp_path / "none.pth"))
    path = tmp_path / "other.pth"
    torch.save({"model": {"encoder.weight": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match=r"its first is encoder\.weight"):
        read_weights(str(path))
    with pytest.raises(ValueError, match="no averaged weights"):
        read_weights(str(path), average=True)
    torch.save({"backbone.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: the weights are not those of a ResNet"):
        convert_backbone(str(path), str(tmp_path / "out.pth"))
    path.write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"other\.pth is empty"):
        convert_backbone(str(path), str(tmp_path / "out.pth"))
    assert not (tmp_path / "out.pth").exists()
