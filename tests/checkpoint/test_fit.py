"""Weights that do not make the whole model: refused in evaluation, in a table in training."""

import logging

import pytest
import torch
from srnet import build_model, get_cfg
from srnet.checkpoint import Checkpointer, load_for_evaluation
from srnet.checkpoint.fit import part_of
from torch import nn

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
MASK_RCNN_SR = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_3x.yaml"
R_18 = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
R_18 += ["MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16]
R_18 += ["MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.CONTEXT.REDUCTION", 16]


def build(config, *options, weights=""):
    # What the datasets say about a config is another test's.
    datasets = ["DATASETS.TRAIN", (), "DATASETS.TEST", (), "MODEL.WEIGHTS", str(weights)]
    cfg = get_cfg(config, [*datasets, "MODEL.DEVICE", "cpu", *options])
    torch.manual_seed(0)
    return cfg, build_model(cfg)


def save(config, path, *options, change=lambda weights: None):
    weights = build(config, *options)[1].state_dict()
    change(weights)
    torch.save({"model": weights}, path)
    return path


def evaluate(config, path, *options):
    cfg, model = build(config, *options, weights=path)
    load_for_evaluation(cfg, model)
    return model


def refuses(config, path, message, *options):
    """Refuse in evaluation, change nothing, and go on where the config says so."""
    cfg, model = build(config, *options, weights=path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=message) as error:
        load_for_evaluation(cfg, model)
    text = str(error.value)
    assert str(path) in text and "MODEL.WEIGHTS_STRICT False" in text and "\n" not in text
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    evaluate(config, path, *options, "MODEL.WEIGHTS_STRICT", False)


def test_a_head_for_other_classes(tmp_path):
    path = save(CAMVID, tmp_path / "model.pth", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19)
    refuses(CAMVID, path, r"2 have another shape, as sem_seg_head\.\S+: \(19, .*\(11, ")


def test_missing_parameters(tmp_path):
    def change(weights):
        del weights["backbone.stem.0.weight"]

    path = save(CAMVID, tmp_path / "model.pth", change=change)
    refuses(CAMVID, path, r"1 of the model's parameters are missing in it, as backbone\.stem\.0")


def test_counters_of_batch_norms_do_not_count(tmp_path):
    def change(weights):
        for name in [n for n in weights if n.endswith("num_batches_tracked")]:
            del weights[name]

    evaluate(CAMVID, save(CAMVID, tmp_path / "model.pth", change=change))


def test_a_deeper_backbone_is_another_one(tmp_path):
    """All of ResNet-18's parameters are in it."""
    deep = [*R_18, "MODEL.RESNETS.DEPTH", 34]
    path = save(MASK_RCNN, tmp_path / "model.pth", *deep)
    refuses(MASK_RCNN, path, r"\d+ in it have no place in the model, as backbone\.\S*res2", *R_18)


def test_context_modules_that_the_config_lacks(tmp_path):
    path = save(MASK_RCNN_SR, tmp_path / "model.pth", *R_18)
    refuses(MASK_RCNN, path, r"14 in it have no place in the model, as \S+context", *R_18)


def test_a_detectron2_checkpoint_in_an_sr_config(tmp_path, caplog):
    """The new modules are the identity: allowed, with a warning."""
    path = save(MASK_RCNN, tmp_path / "model.pth", *R_18)
    evaluate(MASK_RCNN_SR, path, *R_18)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("backbone.bottom_up.res5.0.context" in text for text in warnings)


@pytest.mark.parametrize("name, allowed", [("nl", True), ("gc", True), ("se", False)])
def test_rivals_that_are_new(tmp_path, name, allowed):
    path = save(MASK_RCNN, tmp_path / "model.pth", *R_18)
    options = [*R_18, "MODEL.CONTEXT.NAME", name]
    if allowed:
        evaluate(MASK_RCNN_SR, path, *options)
    else:
        refuses(MASK_RCNN_SR, path, r"are missing in it, as \S+context", *options)


def test_half_of_a_context_module_is_no_identity(tmp_path):
    def change(weights):
        del weights["backbone.bottom_up.res5.0.context.conv_b.weight"]

    path = save(MASK_RCNN_SR, tmp_path / "model.pth", *R_18, change=change)
    refuses(MASK_RCNN_SR, path, r"1 of the model's parameters are missing", *R_18)


def test_heads_that_the_config_lacks_are_left_over(tmp_path):
    """A Faster R-CNN may take its weights from a Mask R-CNN."""
    path = save(MASK_RCNN, tmp_path / "model.pth", *R_18)
    evaluate(MASK_RCNN, path, *R_18, "MODEL.MASK_ON", False)


def test_another_model(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"encoder.weight": torch.ones(3)}, path)
    cfg, model = build(CAMVID, weights=path)
    with pytest.raises(RuntimeError, match=r"none of the \d+ parameters.*encoder\.weight"):
        load_for_evaluation(cfg, model)
    with pytest.raises(RuntimeError, match=r"none of the \d+ parameters.*encoder\.weight"):
        Checkpointer(model).resume_or_load(str(path), resume=False)  # in training, too


def test_no_weights_to_evaluate(tmp_path):
    cfg, model = build(CAMVID, "OUTPUT_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"MODEL\.WEIGHTS is empty.*MODEL\.WEIGHTS_STRICT"):
        load_for_evaluation(cfg, model)
    with pytest.raises(RuntimeError, match=r"MODEL\.WEIGHTS is empty"):
        load_for_evaluation(cfg, model, resume=True)
    Checkpointer(model, str(tmp_path)).save("model_0000003", iteration=3)
    load_for_evaluation(cfg, model, resume=True)
    cfg.MODEL.WEIGHTS_STRICT = False
    load_for_evaluation(cfg, model)


def test_training_prints_one_table(tmp_path, caplog, cells_of):
    """A backbone that is matched by the ends of its names, new heads, and a layer too many."""
    model = build(MASK_RCNN_SR, *R_18, "MODEL.RESNETS.NORM", "BN")[1]
    backbone = {
        name.replace("backbone.bottom_up.", ""): value
        for name, value in model.state_dict().items()
        if "bottom_up" in name and ".context." not in name
    }
    backbone["linear.weight"] = torch.ones(5, 512)
    backbone["res5.0.conv1.weight"] = torch.ones(3, 3)
    torch.save({"model": backbone, "matching_heuristics": True}, tmp_path / "model.pth")
    with caplog.at_level(logging.INFO):
        Checkpointer(model).resume_or_load(str(tmp_path / "model.pth"), resume=False)
    tables = [r.getMessage() for r in caplog.records if "|" in r.getMessage()]
    assert len(tables) == 1
    rows = {row[0]: row[1:] for row in cells_of(tables[0])}
    assert rows["part"][:3] == ["loaded", "new (random)", "left over"]
    names = [n for n in model.state_dict() if not n.endswith("num_batches_tracked")]
    for part, row in rows.items():
        if part in ("part", "all") or set(part) <= set(":-"):
            continue
        ours = [name for name in names if part_of(name) == part]
        assert int(row[0]) + int(row[1]) == len(ours), part
    assert rows["backbone.bottom_up.stem"][:3] == ["5", "0", "0"]
    assert rows["backbone.bottom_up.res5"][1] == "15"  # two modules of 7, and the convolution
    assert rows["proposal_generator"][:3] == ["0", "6", "0"]
    assert rows["linear"][:3] == ["0", "0", "1"]
    assert int(rows["all"][0]) + int(rows["all"][1]) == len(names)


OTHER_CLASSES = {
    CAMVID: (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19], {"sem_seg_head"}),
    "ImageNet-Classification/resnet_18_SR.yaml": (["MODEL.CLASSIFIER.NUM_CLASSES", 7], {"linear"}),
    "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml": (
        ["MODEL.ROI_HEADS.NUM_CLASSES", 7],
        {"roi_heads.box_predictor", "roi_heads.mask_head"},
    ),
    "quick_schedules/panoptic_fpn_R_18_SR.yaml": (
        ["MODEL.ROI_HEADS.NUM_CLASSES", 7, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 9],
        {"roi_heads.box_predictor", "roi_heads.mask_head", "sem_seg_head"},
    ),
}


@pytest.mark.parametrize("config", OTHER_CLASSES)
def test_another_number_of_classes_keeps_all_that_fits(config, tmp_path, caplog, cells_of):
    options, heads = OTHER_CLASSES[config]
    path = save(config, tmp_path / "model.pth")
    saved = torch.load(path, weights_only=True)["model"]
    torch.manual_seed(5)
    cfg = get_cfg(config, ["DATASETS.TRAIN", (), "DATASETS.TEST", (), "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(options)
    model = build_model(cfg)
    with caplog.at_level(logging.INFO):
        Checkpointer(model).resume_or_load(str(path), resume=False)
    own = model.state_dict()
    differing = {name for name, value in own.items() if value.shape != saved[name].shape}
    assert all(torch.equal(own[name], saved[name]) for name in set(own) - differing)
    assert {part_of(name) for name in differing} == heads
    (table,) = [r.getMessage() for r in caplog.records if "|" in r.getMessage()]
    new = {row[0]: row[2] for row in cells_of(table) if row[0] in heads | {"all"}}
    assert sum(int(new[head]) for head in heads) == int(new["all"]) == len(differing)


def test_a_shape_that_differs_is_in_the_table(tmp_path, caplog):
    torch.save({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, tmp_path / "model.pth")
    Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "model.pth"))
    assert "weight: (3, 2) in the file, (2, 2) in the model" in caplog.text


@pytest.mark.parametrize(
    "name, part",
    [
        ("backbone.stem.conv1.weight", "backbone.stem"),
        ("backbone.bottom_up.res5.0.context.conv_b.weight", "backbone.bottom_up.res5"),
        ("backbone.fpn_lateral2.weight", "backbone.fpn_lateral2"),
        ("sem_seg_head.predictor.weight", "sem_seg_head"),
        ("roi_heads.box_head.fc1.bias", "roi_heads.box_head"),
        ("weight", "model"),
    ],
)
def test_parts(name, part):
    assert part_of(name) == part
