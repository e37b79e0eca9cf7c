"""The table of ranges: keys of this project, and those of Detectron2 that break late or silently.

Detectron2 finds most of these values wrong only when an iteration or an evaluation needs them, or
never.
"""

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

from srnet.layers.node_reasoning import REASONINGS
from srnet.layers.squeeze_reasoning import SQUEEZES

from .custom import CUSTOM_DATASETS
from .features import (
    BASIC_DEPTHS,
    DEEPLAB_RESNETS,
    RESNET_PYRAMIDS,
    RESNETS,
    backbone_features,
    bottom_up_features,
    features_of,
    is_pyramid,
)
from .values import Range, each, names_in, number, one_of, ordered

FORMATS = one_of("RGB", "BGR")  # of the classifier
SEMANTIC = ("SRSemanticSegmentor", "SemanticSegmentor", "PanopticFPN")
DETECTORS = ("GeneralizedRCNN", "PanopticFPN")

POSITIVE = number(1, whole=True)
NATURAL = number(0, whole=True)
SHARE = number(above=0, high=1)
PROBABILITY = number(0, 1)
NOT_NEGATIVE = number(0)
ABOVE_ZERO = number(above=0)
NORM = one_of(
    "", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"
)


def _channels(cfg: CfgNode) -> int:
    return 1 if cfg.INPUT.FORMAT == "L" else 3


def _per_channel(element: Range) -> Range:
    return Range(
        f"a number for each channel of INPUT.FORMAT (3; 1 for L), {element.allowed}",
        lambda value, cfg: cfg is None or each(element, exactly=_channels(cfg)).holds(value, cfg),
    )


def _format_holds(value: Any, cfg: CfgNode | None) -> bool:
    if cfg is not None and cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        return FORMATS.holds(value, cfg)
    return one_of("RGB", "BGR", "L", "HSV", "YCbCr", "YUV-BT.601").holds(value, cfg)


def _blocks_hold(value: Any, cfg: CfgNode | None) -> bool:
    indices = each(number(whole=True))
    if indices.holds(value, cfg):
        return True
    lists = each(Range("", indices.holds)).holds(value, cfg)
    return lists and (cfg is None or len(value) == len(cfg.MODEL.CONTEXT.STAGES))


def _crop_holds(value: Any, cfg: CfgNode | None) -> bool:
    if cfg is None or not cfg.INPUT.CROP.ENABLED:
        return True
    kind = cfg.INPUT.CROP.TYPE
    if not CROP_TYPE.holds(kind, cfg):
        return True  # which is refused itself
    if kind == "absolute_range":
        return ordered(POSITIVE).holds(value, cfg)
    return each(POSITIVE if kind == "absolute" else SHARE, exactly=2).holds(value, cfg)


def _min_sizes_hold(value: Any, cfg: CfgNode | None) -> bool:
    if cfg is not None and cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        return ordered(POSITIVE).holds(value, cfg)
    return each(POSITIVE, at_least=1).holds(value, cfg)


def _stride_holds(value: Any, cfg: CfgNode | None) -> bool:
    if not each(POSITIVE, exactly=2).holds(value, cfg):
        return False
    if cfg is None or cfg.TEST.SEM_SEG.MODE != "slide":
        return True
    window = cfg.TEST.SEM_SEG.WINDOW
    return not WINDOW.holds(window, cfg) or (value[0] <= window[0] and value[1] <= window[1])


def _has_resnet(cfg: CfgNode | None) -> bool:
    return cfg is not None and cfg.MODEL.BACKBONE.NAME in (*RESNETS, *RESNET_PYRAMIDS)


def _freeze_at_holds(value: Any, cfg: CfgNode | None) -> bool:
    # The other backbones check it themselves; Detectron2's ResNets freeze what they have.
    return number(0, 5 if _has_resnet(cfg) else 7, whole=True).holds(value, cfg)


def _depth_holds(value: Any, cfg: CfgNode | None) -> bool:
    # Detectron2's builder for DeepLab has bottleneck blocks alone.
    deeplab = cfg is not None and cfg.MODEL.BACKBONE.NAME in DEEPLAB_RESNETS
    return DEPTH.holds(value, cfg) and not (deeplab and value in BASIC_DEPTHS)


def _with_bottlenecks(element: Range, basic: Any) -> Range:
    """`element`, and in a ResNet of basic blocks nothing but `basic` (Detectron2's builder)."""

    def holds(value: Any, cfg: CfgNode | None) -> bool:
        if cfg is not None and _has_resnet(cfg) and cfg.MODEL.RESNETS.DEPTH in BASIC_DEPTHS:
            return bool(value == basic)
        return element.holds(value, cfg)

    return Range(f"{element.allowed} ({basic} at depth 18 or 34)", holds)


def _loss_holds(value: Any, cfg: CfgNode | None) -> bool:
    if cfg is not None and cfg.MODEL.SEM_SEG_HEAD.NAME in ("DeepLabV3Head", "DeepLabV3PlusHead"):
        return one_of("cross_entropy", "hard_pixel_mining").holds(value, cfg)
    return one_of("cross_entropy", "ohem").holds(value, cfg)


def _registered(registry: Registry, what: str) -> Range:
    return names_in(lambda: [name for name, _ in registry], what)


def _is(kinds: tuple[str, ...]) -> Callable[[CfgNode], bool]:
    return lambda cfg: cfg.MODEL.META_ARCHITECTURE in kinds


def _semantic_features_hold(value: Any, cfg: CfgNode | None) -> bool:
    if not HEAD_FEATURES.holds(value, cfg):
        return False
    one = cfg is not None and cfg.MODEL.SEM_SEG_HEAD.NAME == "FCNHead"
    return not one or len(value) == 1


RETURNED = "the backbone returns"
DEPTH = one_of(*BASIC_DEPTHS, 50, 101, 152)
CROP_TYPE = one_of("absolute", "absolute_range", "relative", "relative_range")
WINDOW = each(POSITIVE, exactly=2)
HEAD_FEATURES = features_of(backbone_features, _is(SEMANTIC), what=RETURNED)
DATASETS = names_in(DatasetCatalog.list, "registered dataset", several=True)

RANGES: dict[str, Range] = {
    "MODEL.META_ARCHITECTURE": _registered(META_ARCH_REGISTRY, "registered meta-architecture"),
    "MODEL.DEVICE": Range(
        "cpu, cuda or cuda:N",
        lambda value, cfg: (
            value in ("cpu", "cuda") or (value[:5] == "cuda:" and value[5:].isdecimal())
        ),
    ),
    "MODEL.PIXEL_MEAN": _per_channel(number()),
    "MODEL.PIXEL_STD": _per_channel(ABOVE_ZERO),
    "MODEL.BACKBONE.NAME": _registered(BACKBONE_REGISTRY, "registered backbone"),
    "MODEL.BACKBONE.FREEZE_AT": Range(
        "0 to 7, the number of stages with the stem (0 to 5 for a ResNet)",
        _freeze_at_holds,
        "whole number",
    ),
    "MODEL.RESNETS.DEPTH": Range(
        f"{DEPTH.allowed} (50, 101 or 152 for {' and '.join(DEEPLAB_RESNETS)})", _depth_holds
    ),
    "MODEL.RESNETS.OUT_FEATURES": each(one_of("stem", "res2", "res3", "res4", "res5"), at_least=1),
    "MODEL.RESNETS.NUM_GROUPS": _with_bottlenecks(POSITIVE, 1),
    "MODEL.RESNETS.WIDTH_PER_GROUP": POSITIVE,
    "MODEL.RESNETS.NORM": NORM,
    "MODEL.RESNETS.RES4_DILATION": one_of(1, 2),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _with_bottlenecks(POSITIVE, 64),
    "MODEL.RESNETS.RES5_DILATION": _with_bottlenecks(one_of(1, 2, 4), 1),
    "MODEL.RESNETS.RES5_MULTI_GRID": each(POSITIVE, exactly=3),
    "MODEL.RESNETS.STEM_TYPE": one_of("basic", "deeplab"),
    "MODEL.DFNET.VARIANT": one_of("v1", "v2"),
    "MODEL.DFNET.NORM": NORM,
    "MODEL.DFNET.OUT_FEATURES": each(one_of("stem", "stage2", "stage3", "stage4"), at_least=1),
    "MODEL.TIMM.NAME": Range(
        "the name of a network of timm, where MODEL.BACKBONE.NAME is one of its backbones",
        lambda value, cfg: cfg is None or bool(value) or "_timm_" not in cfg.MODEL.BACKBONE.NAME,
    ),
    "MODEL.TIMM.OUT_FEATURES": each(one_of("stem", "res2", "res3", "res4", "res5"), at_least=1),
    "MODEL.WIDER_RESNET.NORM": NORM,
    "MODEL.WIDER_RESNET.OUT_FEATURES": each(
        one_of("mod2", "mod3", "mod4", "mod5", "mod6", "mod7"), at_least=1
    ),
    "MODEL.FPN.NORM": NORM,
    "MODEL.FPN.IN_FEATURES": features_of(
        bottom_up_features, is_pyramid, what="the network under the pyramid returns"
    ),
    "MODEL.FPN.OUT_CHANNELS": POSITIVE,
    "MODEL.FPN.FUSE_TYPE": one_of("sum", "avg"),
    "MODEL.CONTEXT.STAGES": each(
        one_of("res2", "res3", "res4", "res5", "stage2", "stage3", "stage4")
    ),
    "MODEL.CONTEXT.BLOCKS": Range(
        "indices of blocks, or a list of them for each of MODEL.CONTEXT.STAGES", _blocks_hold
    ),
    "MODEL.CONTEXT.POSITION": one_of("output", "residual"),
    "MODEL.CONTEXT.REDUCTION": POSITIVE,
    "MODEL.CONTEXT.NUM_NODES": POSITIVE,
    "MODEL.CONTEXT.PSP_KERNEL": Range("1 or 3", lambda value, cfg: value in (1, 3)),
    "MODEL.CONTEXT.SQUEEZE": one_of(*SQUEEZES),
    "MODEL.CONTEXT.REASONING": one_of(*REASONINGS),
    "MODEL.CONTEXT.NORM": one_of("", "LN"),
    "MODEL.CONTEXT.FOLD": one_of("auto", "always", "never"),
    "MODEL.CONTEXT.ASPP_DILATIONS": each(POSITIVE, exactly=3),
    "MODEL.CLASSIFIER.NUM_CLASSES": number(2, whole=True),
    "MODEL.CLASSIFIER.IN_FEATURE": features_of(
        backbone_features, _is(("ImageClassifier",)), what=RETURNED, several=False
    ),
    "MODEL.CLASSIFIER.LABEL_SMOOTHING": number(0, below=1),
    "MODEL.SEM_SEG_HEAD.NAME": _registered(SEM_SEG_HEADS_REGISTRY, "registered semantic head"),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": Range(
        f"{HEAD_FEATURES.allowed} (a single one for FCNHead)", _semantic_features_hold
    ),
    "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": features_of(
        backbone_features, _is(SEMANTIC), what=RETURNED, several=False, empty=True
    ),
    "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.SEM_SEG_HEAD.DROPOUT": number(0, below=1),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": POSITIVE,
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": NATURAL,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": NATURAL,
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": POSITIVE,
    "MODEL.SEM_SEG_HEAD.NORM": NORM,
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE": Range(
        "one of cross_entropy, ohem (Detectron2's DeepLab heads: cross_entropy, hard_pixel_mining)",
        _loss_holds,
    ),
    "MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD": SHARE,
    "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT": NATURAL,
    "MODEL.RPN.IN_FEATURES": features_of(backbone_features, _is(DETECTORS), what=RETURNED),
    "MODEL.ROI_HEADS.IN_FEATURES": features_of(backbone_features, _is(DETECTORS), what=RETURNED),
    "MODEL.ROI_HEADS.NUM_CLASSES": POSITIVE,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": POSITIVE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": PROBABILITY,
    "INPUT.FORMAT": Range(
        "one of RGB, BGR, L, HSV, YCbCr, YUV-BT.601 (ImageClassifier: RGB, BGR)", _format_holds
    ),
    "INPUT.MASK_FORMAT": one_of("polygon", "bitmask"),
    "INPUT.RANDOM_FLIP": one_of("none", "horizontal", "vertical"),
    "INPUT.MIN_SIZE_TRAIN": Range(
        "1 or more whole numbers, each 1 or more (2, the smaller first, where "
        "INPUT.MIN_SIZE_TRAIN_SAMPLING is range)",
        _min_sizes_hold,
    ),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
    "INPUT.MAX_SIZE_TRAIN": POSITIVE,
    "INPUT.MIN_SIZE_TEST": NATURAL,
    "INPUT.MAX_SIZE_TEST": POSITIVE,
    "INPUT.CROP.TYPE": CROP_TYPE,
    "INPUT.CROP.SIZE": Range(
        "2 whole numbers, each 1 or more, where INPUT.CROP.TYPE is absolute or absolute_range (the "
        "smaller first), and otherwise 2 numbers, each above 0 and at most 1",
        _crop_holds,
    ),
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": SHARE,
    "INPUT.CLASSIFICATION.SIZE": POSITIVE,
    "INPUT.CLASSIFICATION.SCALE": ordered(SHARE),
    "INPUT.CLASSIFICATION.RATIO": ordered(ABOVE_ZERO),
    "INPUT.CLASSIFICATION.AUTO_AUGMENT": one_of("", "trivial", "rand"),
    "INPUT.CLASSIFICATION.RANDOM_ERASING": PROBABILITY,
    "INPUT.CLASSIFICATION.MIXUP": NOT_NEGATIVE,
    "INPUT.CLASSIFICATION.CUTMIX": NOT_NEGATIVE,
    "INPUT.CLASSIFICATION.RESIZE_TEST": POSITIVE,
    "INPUT.CLASSIFICATION.SIZE_TEST": POSITIVE,
    "INPUT.CLASSIFICATION.BATCH_TEST": POSITIVE,
    "DATASETS.CUSTOM": CUSTOM_DATASETS,
    "DATASETS.TRAIN": DATASETS,
    "DATASETS.TEST": DATASETS,
    "DATALOADER.NUM_WORKERS": NATURAL,
    # Detectron2's other samplers read keys that its configs do not have.
    "DATALOADER.SAMPLER_TRAIN": one_of("TrainingSampler", "RepeatFactorTrainingSampler"),
    "DATALOADER.REPEAT_THRESHOLD": NOT_NEGATIVE,
    "SOLVER.MAX_ITER": POSITIVE,
    "SOLVER.IMS_PER_BATCH": POSITIVE,
    "SOLVER.REFERENCE_WORLD_SIZE": NATURAL,
    "SOLVER.ACCUMULATE": POSITIVE,
    "SOLVER.AMP.PRECISION": one_of("", "float16", "bfloat16"),
    "SOLVER.BASE_LR": ABOVE_ZERO,
    "SOLVER.BASE_LR_BATCH": NATURAL,
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    # WarmupStepWithFixedGammaLR has no value for the end of a training and fails there.
    "SOLVER.LR_SCHEDULER_NAME": one_of("WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolyLR"),
    "SOLVER.STEPS": each(NATURAL),
    "SOLVER.GAMMA": ABOVE_ZERO,
    "SOLVER.POLY_LR_POWER": NOT_NEGATIVE,
    "SOLVER.WARMUP_ITERS": NATURAL,
    "SOLVER.WARMUP_FACTOR": NOT_NEGATIVE,
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.MOMENTUM": number(0, below=1),
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.CHECKPOINT_PERIOD": POSITIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("value", "norm"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ABOVE_ZERO,
    "SOLVER.EMA.DECAY": number(0, below=1),
    "SOLVER.EMA.PERIOD": POSITIVE,
    "TEST.EVAL_PERIOD": NATURAL,
    "TEST.DETECTIONS_PER_IMAGE": POSITIVE,
    "TEST.BEST_CHECKPOINT.MODE": one_of("max", "min"),
    "TEST.EARLY_STOPPING.PATIENCE": NATURAL,
    "TEST.EARLY_STOPPING.MIN_DELTA": NOT_NEGATIVE,
    "TEST.VALIDATION_LOSS.PERIOD": NATURAL,
    "TEST.VALIDATION_LOSS.DATASET": names_in(DatasetCatalog.list, "registered dataset", empty=True),
    "TEST.SEM_SEG.MODE": one_of("whole", "slide"),
    "TEST.SEM_SEG.WINDOW": WINDOW,
    "TEST.SEM_SEG.STRIDE": Range(
        f"{WINDOW.allowed}, and at most TEST.SEM_SEG.WINDOW where MODE is slide", _stride_holds
    ),
    "TEST.SEM_SEG.SCALES": each(ABOVE_ZERO, at_least=1),
    "TEST.SEM_SEG.MAX_BATCH_PIXELS": POSITIVE,
}
