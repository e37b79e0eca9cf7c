r"""Measure the latency and FPS of a model, or of two in turns.

The time is from a normalised image on the device to logits of its size there; for detectors and
panoptic models, from an image to its results; with --train, of a training step. Two models run in
turns, so that other load meets both alike, and have the same weights where they can.

Example:
  srnet benchmark latency --config-file Cityscapes-SemanticSegmentation/dfnet_v1.yaml \
      --compare Cityscapes-SemanticSegmentation/dfnet_v1_SR.yaml --size 1024x2048
"""

import argparse
import json
from pathlib import Path

from srnet.cli.arguments import (
    add_config,
    add_count,
    add_device,
    add_repeats,
    add_size,
    choose_device,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet benchmark latency`."""
    add_config(parser)
    parser.add_argument("--compare", metavar="CONFIG", help="a second model, measured in turns")
    add_size(parser, default="1024x2048", help="size of the image")
    add_count(parser, "--batch", 1, "images in a batch")
    parser.add_argument(
        "--half", action="store_true", help="weights and maps in fp16 (on a CPU bf16)"
    )
    parser.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="memory format (default: MODEL.CHANNELS_LAST of the config)",
    )
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--train", action="store_true", help="measure training steps")
    add_repeats(parser, warmup=10, repeats=50)
    add_device(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times (s) to FILE")


def run(args: argparse.Namespace) -> None:
    """Measure and print a table."""
    from srnet import get_cfg
    from srnet.analysis.latency import compare, describe, time_models
    from srnet.data.paths import written_to

    device = choose_device(args)
    names = [args.config_file, *([args.compare] if args.compare else [])]
    cfgs = {name: get_cfg(name, ["MODEL.WEIGHTS", "", *args.opts]) for name in names}
    how = {"size": args.size, "batch": args.batch, "half": args.half, "train": args.train}
    how |= {"compiled": args.compile, "device": device, "repeats": args.repeats}
    times = time_models(cfgs, channels_last=args.channels_last, warmup=args.warmup, **how)
    print(describe(**how))
    print(compare(times, args.batch))
    if args.json:
        with written_to(args.json):
            args.json.write_text(json.dumps(times, indent=1))
