"""What `srnet train`, `srnet eval` and train_net.py share."""

import argparse


def run(args: argparse.Namespace) -> None:
    """Train or evaluate on as many processes as the command line asks for."""
    from srnet.engine import launch

    launch(train_or_evaluate, args)


def train_or_evaluate(args: argparse.Namespace) -> None:
    """Run one process of a training or an evaluation.

    Args:
        args: `config_file`, `opts`, `eval_only` and `resume`.
    """
    from srnet import get_cfg
    from srnet.engine import evaluate, set_up, train
    from srnet.model_zoo.names import find_config

    cfg = get_cfg(args.config_file, args.opts)
    cfg.freeze()
    if args.config_file:  # Detectron2 logs what the file holds
        args.config_file = str(find_config(args.config_file))
    set_up(cfg, args)
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
    else:
        train(cfg, resume=args.resume)
