"""Measure how many images a second one core reads for a classifier, beside torchvision's pipeline.

Both read the same images of the first dataset in DATASETS.TRAIN, in turns, with one thread.

Example:
  srnet benchmark loading --config-file ImageNet-Classification/resnet_50.yaml
"""

import argparse

from srnet.cli.arguments import add_config, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark loading`."""
    add_config(parser)
    parser.add_argument(
        "--images", type=at_least(1), default=200, metavar="N", help="images a round (default: 200)"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=5, metavar="N", help="rounds of each (default: 5)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from srnet import get_cfg
    from srnet.analysis.loading import read_rates, to_text

    cfg = get_cfg(args.config_file, args.opts)
    print(to_text(read_rates(cfg, images=args.images, rounds=args.rounds)), end="")
