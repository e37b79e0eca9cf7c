"""Pixel mean, std and colour order of a timm network: from timm's own data config."""

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from detectron2.config import CfgNode

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

NAME = "MODEL.TIMM.NAME"
MEAN, STD, FORMAT = "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT"


def follow_timm(cfg: CfgNode, given: Iterable[Iterable[str]]) -> None:
    """Set mean, std and colour order of a timm backbone, as far as the config leaves them open.

    What is set with the name of the network or after it, in the same file, in one that builds on
    it or on the command line, stays. What an earlier file set was for another network. A line in
    the log says which values hold.

    Args:
        cfg: the config, changed in place where `MODEL.BACKBONE.NAME` is one of timm's. Where timm
            is missing or does not know the network, it stays as it is: building the model says so.
        given: the keys that each file and the command line set, in the order of merging.
    """
    if "_timm_" not in cfg.MODEL.BACKBONE.NAME or find_spec("timm") is None:
        return
    steps = [set(keys) for keys in given]
    first = max((i for i, keys in enumerate(steps) if NAME in keys), default=0)
    kept = set().union(*steps[first:]) & {MEAN, STD, FORMAT}
    theirs = _pretrained_cfg(cfg.MODEL.TIMM.NAME)
    if theirs is None or cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        return
    if FORMAT not in kept:
        cfg.INPUT.FORMAT = "RGB"
    order = 1 if cfg.INPUT.FORMAT == "RGB" else -1
    if MEAN not in kept:
        cfg.MODEL.PIXEL_MEAN = [round(255 * value, 3) for value in theirs.mean][::order]
    if STD not in kept:
        cfg.MODEL.PIXEL_STD = [round(255 * value, 3) for value in theirs.std][::order]
    sources = (
        f"{key} {value} {'of the config' if key in kept else 'of timm'}"
        for key, value in (
            (MEAN, cfg.MODEL.PIXEL_MEAN),
            (STD, cfg.MODEL.PIXEL_STD),
            (FORMAT, cfg.INPUT.FORMAT),
        )
    )
    logging.getLogger(__name__).info("%s: %s", cfg.MODEL.TIMM.NAME, ", ".join(sources))


def _pretrained_cfg(name: str) -> "PretrainedCfg | None":
    """What timm says of the images of a network; None where it does not know it."""
    import timm

    return timm.get_pretrained_cfg(name) if timm.is_model(name) else None
