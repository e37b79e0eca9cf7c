"""Weights for an evaluation: all of the model's, or an error."""

import os

from detectron2.config import CfgNode
from torch import nn

from srnet.modeling import build_model

from .checkpointer import Checkpointer
from .places import find_place


def load_trained_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config with its weights, in eval mode.

    Without `MODEL.WEIGHTS_STRICT` the weights may be empty: they are random then.

    Raises:
        FileNotFoundError: `MODEL.WEIGHTS` is empty or no file.
        RuntimeError: they are not the model's.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights and cfg.MODEL.WEIGHTS_STRICT:
        raise FileNotFoundError("no weights: end the command with MODEL.WEIGHTS and a checkpoint")
    path = find_place(weights).path if weights else ""
    if weights and "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"the checkpoint MODEL.WEIGHTS={weights} is missing")
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    return model.eval()


def load_for_evaluation(cfg: CfgNode, model: nn.Module, *, resume: bool = False) -> None:
    """Load `MODEL.WEIGHTS` into a model that is to be evaluated, not trained.

    With `MODEL.WEIGHTS_STRICT` they must be the whole model's: see `strict` of
    :class:`.Checkpointer`.

    Args:
        cfg: the config of the model.
        model: the model.
        resume: take the last checkpoint of `OUTPUT_DIR`, where there is one.

    Raises:
        RuntimeError: `MODEL.WEIGHTS` is empty, cannot be loaded, or does not fit the model.
    """
    strict = cfg.MODEL.WEIGHTS_STRICT
    checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, strict=strict)
    if strict and not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise RuntimeError(
            "MODEL.WEIGHTS is empty, and random weights would be evaluated: end the command with "
            "MODEL.WEIGHTS and a checkpoint, or with MODEL.WEIGHTS_STRICT False"
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
