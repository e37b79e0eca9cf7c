"""Measure how many images a second one core reads for a classifier, beside torchvision's pipeline.

Both read the same images of the first dataset in DATASETS.TRAIN, in turns, with one thread.

Example:
  srnet benchmark loading --config-file ImageNet-Classification/resnet_50.yaml
"""

import argparse

from srnet.cli.arguments import add_config, add_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark loading`."""
    add_config(parser)
    add_count(parser, "--images", 200, "images a round")
    add_count(parser, "--rounds", 5, "rounds of each")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from srnet import get_cfg
    from srnet.analysis.loading import read_rates, to_text

    cfg = get_cfg(args.config_file, args.opts)
    print(to_text(read_rates(cfg, images=args.images, rounds=args.rounds)), end="")
