r"""Evaluate a model on the datasets that DATASETS.TEST names.

With --plots it also draws, into OUTPUT_DIR/inference, the IoU or AP of each class as bars, and for
semantic segmentation the confusion matrix, with the pairs of classes that are most confused.

Examples:
  srnet eval --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml --num-gpus 8 \
      MODEL.WEIGHTS model_final.pth
  srnet eval --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml \
      --plots --against output/camvid_dfnet_v1 MODEL.WEIGHTS model_final.pth
"""

import argparse
from pathlib import Path

from .arguments import add_config, add_processes
from .launch import run as launch_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet eval`."""
    add_config(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="evaluate the newest checkpoint in OUTPUT_DIR, not MODEL.WEIGHTS",
    )
    parser.add_argument(
        "--plots", action="store_true", help="draw the results of the classes as pictures"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="RUN",
        help="with --plots: the OUTPUT_DIR of another evaluation or training, for the bars",
    )
    add_processes(parser)
    parser.set_defaults(eval_only=True)


def run(args: argparse.Namespace) -> None:
    """Evaluate; what --against names is looked at before.

    Raises:
        FileNotFoundError: the other run has no results.
        ValueError: --against is given without --plots.
    """
    if args.against is not None:
        if not args.plots:
            raise ValueError(f"--against {args.against} needs --plots")
        files = (args.against / "inference" / "results.json", args.against / "metrics.json")
        if not any(file.is_file() for file in files):
            raise FileNotFoundError(
                f"--against {args.against}: there is neither {files[0]} nor {files[1]}"
            )
    launch_run(args)
