r"""Draw Fig. 6: the most salient channel of each node over the image.

The map is the reasoned one, b * g of Eq. 7, whose P channels the nodes share evenly. Salient is the
channel with the largest root mean square over the image. A node that the reasoning scales to 0 is
off. Writes saliency.png and saliency.csv. Without a config the zoo's default model is taken.

Examples:
  srnet figures saliency --input street.jpg --output out
  srnet figures saliency --config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml \
      --input street.jpg --module backbone.bottom_up.res5.0.context MODEL.WEIGHTS model_final.pth
"""

import argparse

from .options import add_source, draw


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet figures saliency`."""
    add_source(parser, num=2)


def run(args: argparse.Namespace) -> None:
    """Draw, and print where the files are."""
    from srnet.prediction.figures import figure_saliency

    draw(args, "saliency", figure_saliency)
