"""From an image classifier to a backbone for the detection and segmentation configs."""

import os
from collections.abc import Mapping

import torch

from .architecture import check_backbone, check_values
from .files import read_file, write_weights
from .torchvision_names import has_torchvision_names, to_detectron2_names
from .wrappers import strip_prefixes, unwrap

NEEDED = (
    "MODEL.PIXEL_MEAN '[123.675,116.280,103.530]' MODEL.PIXEL_STD '[58.395,57.120,57.375]' "
    "INPUT.FORMAT RGB"
)


def read_weights(path: str | os.PathLike, average: bool = False) -> dict[str, torch.Tensor]:
    """Read the weights of a classifier with the names that this project's has.

    Args:
        path: a `.pth` file.
        average: take the averaged weights (SOLVER.EMA) out of a training's checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, no checkpoint, or holds no weights by name.
        ValueError: it has no classifier's weights, or no averaged ones.
    """
    loaded = unwrap(read_file(path), path)
    weights = {k: torch.as_tensor(v) for k, v in strip_prefixes(loaded["model"]).items()}
    if average:
        try:
            kept = dict(loaded["trainer"]["hooks"]["WeightAverage"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path} has no averaged weights: it is no checkpoint of a training with "
                "SOLVER.EMA.ENABLED"
            ) from None
        weights = {k.removeprefix("module."): v for k, v in kept.items() if k.startswith("module.")}
    if has_torchvision_names(weights):
        renamed = to_detectron2_names(weights)
        return {k if k.startswith("linear.") else f"backbone.{k}": v for k, v in renamed.items()}
    if not any(name.startswith("backbone.") for name in weights):
        raise ValueError(
            f"{path} has neither the names of this project's classifiers nor torchvision's: its "
            f"first is {next(iter(weights), 'missing')}"
        )
    return dict(weights)


def backbone_of(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the backbone without its prefix and without counters of batches."""
    return {
        name.removeprefix("backbone."): value
        for name, value in weights.items()
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    }


def convert_backbone(
    source: str | os.PathLike, target: str | os.PathLike, *, average: bool = False
) -> dict[str, torch.Tensor]:
    """Convert a file; a run that fails leaves the target as it was.

    Args:
        source: a checkpoint of a classifier, as :func:`read_weights` takes it.
        target: the file to write.
        average: take the averaged weights.

    Returns:
        The weights written.

    Raises:
        CheckpointError: as :func:`read_weights`.
        ValueError: as :func:`read_weights`, or they are not all those of a backbone, and nothing
            else; the message has the first that is not.
        OSError: the target cannot be written.
    """
    backbone = backbone_of(read_weights(source, average))
    try:
        check_backbone(backbone)
        check_values(backbone)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    write_weights(target, backbone, __author__="srnet")
    return backbone


def describe(backbone: Mapping[str, torch.Tensor]) -> str:
    """Say what a backbone holds and which config keys it needs."""
    gates = sum(name.endswith(".weight") and ".context." in name for name in backbone)
    text = f"{len(backbone)} tensors, {gates} of them weights of gates\n"
    text += f"The config needs: {NEEDED}\n"
    if any(name.startswith("res2.") for name in backbone):
        text += "and for ResNets: MODEL.RESNETS.STRIDE_IN_1X1 False\n"
    return text
