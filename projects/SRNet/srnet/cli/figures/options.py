"""The options that the figures of a trained model share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from srnet.cli.arguments import add_config, add_device, at_least, choose_device

if TYPE_CHECKING:
    from srnet.prediction.figures import Source


def add_source(parser: argparse.ArgumentParser, *, num: int | None) -> None:
    """Add what chooses the model, its module and the images.

    Args:
        parser: that of the subcommand.
        num: images by default; None for all.
    """
    add_config(parser, required=False)
    parser.add_argument(
        "--input", nargs="+", default=[], metavar="INPUT", help="images, folders or patterns"
    )
    parser.add_argument(
        "--labels",
        default="",
        metavar="DIR",
        help="folder with the labels of --input, NAME.png each (default: INPUTannot, if it is "
        "there)",
    )
    parser.add_argument(
        "--dataset",
        default="",
        metavar="NAME",
        help="a registered dataset instead of --input (default: the first in DATASETS.TEST)",
    )
    parser.add_argument(
        "--num",
        type=at_least(1),
        default=num,
        metavar="N",
        help=f"images, spread evenly (default: {num or 'all'})",
    )
    parser.add_argument(
        "--module",
        default="",
        metavar="NAME",
        help="the Squeeze Reasoning module, as in backbone.bottom_up.res5.0.context (default: "
        "the last one of the model)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the picture and the numbers (default: OUTPUT_DIR/figures)",
    )
    add_device(parser)


def draw(
    args: argparse.Namespace, name: str, figure: "Callable[[Source, Path], list[str]]"
) -> None:
    """Load the model, draw a figure, and print what it shows and where it is."""
    from srnet.prediction.figures import Source
    from srnet.prediction.predictor import read_config

    device = choose_device(args)
    cfg = read_config(args.config_file, opts=args.opts, device=device)
    output = args.output or Path(cfg.OUTPUT_DIR) / "figures"
    source = Source(
        cfg,
        inputs=args.input,
        labels=args.labels,
        dataset=args.dataset,
        num=args.num,
        module=args.module,
    )
    lines = figure(source, output)
    print("\n".join([f"{len(source.records)} images; {source.where}", *lines]))
    print(f"{output / name}.png and {output / name}.csv")
