"""Compare the IoU of each class in two evaluations, as Tables I and VI do.

FIRST and SECOND are the output folders of two runs, or the DATASET_iou.json that an evaluation
leaves in their inference/.

Example:
  srnet compare output/cityscapes_fcn_R_50 output/cityscapes_srnet_R_50
"""

import argparse
from pathlib import Path

from .arguments import add_output, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet compare`."""
    parser.add_argument("first", type=Path, metavar="FIRST", help="a folder or a file")
    parser.add_argument("second", type=Path, metavar="SECOND", help="a folder or a file")
    parser.add_argument(
        "--dataset", metavar="NAME", help="needed where a folder has results of several datasets"
    )
    add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from srnet.evaluation.compare import compare, read

    first, second = (read(path, args.dataset) for path in (args.first, args.second))
    show(compare(first, second), args.output)
