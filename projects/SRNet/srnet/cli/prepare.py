"""Prepare a dataset: from its official release to the layout that datasets/README.md describes."""

import importlib

from .arguments import Command

COMMANDS = {
    "ade20k": "ADE20K with 150 classes",
    "camvid": "CamVid with 11 classes",
    "camvid-coco": "CamVid's instances and panoptic truth, derived from its labels",
    "cityscapes": "The training labels of Cityscapes",
    "pascal-context": "Pascal Context with 59 classes",
    "scenes": "Drawn street scenes; nothing is downloaded",
}


def find(name: str) -> Command:
    """The subcommand of a name in `COMMANDS`."""
    module = importlib.import_module(f"srnet.data.prepare.{name.replace('-', '_')}")
    return Command(module.__doc__ or "", module.add_arguments, module.prepare)
