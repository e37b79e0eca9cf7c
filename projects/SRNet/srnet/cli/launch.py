"""What train_net.py and the commands that start processes share."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from detectron2.config import CfgNode


def run(args: argparse.Namespace) -> None:
    """Train or evaluate on as many processes as the command line asks for."""
    from srnet.engine import launch

    launch(train_or_evaluate, args)


def train_or_evaluate(args: argparse.Namespace) -> None:
    """Run one process of a training or an evaluation.

    Args:
        args: `config_file`, `opts`, `eval_only`, `resume`, `restarted` and `may_restart`; `plots`
            and `against` where the command has them.
    """
    from srnet.engine import evaluate, train

    cfg = start_process(args)
    if args.eval_only:
        results = evaluate(cfg, resume=args.resume)
        if getattr(args, "plots", False):
            _plot(cfg, results, args.against)
    else:
        # torchrun repeats the command line of the first start.
        train(cfg, resume=args.resume or args.restarted, may_restart=args.may_restart)


def _plot(cfg: "CfgNode", results: dict, against: "Path | None") -> None:
    """Draw an evaluation, on the main process."""
    from detectron2.utils import comm

    from srnet.evaluation.results import by_dataset
    from srnet.visualization.evaluation import plot_evaluation

    if comm.is_main_process():
        print(plot_evaluation(cfg.OUTPUT_DIR, by_dataset(results, cfg.DATASETS.TEST), against))


def start_process(args: argparse.Namespace, opts: Sequence = ()) -> "CfgNode":
    """Read the config of a process and set the process up.

    Args:
        args: `config_file` and `opts`.
        opts: more keys and values, which come last.

    Returns:
        The config, frozen.
    """
    from srnet import get_cfg
    from srnet.engine import set_up
    from srnet.model_zoo.names import find_config

    cfg = get_cfg(args.config_file, [*args.opts, *opts])
    cfg.freeze()
    if args.config_file:  # Detectron2 logs what the file holds
        args.config_file = str(find_config(args.config_file))
    set_up(cfg, args)
    return cfg
