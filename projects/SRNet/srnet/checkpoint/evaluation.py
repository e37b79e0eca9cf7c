"""Weights for an evaluation: all of the model's, or an error."""

from detectron2.config import CfgNode
from torch import nn

from .checkpointer import Checkpointer


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
