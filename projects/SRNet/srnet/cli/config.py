"""Print a whole config, list the model zoo, or describe the config keys.

A config is printed with its base files and overrides merged.

Examples:
  srnet config --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml SOLVER.BASE_LR 0.01
  srnet config --list
  srnet config --keys
"""

import argparse

from .arguments import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet config`."""
    add_config(parser, required=False)
    parser.add_argument("--list", action="store_true", help="list the names of the model zoo")
    parser.add_argument(
        "--keys",
        action="store_true",
        help="describe the keys: default, allowed values and meaning (as docs/CONFIG.md)",
    )


def run(args: argparse.Namespace) -> None:
    """Print."""
    if args.list:
        from srnet.model_zoo.names import config_names

        print("\n".join(config_names()))
        return
    if args.keys:
        from srnet.model_zoo.key_table import describe_keys

        print(describe_keys(), end="")
        return
    from srnet import get_cfg

    print(get_cfg(args.config_file, args.opts).dump(), end="")
