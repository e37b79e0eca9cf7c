#!/usr/bin/env python3
"""Train or evaluate a model of this project, with Detectron2's options.

Any config key and its value may follow. Without a GPU the model runs on the CPU, and --num-gpus 2
starts two processes there. 'srnet train' and 'srnet eval' run the same.

Examples:
  train_net.py --config-file configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num-gpus 8
  train_net.py --config-file CONFIG --eval-only MODEL.WEIGHTS model_final.pth
"""

import argparse
import sys
from collections.abc import Sequence

from srnet.cli.arguments import Parser, add_config, add_processes
from srnet.cli.errors import report
from srnet.cli.launch import run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser("train_net.py", __doc__)
    add_config(parser, required=False)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint in OUTPUT_DIR, if there is one; "
        "with --eval-only, evaluate it",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    add_processes(parser)
    return parser.read(argv)


# With several processes, each imports this file again: only the first one runs what follows.
if __name__ == "__main__":
    args = parse_args()
    # Each process reads the config, then trains or evaluates: srnet.cli.launch.train_or_evaluate,
    # by srnet.engine's train(cfg) and evaluate(cfg).
    sys.exit(report("train_net.py", lambda: run(args), traceback=args.traceback))
