"""Read all files of the data sets of a config once, and report what is wrong with each.

Prints images, sizes, pixels and instances of each class, then a line for each finding. The exit
status is 1 if there is a finding.

Example:
  srnet data check --config-file my.yaml
"""

import argparse
import os
from pathlib import Path

from srnet.cli.arguments import add_config, add_output, at_least, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet data check`."""
    add_config(parser)
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes that read; 0 reads in the program itself (default: the number of cores)",
    )
    add_output(parser, "the report")


def run(args: argparse.Namespace) -> None:
    """Check, and print the report.

    Raises:
        ValueError: something is wrong with the data.
    """
    from srnet import get_cfg
    from srnet.data.check import check_datasets

    reports = check_datasets(get_cfg(args.config_file, args.opts), workers=args.workers)
    output: Path | None = args.output
    show("\n\n".join(map(str, reports)), output)
    bad = [report for report in reports if report.findings]
    if bad:
        count = sum(len(report.findings) for report in bad)
        names = ", ".join(report.name for report in bad)
        raise ValueError(f"{count} finding{'s' * (count > 1)} in {names}")
