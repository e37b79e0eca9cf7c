"""Measure what checking annotations costs: Detectron2's loader of COCO's format and ours, in turns.

The annotations are drawn into a temporary folder; no dataset is needed. With the number of images
of COCO's train2017, the default, this takes four minutes and 4 GB of memory. With `--processes` it
also takes 4 GB for each process.

Example:
  srnet benchmark annotations --images 20000 --processes 2
"""

import argparse

from srnet.cli.arguments import add_count, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark annotations`."""
    parser.add_argument(
        "--images",
        type=at_least(1),
        default=118287,
        metavar="N",
        help="images in the file (default: 118287, those of train2017)",
    )
    add_count(parser, "--rounds", 3, "rounds of each")
    parser.add_argument(
        "--processes",
        type=at_least(1),
        default=1,
        metavar="N",
        help="also measure time and memory of N processes that start together, each way "
        "(default: 1, not)",
    )


def run(args: argparse.Namespace) -> None:
    """Draw, measure and print."""
    import os
    from tempfile import TemporaryDirectory

    from srnet.analysis.annotations import (
        process_costs,
        processes_to_text,
        read_times,
        to_text,
        write_annotations,
    )

    with TemporaryDirectory(prefix="annotations") as folder:
        path = os.path.join(folder, "instances.json")
        write_annotations(path, args.images)
        print(to_text(read_times(path, args.rounds), args.images), end="", flush=True)
        if args.processes > 1:
            print(processes_to_text(process_costs(path, args.processes)), end="")
