r"""Draw Fig. 4: results over the number of nodes (a) and over the reduction (b), from sweeps.

A row of a sweep whose name ends in a number is a point: k16, r2. Rows of one beginning are a panel;
other rows are horizontal lines. Writes sweep.png and sweep.csv.

Example:
  srnet figures sweep output/fig_4a output/fig_4b --output out
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet figures sweep`."""
    parser.add_argument(
        "tables",
        nargs="+",
        type=Path,
        metavar="TABLE",
        help="the output folder of 'srnet sweep', its table.csv, or a CSV with the columns row, "
        "seed, metric and value",
    )
    parser.add_argument(
        "--metric", default="", metavar="NAME", help="as in the table (default: its mIoU, AP, ...)"
    )
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="as in the table (default: its first)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the picture and the numbers (default: that of the first TABLE)",
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and print where the files are."""
    from srnet.visualization.numbers import save_figure
    from srnet.visualization.sweep_plot import draw_sweep, points_table, read_sweep_table

    first, points = args.tables[0], []
    for table in args.tables:
        title, found = read_sweep_table(table, metric=args.metric, dataset=args.dataset)
        points += found
    figure = draw_sweep(title, points)
    output = args.output or (first if first.is_dir() else first.parent)
    save_figure(output, "sweep", figure, *points_table(points))
    print(f"{len(points)} rows, {title}: {output / 'sweep.png'} and {output / 'sweep.csv'}")
