r"""Measure prediction with sliding windows, ours and the plain loop of published code, in turns.

Example:
  srnet benchmark sliding --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml \
      --size 1024x2048 --window 769x769 --stride 513x513
"""

import argparse

from srnet.cli.arguments import add_config, add_device, add_repeats, add_size, choose_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark sliding`."""
    add_config(parser)
    add_size(parser, default="1024x2048", help="size of the image")
    add_size(parser, "--window", default="769x769", help="size of the windows")
    add_size(parser, "--stride", default="513x513", help="vertical and horizontal step")
    add_repeats(parser, warmup=1, repeats=5)
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Measure and print a table."""
    from srnet import get_cfg
    from srnet.analysis.latency import compare, describe
    from srnet.analysis.sliding import time_sliding

    device = choose_device(args)
    times = time_sliding(
        get_cfg(args.config_file, ["MODEL.WEIGHTS", "", *args.opts]),
        size=args.size,
        window=args.window,
        stride=args.stride,
        device=device,
        warmup=args.warmup,
        repeats=args.repeats,
    )
    print(describe(device=device, size=args.size, repeats=args.repeats))
    print(compare(times))
