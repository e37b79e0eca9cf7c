"""Measure the augmentation of a training sample, and Detectron2's resize of whole images, in turns.

The image is drawn; no dataset is needed. Decoding is not part of it. The bytes are those that a
worker sends for a sample.

Example:
  srnet benchmark samples --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml
"""

import argparse

from srnet.cli.arguments import add_config, add_count, add_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark samples`."""
    add_config(parser)
    add_size(parser, default="1024x2048", help="size of the image")
    add_count(parser, "--images", 20, "a round")
    add_count(parser, "--rounds", 5, "rounds of each")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from srnet import get_cfg
    from srnet.analysis.samples import sample_costs, to_text

    cfg = get_cfg(args.config_file, args.opts)
    print(to_text(sample_costs(cfg, args.size, images=args.images, rounds=args.rounds)), end="")
