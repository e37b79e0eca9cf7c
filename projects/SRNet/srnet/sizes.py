"""Sizes on the command line: HEIGHTxWIDTH, the same for every command."""

import argparse
import re


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as "1024x2048".

    Args:
        text: height, "x" and width in pixels (or in positions of a map), both at least 1.

    Returns:
        (height, width).

    Raises:
        argparse.ArgumentTypeError: `text` is anything else.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW (height x width), as in 1024x2048")
    return int(match[1]), int(match[2])
