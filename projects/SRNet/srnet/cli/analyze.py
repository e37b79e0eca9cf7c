r"""Count parameters, multiply-adds and activations of a model, or how two models differ.

The table is Markdown, a row for each part of the model. With --compare, parts that are equal are
left out. GFLOPs are 1e9 multiply-adds. A detector is counted with 1000 boxes and 100 masks. Nothing
is downloaded: the weights are random.

Examples:
  srnet analyze --config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml
  srnet analyze --config-file CamVid-SemanticSegmentation/dfnet_v1.yaml \
      --compare CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --size 720x960
"""

import argparse

from .arguments import add_config, add_output, add_size, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet analyze`."""
    add_config(parser)
    parser.add_argument(
        "--compare", metavar="CONFIG", help="a second model, for the difference to the first"
    )
    add_size(
        parser,
        help="size of the image (default: 800x1200 for detectors, 224x224 for classifiers, else "
        "that of the training crops)",
    )
    add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Count and print."""
    from srnet.analysis.costs import report

    names = [args.config_file, *([args.compare] if args.compare else [])]
    show(report(names, args.opts, args.size), args.output)
