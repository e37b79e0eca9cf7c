r"""Draw the curves of one or several trainings in one figure.

They are read from metrics.json, also while a training runs. A validation loss is a dashed curve
beside the training's. Without --metric the loss and the usual metrics are drawn.

Examples:
  srnet plot output/camvid_dfnet_v1 output/camvid_dfnet_v1_SR --smooth 0.8
  srnet plot output/mine --metric total_loss lr sem_seg/mIoU --log --output mine.pdf mine.csv
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet plot`."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="the OUTPUT_DIR of a training, or a metrics.json",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names as in metrics.json, a panel each (default: the loss and the usual metrics)",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="smooth the training's curves as TensorBoard does, 0 to below 1 (default: 0)",
    )
    parser.add_argument(
        "--log",
        action="store_true",
        help="a logarithmic axis for the training's values; evaluations keep a linear one",
    )
    parser.add_argument(
        "--output",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="files to write, .png, .pdf, .svg or .csv (default: curves.png in the first RUN)",
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and say what was drawn."""
    from srnet.visualization.curves import plot_runs

    first = args.runs[0]
    outputs = args.output or [(first if first.is_dir() else first.parent) / "curves.png"]
    metrics = plot_runs(args.runs, outputs, metrics=args.metric, weight=args.smooth, log=args.log)
    print(f"{', '.join(metrics)} in {', '.join(map(str, outputs))}")
