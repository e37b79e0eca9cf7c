"""Print the last evaluation of a training as a Markdown table.

It is read from metrics.json in the output folder. The metrics of the whole come first, then those
of single classes.

Example:
  srnet metrics output/camvid_dfnet_v1_SR --output metrics.md
"""

import argparse
from pathlib import Path

from .arguments import add_output, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet metrics`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the OUTPUT_DIR of a training")
    add_output(parser)


def run(args: argparse.Namespace) -> None:
    """Read and print."""
    from srnet.evaluation.metrics_table import read_metrics, to_markdown

    tasks = read_metrics(args.folder / "metrics.json")
    show(f"Last evaluation, %:\n\n{to_markdown(tasks)}", args.output)
