r"""Write trained weights for others: safetensors in fp16, with the config's name and the classes.

Prints the line for the table of published weights in srnet/model_zoo/trained. The place there may
also be a URL, or package://MODULE/PATH for a file of an installed package.

Example:
  srnet publish --config-file CamVid-SemanticSegmentation/lite0_SR.yaml \
      --output camvid_lite0_SR.safetensors MODEL.WEIGHTS model_final.pth
"""

import argparse
from pathlib import Path

from .arguments import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet publish`."""
    add_config(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="a .safetensors file to write"
    )


def run(args: argparse.Namespace) -> None:
    """Write the file, and print its line for the table."""
    from srnet import get_cfg
    from srnet.model_zoo.names import find_config, zoo_name
    from srnet.model_zoo.publish import publish

    name = zoo_name(find_config(args.config_file))
    sha256 = publish(get_cfg(args.config_file, args.opts), args.output, name=name)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    print(f"{name.removesuffix('.yaml')}: {{place: {args.output.name}, sha256: {sha256}}}")
