r"""Draw Fig. 1(a): which channels respond to which class, before and after Squeeze Reasoning.

Counted are the pixels of each class whose activation, scaled to 0 and 1 in each channel of each
image, exceeds 0.8. The maps are the input and the output of the SR module (--module). Writes
channels.png, channels.csv and channels_summary.csv. Without a config the zoo's default model is
taken.

Examples:
  srnet figures channels --input camvid/test --output out
  srnet figures channels --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml \
      --dataset cityscapes_fine_sem_seg_val --classes road car train MODEL.WEIGHTS model_final.pth
"""

import argparse
from functools import partial

from .options import add_source, draw


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet figures channels`."""
    add_source(parser, num=None)
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes to draw over the channels (default: the three with the most pixels)",
    )


def run(args: argparse.Namespace) -> None:
    """Count, draw, and print where the files are."""
    from srnet.prediction.figures import figure_channels

    draw(args, "channels", partial(figure_channels, classes=args.classes))
