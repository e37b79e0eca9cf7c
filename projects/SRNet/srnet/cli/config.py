"""Print a whole config, with its base files and overrides merged, or list the model zoo.

Examples:
  srnet config --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml SOLVER.BASE_LR 0.01
  srnet config --list
"""

import argparse

from .arguments import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet config`."""
    add_config(parser, required=False)
    parser.add_argument("--list", action="store_true", help="list the names of the model zoo")


def run(args: argparse.Namespace) -> None:
    """Print."""
    if args.list:
        from srnet.model_zoo.names import config_names

        print("\n".join(config_names()))
        return
    from srnet import get_cfg

    print(get_cfg(args.config_file, args.opts).dump(), end="")
