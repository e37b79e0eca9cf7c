r"""Draw Fig. 8: the input and the output of Squeeze Reasoning, as three principal components.

The components are those of both maps of an image together, so a difference of colours is one of
features. Writes pca.png, pca.csv and pca_summary.csv. Without a config the zoo's default model is
taken.

Examples:
  srnet figures pca --input street.jpg --output out
  srnet figures pca --config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml \
      --dataset coco_2017_val --num 4 MODEL.WEIGHTS model_final.pth
"""

import argparse

from .options import add_source, draw


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet figures pca`."""
    add_source(parser, num=4)


def run(args: argparse.Namespace) -> None:
    """Draw, and print where the files are."""
    from srnet.prediction.figures import figure_components

    draw(args, "pca", figure_components)
