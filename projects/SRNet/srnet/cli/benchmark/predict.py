r"""Measure images a second through `srnet predict`, and through the network alone, in turns.

Without MODEL.WEIGHTS the weights are random; without --input the pictures are drawn. The ratio says
what reading, writing and drawing cost.

Example:
  srnet benchmark predict --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml \
      --size 360x480
"""

import argparse

from srnet.cli.arguments import add_config, add_count, add_device, add_size, choose_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark predict`."""
    add_config(parser)
    parser.add_argument(
        "--input", nargs="+", default=[], metavar="INPUT", help="images or folders of images"
    )
    add_size(parser, default="360x480", help="size of the drawn pictures")
    add_count(parser, "--images", 50, "images a round")
    parser.add_argument(
        "--save",
        nargs="+",
        default=[],
        metavar="FORM",
        help="what is written, as of 'srnet predict' (default: what programs read)",
    )
    add_count(parser, "--batch-size", 1, "batch")
    add_count(parser, "--num-workers", 2, "threads that read, and as many that write")
    add_count(parser, "--rounds", 5, "rounds of each")
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from srnet import get_cfg
    from srnet.prediction.benchmark import time_prediction, to_text

    words = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", choose_device(args), *args.opts]
    rates = time_prediction(
        get_cfg(args.config_file, words),
        inputs=args.input,
        size=args.size,
        images=args.images,
        save=args.save,
        batch_size=args.batch_size,
        workers=args.num_workers,
        rounds=args.rounds,
    )
    print(to_text(rates), end="")
