r"""Evaluate a model on the datasets that DATASETS.TEST names.

Example:
  srnet eval --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml --num-gpus 8 \
      MODEL.WEIGHTS model_final.pth
"""

import argparse

from .arguments import add_config, add_processes
from .launch import run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet eval`."""
    add_config(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="evaluate the newest checkpoint in OUTPUT_DIR, not MODEL.WEIGHTS",
    )
    add_processes(parser)
    parser.set_defaults(eval_only=True)
