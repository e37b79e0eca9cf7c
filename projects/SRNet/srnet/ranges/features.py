"""Which maps a backbone returns, as far as a config tells it without building one."""

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode

from .values import Range

BASIC_DEPTHS = (18, 34)  # of ResNets without bottlenecks
DEEPLAB_RESNETS = ("build_resnet_deeplab_backbone", "build_resnet_deeplab_context_backbone")
RESNETS = ("build_resnet_backbone", "build_resnet_context_backbone", *DEEPLAB_RESNETS)
RESNET_PYRAMIDS = ("build_resnet_fpn_backbone", "build_resnet_context_fpn_backbone")
DFNETS = ("build_dfnet_backbone", "build_dfnet_context_backbone")


def bottom_up_features(cfg: CfgNode) -> list[str] | None:
    """The maps of the network itself, under a pyramid where there is one; None if unknown."""
    name, model = cfg.MODEL.BACKBONE.NAME, cfg.MODEL
    if name == RESNETS[0] and list(model.RESNETS.OUT_FEATURES) == ["res4"]:
        # Detectron2's defaults: nobody has chosen a model, and the config serves mappers and
        # evaluators. Building a model from it says what is wrong.
        return None
    if name in RESNETS or name in RESNET_PYRAMIDS:
        return list(model.RESNETS.OUT_FEATURES)
    if name in DFNETS:
        return list(model.DFNET.OUT_FEATURES)
    if name == "build_wider_resnet_backbone":
        return list(model.WIDER_RESNET.OUT_FEATURES)
    if name == "build_timm_backbone":
        return list(model.TIMM.OUT_FEATURES)
    return None


def backbone_features(cfg: CfgNode) -> list[str] | None:
    """The maps that the heads get; None if unknown."""
    if cfg.MODEL.BACKBONE.NAME not in RESNET_PYRAMIDS:
        return bottom_up_features(cfg)
    levels = [name.replace("res", "p") for name in map(str, cfg.MODEL.FPN.IN_FEATURES)]
    # LastLevelMaxPool adds a level.
    return [*levels, f"p{int(levels[-1][1:]) + 1}"] if levels and levels[-1][1:].isdigit() else None


def is_pyramid(cfg: CfgNode) -> bool:
    """Whether the backbone is one of the pyramids on a ResNet."""
    return cfg.MODEL.BACKBONE.NAME in RESNET_PYRAMIDS


def features_of(
    known: Callable[[CfgNode], list[str] | None],
    applies: Callable[[CfgNode], bool],
    *,
    what: str,
    several: bool = True,
    empty: bool = False,
) -> Range:
    """Maps that something returns, where that is known and the key is used.

    Args:
        known: the maps; None if unknown.
        applies: whether the model uses the key.
        what: what returns them, in words.
        several: the value is a list of one or more names.
        empty: "" is allowed.
    """

    def holds(value: Any, cfg: CfgNode | None) -> bool:
        names = known(cfg) if cfg is not None and applies(cfg) else None
        if names is None or (empty and value == ""):
            return True
        if not several:
            return value in names
        return isinstance(value, list | tuple) and len(value) > 0 and all(x in names for x in value)

    words = f"one or more maps that {what}" if several else f"a map that {what}"
    return Range(f"'' or {words}" if empty else words, holds)
