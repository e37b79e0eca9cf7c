r"""Draw what one or more models predict beside the image and its truth.

Draws N images spread evenly over a dataset, or the given files (image and prediction): one PNG for
each, and sheet.png with all of them. 'srnet predict' draws pictures without sheets.

Examples:
  srnet visualize --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num 6 \
      MODEL.WEIGHTS model_final.pth
  srnet visualize --config-file my.yaml --compare without_SR.yaml without_SR.pth \
      MODEL.WEIGHTS model_final.pth
"""

import argparse

from .arguments import add_config, add_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet visualize`."""
    add_config(parser)
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("CONFIG", "WEIGHTS"),
        help="draw another model beside the first; may be repeated. The other KEY VALUE pairs "
        "count for all models",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        default="",
        help="a registered dataset (default: the first in DATASETS.TEST)",
    )
    add_count(parser, "--num", 8, "images of the dataset")
    parser.add_argument(
        "--input", nargs="+", default=[], metavar="IMAGE", help="draw these files, without truth"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the pictures (default: OUTPUT_DIR/visualize)"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="SCORE",
        help="draw instances from this score on (default: 0.5)",
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and print where the pictures are."""
    import os

    from detectron2.utils.logger import setup_logger

    from srnet import get_cfg
    from srnet.prediction.visualize import titles_of, visualize

    setup_logger(name="srnet")
    cfg = get_cfg(args.config_file, args.opts)
    cfgs = {"prediction": cfg}
    if args.compare:
        names = [args.config_file, *(config for config, _ in args.compare)]
        others = [get_cfg(c, [*args.opts, "MODEL.WEIGHTS", w]) for c, w in args.compare]
        titles = titles_of(names, [c.MODEL.WEIGHTS for c in (cfg, *others)])
        cfgs = dict(zip(titles, (cfg, *others), strict=True))
    written = visualize(
        cfgs,
        dataset=args.dataset,
        num=args.num,
        images=args.input,
        output=args.output,
        min_score=args.min_score,
    )
    print(f"{len(written) - 1} images in {os.path.dirname(written[-1])}; all in {written[-1]}")
