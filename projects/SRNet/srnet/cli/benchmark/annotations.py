"""Measure what checking annotations costs: Detectron2's loader of COCO's format and ours, in turns.

The annotations are drawn into a temporary folder; no dataset is needed. With the number of images
of COCO's train2017, the default, this takes four minutes and 4 GB of memory.

Example:
  srnet benchmark annotations --images 20000
"""

import argparse

from srnet.cli.arguments import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark annotations`."""
    parser.add_argument(
        "--images",
        type=at_least(1),
        default=118287,
        metavar="N",
        help="images in the file (default: 118287, those of train2017)",
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=3, metavar="N", help="rounds of each (default: 3)"
    )


def run(args: argparse.Namespace) -> None:
    """Draw, measure and print."""
    import os
    from tempfile import TemporaryDirectory

    from srnet.analysis.annotations import read_times, to_text, write_annotations

    with TemporaryDirectory(prefix="annotations") as folder:
        path = os.path.join(folder, "instances.json")
        write_annotations(path, args.images)
        print(to_text(read_times(path, args.rounds), args.images), end="")
