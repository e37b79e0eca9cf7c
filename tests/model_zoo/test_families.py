"""No key is silently ignored: it changes something, or it is refused, or a warning names it."""

import functools
import itertools
import logging
import random
import types
from concurrent.futures import Executor

import numpy as np
import pytest
import torch
from config_nodes import flatten
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine.hooks import IterationTimer
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from fvcore.common.timer import Timer
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.engine import Trainer
from srnet.model_zoo.families import IGNORED, SWITCHES
from srnet.model_zoo.names import config_names
from srnet.modeling.backbone import wider_resnet

# A family, its config, and what makes it small.
FAMILIES = {
    "fcn": (
        "CamVid-SemanticSegmentation/srnet_R_50.yaml",
        [
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
            *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 64),
        ],
    ),
    "df_seg": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", ()),
    "deeplab": ("Cityscapes-SemanticSegmentation/srnet_WR_38_trainval_120k.yaml", ()),
    "timm": (
        "CamVid-SemanticSegmentation/lite0_SR.yaml",
        ("MODEL.TIMM.NAME", "mobilenetv3_small_050"),
    ),
    "mask_rcnn": ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", ()),
    "panoptic_fpn": ("quick_schedules/panoptic_fpn_R_18_SR.yaml", ()),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", ()),
}
# A key, and a value that is not the default. Where a family's config has it, the default is taken.
KEYS = {
    "MODEL.BACKBONE.FREEZE_AT": 1,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.RES4_DILATION": 2,
    "MODEL.RESNETS.RES5_MULTI_GRID": [1, 1, 1],
    "MODEL.RESNETS.NORM": "",
    "MODEL.FPN.NORM": "GN",
    "MODEL.FPN.FUSE_TYPE": "avg",
    "MODEL.CONTEXT.NAME": "se",
    "MODEL.CONTEXT.STAGES": ["res4"],
    "MODEL.CONTEXT.BLOCKS": [-1],
    "MODEL.CONTEXT.POSITION": "residual",
    "MODEL.CONTEXT.GATE": "se",
    "MODEL.CONTEXT.FOLD": "never",
    "MODEL.CHANNELS_LAST": True,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.NORM": "FrozenBN",  # on one CPU process SyncBN is BN
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": 8,
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": 0.3,
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE": "ohem",
    "MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD": 0.6,
    "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT": 99,
    "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": "res5",
    "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT": 0.7,
    "MODEL.SEM_SEG_HEAD.DROPOUT": 0.2,
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES": ["res3"],
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": [24],
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 64,
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": 0.3,
    "MODEL.CLASSIFIER.NUM_CLASSES": 7,
    "MODEL.CLASSIFIER.LABEL_SMOOTHING": 0.1,
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.MASK_ON": True,
    "MODEL.KEYPOINT_ON": True,
    "MODEL.RPN.NMS_THRESH": 0.5,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.3,
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH": 0.3,
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.PIXEL_STD": [2.0, 2.0, 2.0],
    "INPUT.FORMAT": "RGB",
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": [48, 48],
    "INPUT.CROP.PAD": False,
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.75,
    "INPUT.MIN_SIZE_TRAIN": (64, 72),
    "INPUT.MAX_SIZE_TRAIN": 999,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.RANDOM_FLIP": "vertical",
    "INPUT.MASK_FORMAT": "bitmask",
    "INPUT.CLASSIFICATION.SIZE": 64,
    "INPUT.CLASSIFICATION.RANDOM_ERASING": 0.2,
    "INPUT.CLASSIFICATION.MIXUP": 0.2,
    "INPUT.CLASSIFICATION.RESIZE_TEST": 99,
    "SOLVER.EMA.ENABLED": True,
    "SOLVER.EMA.DECAY": 0.5,
    "SOLVER.ACCUMULATE": 2,
    "SOLVER.BASE_LR_BATCH": 1,
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.3,
    "SOLVER.STEPS": (5,),
    "SOLVER.POLY_LR_POWER": 0.5,
    "DATALOADER.SKIP_BAD_IMAGES": True,
    "DATALOADER.REPEAT_THRESHOLD": 0.1,
    "TEST.SEM_SEG.MODE": "slide",
    "TEST.SEM_SEG.STRIDE": [500, 500],
    "TEST.SEM_SEG.SCALES": [0.5],
    "TEST.SEM_SEG.FLIP": True,
    "TEST.SEM_SEG.MAX_BATCH_PIXELS": 99,
    "TEST.AUG.ENABLED": True,
    "TEST.AUG.FLIP": False,
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.DETECTIONS_PER_IMAGE": 7,
    "TEST.EVAL_PERIOD": 3,
    "VIS_PERIOD": 5,
}
ELSEWHERE = {
    ("deeplab", "INPUT.CROP.TYPE"): "Detectron2's DeepLab takes absolute crops alone",
    ("timm", "MODEL.CONTEXT.STAGES"): "24 channels are too few: test_timm_backbone.py has others",
    ("mask_rcnn", "MODEL.KEYPOINT_ON"): "needs a dataset with keypoints",
    ("panoptic_fpn", "MODEL.KEYPOINT_ON"): "needs a dataset with keypoints",
}
DEFAULTS = dict(flatten(get_cfg()))


# Configs, and what differs from run to run.
UNSEEN = (CfgNode, logging.Logger, types.ModuleType, type, Timer, IterationTimer, Executor)


class WithoutData(Trainer):
    """A trainer that reads no image."""

    @classmethod
    def build_train_loader(cls, cfg):
        return [[]]


@pytest.fixture(scope="module", autouse=True)
def small_wider_resnet():
    stages = {
        name: (blocks, tuple(width // 64 for width in widths))
        for name, (blocks, widths) in wider_resnet.STAGES.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wider_resnet, "STAGES", stages)
        yield


def read(family, folder, *more):
    config, small = FAMILIES[family]
    shared = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SEED", 1, "OUTPUT_DIR", str(folder)]
    return get_cfg(config, [*shared, "SOLVER.IMS_PER_BATCH", 2, *small, *more])


def observe(cfg):
    """What a training is made of: model, optimizer, schedule, hooks, mappers; not the config."""
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(0)
    parts = [WithoutData(cfg), build_mapper(cfg, is_train=True), build_mapper(cfg, is_train=False)]
    return describe(parts, {})


def describe(thing, seen):
    if thing is None or isinstance(thing, str | int | float | torch.dtype | torch.device):
        return thing
    if isinstance(thing, torch.Tensor):
        values = thing.flatten().tolist() if thing.numel() < 10 else None
        return str(thing.dtype), thing.shape, thing.stride(), thing.requires_grad, values
    if isinstance(thing, UNSEEN):
        return type(thing).__name__
    if id(thing) in seen:
        return "seen"
    seen[id(thing)] = thing  # kept alive, so that no other object gets its id
    if isinstance(thing, dict):
        return [(str(key), describe(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [describe(value, seen) for value in thing]
    if isinstance(thing, functools.partial):
        return describe([thing.func, thing.args, thing.keywords], seen)
    if isinstance(thing, types.FunctionType):
        return thing.__qualname__
    return type(thing).__name__, describe(dict(getattr(thing, "__dict__", {})), seen)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What is observed of each family, and its folder."""
    folder = tmp_path_factory.mktemp("families")

    @functools.cache
    def of(family):
        return observe(read(family, folder))

    return folder, of


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_observed_depends_on_the_config_alone(family, usual):
    folder, of = usual
    assert observe(read(family, folder)) == of(family)


# The solver's keys know no families: two of them stand for all.
PAIRS = [
    (family, key)
    for family in FAMILIES
    for key in KEYS
    if family in ("fcn", "mask_rcnn") or not key.startswith("SOLVER.")
]


@pytest.mark.parametrize("family, key", PAIRS)
def test_a_key_changes_something_or_is_named(family, key, usual, caplog):
    if family == "timm":
        pytest.importorskip("timm")
    folder, of = usual
    value = KEYS[key]
    if (family, key) in ELSEWHERE:
        pytest.skip(ELSEWHERE[family, key])
    if dict(flatten(read(family, folder)))[key] == value:
        value = DEFAULTS[key]
    caplog.clear()
    try:
        cfg = read(family, folder, key, value)
        named = [r.getMessage() for r in caplog.records if f"{key} is" in r.getMessage()]
        assert named or observe(cfg) != of(family)
    except ValueError as error:
        named = str(error)
        assert key in named, error


# Keys of the loader, and the families whose data leave them nothing to do.
LOADER_KEYS = {
    "DATALOADER.SAMPLER_TRAIN": (("RepeatFactorTrainingSampler",), ()),
    "DATALOADER.ASPECT_RATIO_GROUPING": ((False, True), ("classifier",)),  # crops of one size
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": (
        (False, True),
        ("fcn", "df_seg", "deeplab", "timm", "classifier"),  # no instances to be without
    ),
}


@pytest.fixture
def loaded(tmp_path):
    """The ids of the images of the first batches of a family, of drawn records."""
    names = ["families_instances", "families_labels"]

    def of(family, *more):
        cfg = read(family, tmp_path, "DATALOADER.NUM_WORKERS", 0, *more)
        cfg.merge_from_list(["DATASETS.TRAIN", (names["rcnn" not in family and family[0] != "p"],)])
        cfg.merge_from_list(["DATASETS.IMAGE_FOLDER_TRAIN", ""])
        loader = build_train_loader(cfg, lambda record: record)
        return [[x["image_id"] for x in batch] for batch in itertools.islice(loader, 6)]

    records = [
        {"image_id": i, "file_name": f"/{i}.png", "height": 9 + i % 2, "width": 10 - i % 2}
        for i in range(12)
    ]
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": 1, "category_id": 0, "iscrowd": 0}
    DatasetCatalog.register(
        names[0], lambda: [{**r, "annotations": [box] * (i % 3)} for i, r in enumerate(records)]
    )
    DatasetCatalog.register(names[1], lambda: records)
    yield of
    for name in names:
        DatasetCatalog.remove(name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", LOADER_KEYS)
def test_a_key_of_the_loader_changes_the_batches_or_is_refused(family, key, loaded):
    if family == "timm":
        pytest.importorskip("timm")
    values, nothing_to_do = LOADER_KEYS[key]
    found = [loaded(family)]
    try:
        found += [loaded(family, key, value) for value in values]
    except ValueError as error:
        assert f"{key} is" in str(error)
    else:
        assert any(batches != found[0] for batches in found) == (family not in nothing_to_do)


@pytest.mark.parametrize("name", [name for name in config_names() if "SR" not in name])
def test_the_configs_of_the_zoo_have_no_option_that_waits(name, caplog):
    get_cfg(name)
    assert "has no effect" not in caplog.text


@pytest.mark.parametrize(
    "opts, message",
    [
        (
            ("MODEL.CONTEXT.STAGES", ["res5"]),
            r"MODEL.CONTEXT.STAGES is \['res5'\], and MODEL.BACKBONE.NAME build_resnet_backbone "
            "ignores it: choose build_resnet_context_backbone",
        ),
        (("MODEL.CONTEXT.NAME", "sr"), "MODEL.CONTEXT.NAME is 'sr', and a GeneralizedRCNN on"),
        (("MODEL.CHANNELS_LAST", True), "build_resnet_backbone ignores it: choose build_resnet_c"),
        (("MODEL.LOAD_PROPOSALS", True), "set it to PrecomputedProposals"),
        (("TEST.PRECISE_BN.ENABLED", True), "a model without trained batch norms ignores it"),
        (("TEST.AUG.ENABLED", True), "evaluate with Detectron2's own train_net.py"),
        (
            (
                *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
                *("MODEL.RESNETS.WIDTH_PER_GROUP", 8),
                *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            ),
            "MODEL.RESNETS.WIDTH_PER_GROUP is 8, and a ResNet of basic blocks ignores it",
        ),
        (
            (
                *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t"),
                *("MODEL.CONTEXT.NAME", "sr"),
            ),
            "name stages in MODEL.CONTEXT.STAGES",
        ),
    ],
)
def test_keys_that_detectron2s_own_model_ignores(opts, message):
    with pytest.raises(ValueError, match=message):
        get_cfg(opts=opts)


def test_all_ignored_keys_are_named_at_once():
    with pytest.raises(ValueError) as error:
        get_cfg(opts=["VIS_PERIOD", 3, "MODEL.MASK_ON", True, "TEST.AUG.ENABLED", True, *SEMANTIC])
    lines = str(error.value).splitlines()
    assert [line.split(" is ")[0] for line in lines] == [
        "MODEL.MASK_ON",
        "VIS_PERIOD",
        "TEST.AUG.ENABLED",
    ]
    assert all("MODEL.META_ARCHITECTURE SRSemanticSegmentor ignores it" in line for line in lines)


SEMANTIC = ("MODEL.META_ARCHITECTURE", "SRSemanticSegmentor")


def test_a_printed_config_is_read_again(tmp_path):
    """YAML has no tuples: a list of the same values is still the default."""
    cfg = get_cfg("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml")
    (tmp_path / "mine.yaml").write_text(cfg.dump())
    assert get_cfg(tmp_path / "mine.yaml").MODEL.CONTEXT == cfg.MODEL.CONTEXT


def test_a_users_own_components_may_read_any_key(monkeypatch):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "MyDetector", object)
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "build_my_backbone", object)
    own = ["MODEL.META_ARCHITECTURE", "MyDetector", "MODEL.BACKBONE.NAME", "build_my_backbone"]
    cfg = get_cfg(opts=[*own, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 3, "MODEL.RESNETS.DEPTH", 101])
    assert cfg.MODEL.RESNETS.DEPTH == 101


def test_the_table_names_keys_that_exist():
    groups = [g for parts in IGNORED.values() for keys in parts.values() for g in keys]
    groups += [group for keys, switch, _ in SWITCHES for group in (*keys, switch)]
    for group in groups:
        assert any(key == group or key.startswith(f"{group}.") for key in DEFAULTS), group
