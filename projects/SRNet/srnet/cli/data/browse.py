"""Draw augmented training samples as the model sees them.

They come from the training loader: its order, crops, flips and mixing. OUTPUT_DIR/browse receives
sheets of 8 samples. With SEED set, they are the first samples of a training.

Example:
  srnet data browse --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num 16 SEED 1
"""

import argparse

from srnet.cli.arguments import add_config, add_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet data browse`."""
    add_config(parser)
    add_count(parser, "--num", 16, "samples")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the sheets (default: OUTPUT_DIR/browse)"
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and print where the sheets are."""
    from srnet import get_cfg
    from srnet.visualization.browse import browse

    cfg = get_cfg(args.config_file, args.opts)
    print("\n".join(browse(cfg, num=args.num, output=args.output)))
