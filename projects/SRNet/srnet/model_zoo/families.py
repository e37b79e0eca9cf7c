"""The keys that a family of models does not read: one table, and the check of configs against it.

A model is named by its meta-architecture, its backbone and its head. Each of them reads some keys
of a config. A key that none of them reads, set to another value than its default, would be ignored
without a word, so it is an error. These are no errors:

* Nodes of another backbone, as `MODEL.DFNET` beside a ResNet, and options of another module than
  `MODEL.CONTEXT.NAME` names: they are there to be chosen from by one word.
* Options of what is not switched on, as `SOLVER.EMA.DECAY`: there a warning says what switches
  it on.
* What the table says nothing of: components of the user's own.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import detectron2.config
from detectron2.config import CfgNode

from srnet.config import add_srnet_config
from srnet.ranges.features import BASIC_DEPTHS, DEEPLAB_RESNETS

from .merging import merge_content
from .names import CONFIGS
from .yaml_files import read_with_bases

META, BACKBONE, HEAD = "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.SEM_SEG_HEAD.NAME"
RCNNS = ("GeneralizedRCNN", "PanopticFPN")
CASCADES = ("CascadeROIHeads", "GlobalBatchCascadeROIHeads")
WITH_HEAD = ("SRSemanticSegmentor", "SemanticSegmentor", "PanopticFPN")

# Detectron2's backbones, with those of this project that take context modules.
PLAIN = {
    "build_resnet_backbone": "build_resnet_context_backbone",
    "build_resnet_fpn_backbone": "build_resnet_context_fpn_backbone",
    "build_resnet_deeplab_backbone": "build_resnet_deeplab_context_backbone",
}
# Backbones without a place for context modules, with those that have one.
WITH_CONTEXT = {**PLAIN, "build_dfnet_backbone": "build_dfnet_context_backbone"}
NOT_RESNETS = (
    "build_dfnet_backbone",
    "build_dfnet_context_backbone",
    "build_wider_resnet_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
)
RESNETS = (*PLAIN, *PLAIN.values())
# Heads with a place for MODEL.CONTEXT, and whether inference folds the module there.
CONTEXT_HEADS = {"FCNHead": True, "DFSegHead": True, "SRDeepLabV3PlusHead": False}

REMOVE = "remove it"


def _keys(advice: str, *keys: str) -> dict[str, str]:
    return dict.fromkeys(keys, advice)


_INSTANCES = _keys(
    "instances are the task of GeneralizedRCNN and PanopticFPN",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.MASK_ON",
    "MODEL.KEYPOINT_ON",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.ANCHOR_GENERATOR",
    "MODEL.RPN",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.ROI_KEYPOINT_HEAD",
    "INPUT.MASK_FORMAT",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "DATASETS.PROPOSAL_FILES_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "DATALOADER.SAMPLER_TRAIN",
    "DATALOADER.REPEAT_THRESHOLD",
    "DATALOADER.REPEAT_SQRT",
    "TEST.DETECTIONS_PER_IMAGE",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "VIS_PERIOD",
)
_RETINANET = _keys("it is for the meta-architecture RetinaNet", "MODEL.RETINANET")
_PANOPTIC = _keys("it is for the meta-architecture PanopticFPN", "MODEL.PANOPTIC_FPN")
_SEMANTIC_HEAD = _keys(
    "a semantic head is part of SRSemanticSegmentor and PanopticFPN", "MODEL.SEM_SEG_HEAD"
)
_SEMANTIC_RESULT = _keys(
    "SRSemanticSegmentor, SemanticSegmentor and PanopticFPN predict a class for each pixel",
    "TEST.SEM_SEG_PREDICTIONS",
)
_SEMANTIC_TEST = _keys("it is for the meta-architecture SRSemanticSegmentor", "TEST.SEM_SEG")
_CLASSIFIER = _keys(
    "it is for the meta-architecture ImageClassifier",
    "MODEL.CLASSIFIER",
    "INPUT.CLASSIFICATION",
    "DATASETS.IMAGE_FOLDER_TRAIN",
    "DATASETS.IMAGE_FOLDER_TEST",
)
_SEMANTIC_CROP = _keys(
    "crops of detectors are those of Detectron2, with ENABLED, TYPE and SIZE alone",
    "INPUT.CROP.PAD",
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",
)
_DETECTRON2_AUG = _keys(
    "evaluate with Detectron2's own train_net.py, which has this test-time augmentation",
    "TEST.AUG",
)
_DEEPLAB_HEAD = _keys(
    "DeepLab's heads have it",
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS",
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS",
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS",
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT",
    "MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV",
)
_PROJECT_FEATURES = _keys(
    "MODEL.SEM_SEG_HEAD.IN_FEATURES names the features", "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES"
)
_COMMON_STRIDE = _keys(
    "logits have the stride of the finest feature and are resized to the image",
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE",
)
_FCN_HEAD = _keys(
    "FCNHead has an auxiliary head and dropout",
    "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE",
    "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT",
    "MODEL.SEM_SEG_HEAD.DROPOUT",
)
_OHEM = _keys(
    "this project's heads have it",
    "MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD",
    "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT",
)
_LOSS_TYPE = _keys("its loss is the cross entropy", "MODEL.SEM_SEG_HEAD.LOSS_TYPE")
_BLOCKS = ("MODEL.CONTEXT.BLOCKS", "MODEL.CONTEXT.POSITION", "MODEL.CONTEXT.GATE")
_DILATED = ("MODEL.RESNETS.RES4_DILATION", "MODEL.RESNETS.RES5_MULTI_GRID")


def _semantic(aug: dict[str, str]) -> dict[str, str]:
    return {**_INSTANCES, **_RETINANET, **_PANOPTIC, **_CLASSIFIER, **aug}


def _backbone(name: str) -> dict[str, str]:
    """The keys that a backbone of this project or one of Detectron2's ResNets does not read."""
    keys: dict[str, str] = {}
    if name in WITH_CONTEXT:
        keys |= _keys(f"choose {WITH_CONTEXT[name]}", "MODEL.CONTEXT.STAGES", *_BLOCKS)
    elif name == "build_wider_resnet_backbone":
        advice = "it takes no context modules; NAME without STAGES is that of the head"
        keys |= _keys(advice, "MODEL.CONTEXT.STAGES", *_BLOCKS)
    elif "timm" in name:
        keys |= _keys("modules stand at the end of the stages that STAGES names", *_BLOCKS)
    if "fpn" not in name:
        keys |= _keys("choose a backbone with an FPN", "MODEL.FPN")
    if name in NOT_RESNETS:
        keys |= _keys("it is for ResNets", "MODEL.RESNETS")
    elif name not in DEEPLAB_RESNETS:
        keys |= _keys(f"choose {' or '.join(DEEPLAB_RESNETS)}", *_DILATED)
    return keys


# Key that names a component -> component -> key or group of keys that it ignores -> what to do.
IGNORED: dict[str, dict[str, dict[str, str]]] = {
    META: {
        "SRSemanticSegmentor": _semantic(
            _keys("TEST.SEM_SEG.SCALES and TEST.SEM_SEG.FLIP do that", "TEST.AUG")
        ),
        "SemanticSegmentor": {
            **_semantic(_keys("SRSemanticSegmentor has TEST.SEM_SEG for that", "TEST.AUG")),
            **_SEMANTIC_TEST,
        },
        "GeneralizedRCNN": {
            **_RETINANET,
            **_PANOPTIC,
            **_SEMANTIC_TEST,
            **_SEMANTIC_RESULT,
            **_CLASSIFIER,
            **_SEMANTIC_CROP,
            **_DETECTRON2_AUG,
        },
        "PanopticFPN": {
            **_RETINANET,
            **_SEMANTIC_TEST,
            **_CLASSIFIER,
            **_SEMANTIC_CROP,
            **_keys("Detectron2 has no test-time augmentation for it", "TEST.AUG"),
        },
        "ImageClassifier": {
            **_INSTANCES,
            **_RETINANET,
            **_PANOPTIC,
            **_SEMANTIC_HEAD,
            **_SEMANTIC_TEST,
            **_SEMANTIC_RESULT,
            **_keys("there is no test-time augmentation for it", "TEST.AUG"),
            **_keys(
                "crops and sizes are those of INPUT.CLASSIFICATION",
                "INPUT.CROP",
                "INPUT.MIN_SIZE_TRAIN",
                "INPUT.MIN_SIZE_TRAIN_SAMPLING",
                "INPUT.MAX_SIZE_TRAIN",
                "INPUT.MIN_SIZE_TEST",
                "INPUT.MAX_SIZE_TEST",
            ),
            **_keys("nothing stands behind the module to fold it into", "MODEL.CONTEXT.FOLD"),
        },
    },
    BACKBONE: {name: _backbone(name) for name in (*RESNETS, *NOT_RESNETS)},
    HEAD: {
        "FCNHead": {**_DEEPLAB_HEAD, **_PROJECT_FEATURES, **_COMMON_STRIDE},
        "DFSegHead": {**_DEEPLAB_HEAD, **_PROJECT_FEATURES, **_COMMON_STRIDE, **_FCN_HEAD},
        "GlobalBatchSemSegFPNHead": {**_DEEPLAB_HEAD, **_PROJECT_FEATURES, **_FCN_HEAD},
        "SRDeepLabV3PlusHead": {**_PROJECT_FEATURES, **_COMMON_STRIDE, **_FCN_HEAD},
        "SemSegFPNHead": {
            **_DEEPLAB_HEAD,
            **_PROJECT_FEATURES,
            **_FCN_HEAD,
            **_OHEM,
            **_LOSS_TYPE,
        },
        "DeepLabV3PlusHead": {**_PROJECT_FEATURES, **_FCN_HEAD, **_OHEM},
        "DeepLabV3Head": {
            **_PROJECT_FEATURES,
            **_FCN_HEAD,
            **_OHEM,
            **_keys("DeepLabV3PlusHead has it", "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS"),
        },
    },
}
# Values beside the default that say the truth of a family that does not read the key.
HARMLESS: dict[str, tuple] = {
    # Detectron2's DefaultPredictor reads it, and is to leave the resizing to ImageClassifier.
    "INPUT.MIN_SIZE_TEST": (0,),
}


def _is(value: Any) -> Callable[[Any], bool]:
    return lambda found: found == value


# Options, the key that switches them on, and which of its values do.
SWITCHES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (("INPUT.CROP.TYPE", "INPUT.CROP.SIZE"), "INPUT.CROP.ENABLED", bool),
    (("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",), "INPUT.CROP.ENABLED", bool),
    (("SOLVER.AMP.PRECISION",), "SOLVER.AMP.ENABLED", bool),
    (("SOLVER.EMA.DECAY", "SOLVER.EMA.PERIOD"), "SOLVER.EMA.ENABLED", bool),
    (("SOLVER.CLIP_GRADIENTS",), "SOLVER.CLIP_GRADIENTS.ENABLED", bool),
    (("TEST.BEST_CHECKPOINT.MODE",), "TEST.BEST_CHECKPOINT.METRIC", bool),
    (("TEST.EARLY_STOPPING.MIN_DELTA",), "TEST.EARLY_STOPPING.PATIENCE", bool),
    (("TEST.PRECISE_BN.NUM_ITER",), "TEST.PRECISE_BN.ENABLED", bool),
    (("TEST.VALIDATION_LOSS.DATASET",), "TEST.VALIDATION_LOSS.PERIOD", bool),
    (("WANDB.PROJECT", "WANDB.NAME"), "WANDB.ENABLED", bool),
    (
        ("MODEL.SEM_SEG_HEAD.OHEM_THRESHOLD", "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT"),
        "MODEL.SEM_SEG_HEAD.LOSS_TYPE",
        _is("ohem"),
    ),
    (("MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT",), "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE", bool),
    (("TEST.SEM_SEG.WINDOW", "TEST.SEM_SEG.STRIDE"), "TEST.SEM_SEG.MODE", _is("slide")),
    (
        ("DATALOADER.REPEAT_THRESHOLD", "DATALOADER.REPEAT_SQRT"),
        "DATALOADER.SAMPLER_TRAIN",
        _is("RepeatFactorTrainingSampler"),
    ),
    (
        ("DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
        "MODEL.LOAD_PROPOSALS",
        bool,
    ),
    (
        ("MODEL.ROI_KEYPOINT_HEAD", "TEST.KEYPOINT_OKS_SIGMAS"),
        "MODEL.KEYPOINT_ON",
        bool,
    ),
    (("MODEL.ROI_BOX_CASCADE_HEAD",), "MODEL.ROI_HEADS.NAME", lambda name: name in CASCADES),
    (("MODEL.CONTEXT.BLOCKS",), "MODEL.CONTEXT.STAGES", bool),
    # Panoptic FPN and Mask R-CNN are one word apart.
    (("MODEL.SEM_SEG_HEAD",), META, lambda name: name != "GeneralizedRCNN"),
    (("SOLVER.STEPS",), "SOLVER.LR_SCHEDULER_NAME", _is("WarmupMultiStepLR")),
    (("SOLVER.BASE_LR_END",), "SOLVER.LR_SCHEDULER_NAME", _is("WarmupCosineLR")),
    (("SOLVER.NUM_DECAYS",), "SOLVER.LR_SCHEDULER_NAME", _is("WarmupStepWithFixedGammaLR")),
    (
        ("SOLVER.POLY_LR_POWER", "SOLVER.POLY_LR_CONSTANT_ENDING"),
        "SOLVER.LR_SCHEDULER_NAME",
        _is("WarmupPolyLR"),
    ),
)


def check_families(cfg: CfgNode, path: Path | None = None) -> None:
    """Refuse keys that the model of a config would ignore; warn of options that wait for a switch.

    Args:
        cfg: the config.
        path: its file. What the files of the model zoo say of the network that another backbone
            took the place of is no error.

    Raises:
        ValueError: a line for each key, with its value, the family, and what to do.
    """
    changed = _changed(cfg)
    shipped = _shipped(path)
    found: dict[str, str] = {}
    for key, who, advice in (*_from_table(cfg, changed), *_combinations(cfg)):
        if key in changed and not _is_noise(cfg, key, changed[key], shipped):
            found.setdefault(key, f"{key} is {changed[key]!r}, and {who} ignores it: {advice}")
    if found:
        raise ValueError("\n".join(found.values()))
    for key, switch in _waiting(cfg, changed):
        logging.getLogger(__name__).warning(
            "%s is %r and has no effect while %s is %r",
            key,
            changed[key],
            switch,
            _get(cfg, switch),
        )


def _from_table(cfg: CfgNode, changed: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each changed key that the table has for the components of a config."""
    for name_key, components in IGNORED.items():
        if name_key == HEAD and cfg.MODEL.META_ARCHITECTURE not in WITH_HEAD:
            continue
        component = _get(cfg, name_key)
        for group, advice in components.get(component, {}).items():
            for key in changed:
                if _in_group(key, group):
                    yield key, f"{name_key} {component}", advice


def _combinations(cfg: CfgNode) -> Iterator[tuple[str, str, str]]:
    """Yield the keys that no component of a config reads, where that depends on several keys."""
    model = cfg.MODEL
    meta, backbone, context = model.META_ARCHITECTURE, model.BACKBONE.NAME, model.CONTEXT
    if meta not in IGNORED[META] or backbone not in IGNORED[BACKBONE]:
        return
    both = f"a {meta} on {backbone}"
    head = model.SEM_SEG_HEAD.NAME if meta in WITH_HEAD else ""
    known_head = not head or head in IGNORED[HEAD]
    inserts = "MODEL.CONTEXT.STAGES" not in IGNORED[BACKBONE][backbone]
    # Backbones but timm's refuse NAME without STAGES themselves, unless there is a GATE.
    reads_name = inserts and (context.STAGES or not ("timm" in backbone or context.GATE))
    if known_head and head not in CONTEXT_HEADS and not reads_name:
        advice = "name stages in MODEL.CONTEXT.STAGES"
        if not inserts:
            advice = f"choose {WITH_CONTEXT.get(backbone, 'a backbone with context modules')}"
        yield "MODEL.CONTEXT.NAME", both, advice
    if (
        known_head
        and not CONTEXT_HEADS.get(head)
        and backbone != PLAIN["build_resnet_fpn_backbone"]
    ):
        yield "MODEL.CONTEXT.FOLD", both, "nothing there folds a module"
    if backbone in PLAIN and meta in (*RCNNS, "SemanticSegmentor"):
        yield "MODEL.CHANNELS_LAST", both, f"choose {PLAIN[backbone]}"
    if meta in RCNNS and model.PROPOSAL_GENERATOR.NAME != "PrecomputedProposals":
        advice = "set it to PrecomputedProposals"
        name = f"MODEL.PROPOSAL_GENERATOR.NAME {model.PROPOSAL_GENERATOR.NAME}"
        yield "MODEL.LOAD_PROPOSALS", name, advice
    if backbone in RESNETS and model.RESNETS.DEPTH in BASIC_DEPTHS:
        yield "MODEL.RESNETS.WIDTH_PER_GROUP", "a ResNet of basic blocks", REMOVE
    if known_head and not _has_batch_norm(cfg):
        yield (
            "TEST.PRECISE_BN.ENABLED",
            "a model without trained batch norms",
            "choose another NORM",
        )


def _has_batch_norm(cfg: CfgNode) -> bool:
    """Whether a part of a model of the table has a batch norm that is not frozen."""
    model = cfg.MODEL
    backbone, meta = model.BACKBONE.NAME, model.META_ARCHITECTURE
    norms = []
    if "timm" in backbone or model.CONTEXT.NAME or model.CONTEXT.GATE:
        return True  # the norms of the network or of a module, as far as is known here
    for part, node in (("dfnet", "DFNET"), ("wider", "WIDER_RESNET"), ("fpn", "FPN")):
        if part in backbone:
            norms.append(model[node].NORM)
    if backbone in RESNETS:
        norms.append(model.RESNETS.NORM)
    if meta in RCNNS:
        norms += [model.ROI_BOX_HEAD.NORM, model.ROI_MASK_HEAD.NORM]
    if meta in WITH_HEAD:
        norms.append(model.SEM_SEG_HEAD.NORM)
    return any(norm in ("BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N") for norm in norms)


def _is_noise(cfg: CfgNode, key: str, value: Any, shipped: dict[str, Any]) -> bool:
    """Whether an ignored key misleads nobody."""
    if value in HARMLESS.get(key, ()):
        return True
    model = cfg.MODEL
    has_res5 = model.META_ARCHITECTURE in RCNNS and model.ROI_HEADS.NAME == "Res5ROIHeads"
    if has_res5 and _in_group(key, "MODEL.RESNETS"):
        return True  # these heads have a stage of a ResNet, whatever the backbone is
    if shipped.get(key) != value:
        return False
    if _in_group(key, "MODEL.CONTEXT"):  # of a baseline: the places for the module of its twin
        return not (model.CONTEXT.NAME or model.CONTEXT.GATE)
    return _in_group(key, "MODEL.RESNETS") or key in _COMMON_STRIDE


def _waiting(cfg: CfgNode, changed: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the changed options of what is switched off, with the key that switches it on."""
    for groups, switch, is_on in SWITCHES:
        if not is_on(_get(cfg, switch)):
            for key in changed:
                if any(_in_group(key, group) for group in groups):
                    yield key, switch


def _in_group(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def _get(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a config with their values, tuples as lists: YAML has no tuples."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _as_lists(value)


def _as_lists(value: Any) -> Any:
    return [_as_lists(x) for x in value] if isinstance(value, tuple | list) else value


def _defaults() -> CfgNode:
    cfg = detectron2.config.get_cfg()
    add_srnet_config(cfg)
    return cfg


def _changed(cfg: CfgNode) -> dict[str, Any]:
    """The keys whose values are not the defaults, with these values."""
    defaults = dict(_leaves(_defaults()))
    return {key: value for key, value in _leaves(cfg) if value != defaults.get(key, value)}


def _shipped(path: Path | None) -> dict[str, Any]:
    """The keys that files of the model zoo set on the way to a config, or copies of these files."""
    cfg = _defaults()
    for file, content in read_with_bases(path) if path is not None else ():
        names = file.name, f"{file.parent.name}/{file.name}"
        if any((CONFIGS / name).is_file() for name in names):
            merge_content(cfg, content, str(file))
    return _changed(cfg)
