"""Values that a config may not have are refused at the start, all at once, with the key's name."""

import math

import pytest
from detectron2.config import get_cfg as detectron2_cfg
from srnet import get_cfg
from srnet.config import add_srnet_config
from srnet.modeling import build_model
from srnet.ranges import check_ranges

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
FCN = "CamVid-SemanticSegmentation/srnet_R_50.yaml"
MASK = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
CLASSES = "ImageNet-Classification/resnet_50_SR.yaml"

BAD = [
    (CAMVID, "MODEL.META_ARCHITECTURE", "Nothing", "one of .*SRSemanticSegmentor"),
    (CAMVID, "MODEL.BACKBONE.NAME", "build_nothing", "build_dfnet_backbone"),
    (CAMVID, "MODEL.BACKBONE.FREEZE_AT", -1, "0 to 7"),
    (CAMVID, "MODEL.PIXEL_MEAN", [1.0, 2.0], r"each channel of INPUT.FORMAT \(3"),
    (CAMVID, "MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "each channel .*above 0"),
    (CAMVID, "MODEL.PIXEL_STD", [1.0, -1.0, 1.0], "above 0"),
    (CAMVID, "MODEL.PIXEL_STD", [], "each channel"),
    (CAMVID, "MODEL.CONTEXT.NAME", "srr", "'' or the name .*sr_gate"),
    (CAMVID, "MODEL.CONTEXT.GATE", "gate", "'' or the name .*sr_gate"),
    (CAMVID, "MODEL.CONTEXT.STAGES", ["res6"], "res2, res3"),
    (CAMVID, "MODEL.CONTEXT.BLOCKS", [0.5], "indices of blocks"),
    (CAMVID, "MODEL.CONTEXT.POSITION", "before", "output, residual"),
    (CAMVID, "MODEL.CONTEXT.REDUCTION", 0, "1 or more"),
    (CAMVID, "MODEL.CONTEXT.NUM_NODES", -16, "1 or more"),
    (CAMVID, "MODEL.CONTEXT.SQUEEZE", "max", "gap, ghp"),
    (CAMVID, "MODEL.CONTEXT.REASONING", "cnn", "none, fc, gcn, sa"),
    (CAMVID, "MODEL.CONTEXT.NORM", "BN", "'', LN"),
    (CAMVID, "MODEL.CONTEXT.FOLD", "sometimes", "auto, always, never"),
    (CAMVID, "MODEL.CONTEXT.ASPP_DILATIONS", [6, 0, 12], "3 whole numbers"),
    (CAMVID, "MODEL.DFNET.VARIANT", "v3", "v1, v2"),
    (CAMVID, "MODEL.DFNET.NORM", "SyncBatchNorm", "SyncBN"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.NAME", "NoHead", "DFSegHead"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"], "the backbone returns"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.IN_FEATURES", [], "one or more maps"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.LOSS_TYPE", "dice", "cross_entropy, ohem"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD", 0.0, "above 0 and at most 1"),
    (CAMVID, "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT", -1, "0 or more"),
    (FCN, "MODEL.RESNETS.DEPTH", 49, "18, 34, 50, 101, 152"),
    (FCN, "MODEL.RESNETS.DEPTH", 18, "50, 101 or 152 for build_resnet_deeplab_backbone"),
    (MASK, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "64 at depth 18 or 34"),
    (MASK, "MODEL.RESNETS.NUM_GROUPS", 32, "1 at depth 18 or 34"),
    (MASK, "MODEL.RESNETS.RES5_DILATION", 2, "1 at depth 18 or 34"),
    (FCN, "MODEL.RESNETS.OUT_FEATURES", ["res6"], "stem, res2"),
    (FCN, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res4", "res5"], "single one for FCNHead"),
    (FCN, "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE", "res1", "'' or a map"),
    (FCN, "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT", -0.4, "0 or more"),
    (MASK, "MODEL.FPN.IN_FEATURES", ["res6"], "the network under the pyramid returns"),
    (MASK, "MODEL.RPN.IN_FEATURES", ["p9"], "the backbone returns"),
    (MASK, "MODEL.ROI_HEADS.IN_FEATURES", ["res4"], "the backbone returns"),
    (MASK, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.5, "0 to 1"),
    (MASK, "INPUT.MASK_FORMAT", "rle", "polygon, bitmask"),
    (CLASSES, "MODEL.CLASSIFIER.IN_FEATURE", "res6", "a map that the backbone returns"),
    (CLASSES, "MODEL.CLASSIFIER.LABEL_SMOOTHING", 1.0, "0 or more and below 1"),
    (CLASSES, "INPUT.FORMAT", "L", "ImageClassifier: RGB, BGR"),
    (CLASSES, "INPUT.CLASSIFICATION.SIZE", 0, "1 or more"),
    (CLASSES, "INPUT.CLASSIFICATION.SCALE", (1.0, 0.08), "smaller first"),
    (CLASSES, "INPUT.CLASSIFICATION.SCALE", (0.0, 1.0), "above 0"),
    (CLASSES, "INPUT.CLASSIFICATION.RATIO", (1.4, 0.7), "smaller first"),
    (CLASSES, "INPUT.CLASSIFICATION.AUTO_AUGMENT", "auto", "'', trivial, rand"),
    (CLASSES, "INPUT.CLASSIFICATION.RANDOM_ERASING", 1.5, "0 to 1"),
    (CLASSES, "INPUT.CLASSIFICATION.MIXUP", -1.0, "0 or more"),
    (CLASSES, "INPUT.CLASSIFICATION.CUTMIX", -0.5, "0 or more"),
    (CLASSES, "INPUT.CLASSIFICATION.BATCH_TEST", 0, "1 or more"),
    (CAMVID, "INPUT.FORMAT", "BRG", "RGB, BGR, L"),
    (CAMVID, "INPUT.RANDOM_FLIP", "nope", "none, horizontal, vertical"),
    (CAMVID, "INPUT.MIN_SIZE_TRAIN", (0, 0), "2, the smaller first"),
    (CAMVID, "INPUT.MIN_SIZE_TRAIN", (180,), "2, the smaller first"),
    (CAMVID, "INPUT.MIN_SIZE_TRAIN", (720, 180), "2, the smaller first"),
    (MASK, "INPUT.MIN_SIZE_TRAIN", (), "1 or more whole numbers"),
    (CAMVID, "INPUT.MIN_SIZE_TRAIN_SAMPLING", "random", "choice, range"),
    (CAMVID, "INPUT.MIN_SIZE_TEST", -1, "0 or more"),
    (CAMVID, "INPUT.CROP.TYPE", "square", "absolute, absolute_range, relative"),
    (CAMVID, "INPUT.CROP.SIZE", [0, 64], "2 whole numbers"),
    (CAMVID, "INPUT.CROP.SIZE", [-64, 64], "2 whole numbers"),
    (CAMVID, "INPUT.CROP.SIZE", [64], "2 whole numbers"),
    (CAMVID, "INPUT.CROP.SIZE", [64.0, 64.0], "2 whole numbers"),
    (CAMVID, "DATASETS.TRAIN", ("camvid_sem_seg_trian",), "did you mean camvid_sem_seg_train"),
    (CAMVID, "DATASETS.TEST", ("nothing_like_it",), "there is no nothing_like_it"),
    (CAMVID, "DATALOADER.NUM_WORKERS", -1, "0 or more"),
    (CAMVID, "DATALOADER.SAMPLER_TRAIN", "Sampler", "TrainingSampler"),
    (CAMVID, "SOLVER.MAX_ITER", -5, "1 or more"),
    (CAMVID, "SOLVER.IMS_PER_BATCH", 0, "1 or more"),
    (CAMVID, "SOLVER.ACCUMULATE", 0, "1 or more"),
    (CAMVID, "SOLVER.BASE_LR", 0.0, "above 0"),
    (CAMVID, "SOLVER.BASE_LR", math.inf, "above 0"),
    (CAMVID, "SOLVER.BASE_LR_BATCH", -8, "0 or more"),
    (CAMVID, "SOLVER.LR_SCHEDULER_NAME", "Poly", "WarmupPolyLR"),
    (CAMVID, "SOLVER.WARMUP_METHOD", "slow", "linear, constant"),
    (CAMVID, "SOLVER.CHECKPOINT_PERIOD", 0, "1 or more"),
    (CAMVID, "SOLVER.EMA.DECAY", 1.0, "below 1"),
    (CAMVID, "SOLVER.EMA.DECAY", -0.1, "below 1"),
    (CAMVID, "SOLVER.EMA.PERIOD", 0, "1 or more"),
    (CAMVID, "TEST.EVAL_PERIOD", -1, "0 or more"),
    (CAMVID, "TEST.SEM_SEG.MODE", "tiles", "whole, slide"),
    (CAMVID, "TEST.SEM_SEG.WINDOW", [0, 64], "2 whole numbers"),
    (CAMVID, "TEST.SEM_SEG.STRIDE", [64], "2 whole numbers"),
    (CAMVID, "TEST.SEM_SEG.SCALES", [], "1 or more numbers, each above 0"),
    (CAMVID, "TEST.SEM_SEG.SCALES", [1.0, 0.0], "above 0"),
    (CAMVID, "TEST.SEM_SEG.MAX_BATCH_PIXELS", 0, "1 or more"),
]


@pytest.mark.parametrize(("config", "key", "value", "allowed"), BAD)
def test_a_bad_value_is_named(config, key, value, allowed):
    with pytest.raises(ValueError, match=allowed) as error:
        get_cfg(config, [key, value])
    text = str(error.value)
    assert text.count(f"{key}={value!r} must be ") == 1


@pytest.mark.parametrize(
    ("size", "kind", "good"),
    [
        ([0.5, 1.0], "relative", True),
        ([0.5, 1.0], "relative_range", True),
        ([1, 1], "relative", True),
        ([0.5, 1.5], "relative", False),
        ([0.0, 0.5], "relative_range", False),
        ([64, 64], "relative", False),
        ([64, 96], "absolute_range", True),
        ([96, 64], "absolute_range", False),
        ([96, 64], "absolute", True),
        ([True, True], "absolute", False),
    ],
)
def test_the_size_of_a_crop_follows_its_type(size, kind, good):
    opts = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", kind, "INPUT.CROP.SIZE", size]
    if good:
        assert size == get_cfg(MASK, opts).INPUT.CROP.SIZE
    else:
        with pytest.raises(ValueError, match=r"INPUT\.CROP\.SIZE"):
            get_cfg(MASK, opts)


def test_windows_without_gaps():
    opts = ["TEST.SEM_SEG.WINDOW", [64, 64], "TEST.SEM_SEG.STRIDE", [65, 64]]
    assert get_cfg(CAMVID, opts).TEST.SEM_SEG.MODE == "whole"
    with pytest.raises(ValueError, match=r"STRIDE=\[65, 64\] must be .* at most .*WINDOW"):
        get_cfg(CAMVID, [*opts, "TEST.SEM_SEG.MODE", "slide"])


def test_one_channel_has_one_mean():
    opts = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [1.0], "MODEL.PIXEL_STD", [2.0]]
    assert get_cfg(CAMVID, opts).MODEL.PIXEL_STD == [2.0]


def test_all_findings_at_once():
    opts = ["SOLVER.MAX_ITER", 0, "INPUT.RANDOM_FLIP", "nope", "MODEL.CONTEXT.NAME", "srr"]
    with pytest.raises(ValueError) as error:
        get_cfg(CAMVID, opts)
    first, *lines = str(error.value).splitlines()
    assert first == "3 values of the config are wrong:"
    assert sorted(line.split("=")[0] for line in lines) == sorted(opts[::2])


def test_values_that_were_set_past_yacs_are_refused_too():
    cfg = get_cfg(CAMVID)
    cfg.SOLVER.MAX_ITER = "many"
    cfg.INPUT.MIN_SIZE_TRAIN = None
    cfg.SOLVER.ACCUMULATE = True
    cfg.SOLVER.BASE_LR = math.nan
    cfg.DATASETS.TEST = "camvid_sem_seg_val "
    with pytest.raises(ValueError, match="5 values of the config are wrong"):
        check_ranges(cfg)


def test_configs_that_detectron2_read_are_checked_where_they_are_used():
    """Its tools call add_srnet_config alone."""
    cfg = detectron2_cfg()
    add_srnet_config(cfg)
    cfg.merge_from_other_cfg(get_cfg(CAMVID))
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TYPE = "dice"
    with pytest.raises(ValueError, match="LOSS_TYPE='dice' must be one of cross_entropy, ohem"):
        build_model(cfg)
