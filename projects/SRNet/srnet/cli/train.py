"""Train a model, and evaluate it on the datasets of its config.

OUTPUT_DIR receives the checkpoints, the log and the metrics. Without a GPU the model trains on the
CPU.

Examples:
  srnet train --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num-gpus 8
  srnet train --config-file my.yaml SOLVER.MAX_ITER 1000 OUTPUT_DIR output/mine --resume
"""

import argparse

from .arguments import add_config, add_processes
from .launch import run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet train`."""
    add_config(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint in OUTPUT_DIR, if there is one",
    )
    add_processes(parser)
    parser.set_defaults(eval_only=False)
