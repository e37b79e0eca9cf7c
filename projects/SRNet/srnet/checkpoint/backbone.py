#!/usr/bin/env python3
"""Turn an image classifier into a backbone for the detection and segmentation configs.

    convert_backbone.py output/imagenet_resnet_50_SR/model_final.pth resnet_50_SR.pth
    convert_backbone.py resnet50-torchvision.pth resnet_50.pth

The input is a checkpoint of this project's ImageClassifier, or the weights of a torchvision ResNet
or ResNeXt, or of a timm SE-ResNet. The output has the names of a bare backbone; given as
MODEL.WEIGHTS to any config with that backbone, gates included, nothing but the heads is new.

Gates need MODEL.CONTEXT.GATE (se, cbam or sr_gate) in a config with one of the context backbones,
and a plain stem MODEL.RESNETS.STEM_TYPE basic in the dilated models. All of these classifiers take
RGB images on ImageNet's mean and deviation, and stride in the 3x3 convolution: what a config needs
for that is printed.
"""

import argparse
from collections.abc import Mapping

import torch

from srnet.checkpoint.architecture import check_backbone
from srnet.checkpoint.files import read_file, write_file
from srnet.checkpoint.torchvision_names import has_torchvision_names, to_detectron2_names
from srnet.checkpoint.wrappers import strip_prefixes, unwrap

NEEDED = (
    "MODEL.PIXEL_MEAN '[123.675,116.280,103.530]' MODEL.PIXEL_STD '[58.395,57.120,57.375]' "
    "INPUT.FORMAT RGB"
)


def convert_backbone(source: str, target: str, average: bool = False) -> dict[str, torch.Tensor]:
    """Write the backbone of a classifier; a run that fails leaves the target as it was.

    Args:
        source: as in :func:`read_weights`.
        target: a `.pth` file.
        average: as in :func:`read_weights`.

    Returns:
        The weights that were written.

    Raises:
        CheckpointError, ValueError: as :func:`read_weights`, or the weights are not those of a
            backbone; the message has the first that is not.
        OSError: the target cannot be written.
    """
    backbone = backbone_of(read_weights(source, average))
    try:
        check_backbone(backbone)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    # With this Detectron2's checkpointer finds the backbone inside any model by the ends of names.
    write_file({"model": backbone, "matching_heuristics": True, "__author__": "srnet"}, target)
    return backbone


def read_weights(path: str, average: bool = False) -> dict[str, torch.Tensor]:
    """Read the weights of a classifier with the names that this project's has.

    Args:
        path: a `.pth` file, or any other that a Checkpointer loads.
        average: take the averaged weights (SOLVER.EMA) out of a training's checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, no checkpoint, or holds no weights by name.
        ValueError: it has no classifier's weights, or no averaged ones.
    """
    loaded = unwrap(read_file(path), path)
    weights = {k: torch.as_tensor(v) for k, v in strip_prefixes(loaded["model"]).items()}
    if average:
        try:
            kept = loaded["trainer"]["hooks"]["WeightAverage"]
            weights = {k[len("module.") :]: v for k, v in kept.items() if k.startswith("module.")}
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path} has no averaged weights: it is no checkpoint of a training with "
                "SOLVER.EMA.ENABLED"
            ) from None
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


def main(arguments: list[str] | None = None) -> None:
    """Convert a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="what to convert")
    parser.add_argument("output", help="the backbone, a .pth file")
    parser.add_argument("--average", action="store_true", help="take the averaged weights (EMA)")
    args = parser.parse_args(arguments)
    backbone = convert_backbone(args.checkpoint, args.output, args.average)
    gates = sum(name.endswith(".weight") and ".context." in name for name in backbone)
    print(f"{args.output}: {len(backbone)} tensors, {gates} of them weights of gates")
    print(f"The config needs: {NEEDED}")
    if any(name.startswith("res2.") for name in backbone):
        print("and for ResNets: MODEL.RESNETS.STRIDE_IN_1X1 False")


if __name__ == "__main__":
    main()
