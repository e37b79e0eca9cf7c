r"""Train the rows of a table with several seeds, and print means, spreads and paired tests.

SWEEP is a YAML file or the name of a shipped one (--list). Each run is a process of its own in
OUTPUT/ROW/seedN. Runs that have ended are not run again, and a run that was interrupted goes on
from its last checkpoint, so the same command continues a sweep. KEY VALUE pairs go to all runs.

Examples:
  srnet sweep --list
  srnet sweep table_3_small --output output/table_3 MODEL.WEIGHTS lite0.pth
  srnet sweep mine.yaml --rows sr psp --seeds 1 2 --shard 1/2
  srnet sweep table_3_small --output output/table_3 --table
"""

import argparse
import re
from pathlib import Path

from .arguments import add_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet sweep`."""
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="a YAML file, or a shipped name")
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys and their new values, for all runs",
    )
    parser.add_argument("--list", action="store_true", help="list the shipped sweeps")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the runs are (default: output/SWEEP)"
    )
    parser.add_argument(
        "--seeds", nargs="+", default=[], metavar="N", help="seeds (default: the sweep's)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="NAME",
        help="rows (default: all)",
    )
    parser.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="I/N",
        help="train the I-th of N parts of the runs, with the same SWEEP, --rows and --seeds on "
        "every machine",
    )
    parser.add_argument(
        "--table", action="store_true", help="train nothing; print and write what has ended"
    )
    add_count(parser, "--num-gpus", 1, "GPUs of each run")


def shard(text: str) -> tuple[int, int]:
    """The type of --shard: I/N with I from 1 to N."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, as in 1/3")
    return int(match[1]), int(match[2])


def run(args: argparse.Namespace) -> None:
    """Train and print.

    Raises:
        ChildProcessError: runs failed.
        ValueError: the sweep or the command line is wrong.
    """
    from srnet.sweep import find_sweep, read_sweep, sweep_names

    if args.list:
        width = max(map(len, sweep_names()))
        for name in sweep_names():
            print(f"{name:{width}}  {read_sweep(find_sweep(name)).title}")
        return
    if not args.sweep:
        raise ValueError("name a sweep: a YAML file or one of 'srnet sweep --list'")
    from srnet.sweep.command import run_sweep

    run_sweep(
        read_sweep(find_sweep(args.sweep)),
        output=args.output,
        rows=args.rows,
        seeds=[read_seed(seed) for seed in args.seeds],
        shard_of=args.shard,
        opts=args.opts,
        gpus=args.num_gpus,
        only_table=args.table,
    )


def read_seed(text: str) -> int:
    """A seed of --seeds, which may also catch KEY VALUE pairs and so has no type."""
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"--seeds {text}: a seed is a whole number from 0 on")
    return int(text)
