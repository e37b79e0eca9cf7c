"""Freezing the first stages of a backbone, as Detectron2's ResNet does."""

from collections.abc import Sequence

from detectron2.layers import FrozenBatchNorm2d
from torch import nn


def freeze_stages(backbone: nn.Module, stages: Sequence[Sequence[str]], freeze_at: int) -> None:
    """Freeze the first stages of a new backbone, in place.

    Their parameters get no gradient, and their batch norms become Detectron2's FrozenBatchNorm2d,
    which keeps its statistics. The names in the state dict stay.

    Args:
        backbone: the network, before context modules are added: those are new, and stay trainable.
        stages: the names of the modules of each stage, the stem first.
        freeze_at: how many stages: 0 for none, 1 for the stem, 2 for the stem and the first stage.

    Raises:
        ValueError: there are not so many stages.
    """
    if not 0 <= freeze_at <= len(stages):
        raise ValueError(
            f"MODEL.BACKBONE.FREEZE_AT={freeze_at} must be 0 to {len(stages)} for a "
            f"{type(backbone).__name__}"
        )
    for names in stages[:freeze_at]:
        for name in names:
            part = backbone.get_submodule(name)
            part.requires_grad_(False)
            setattr(backbone, name, FrozenBatchNorm2d.convert_frozen_batchnorm(part))
