"""A figure as a PNG, and the numbers behind it as CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from srnet.data.paths import written_to


def save_figure(
    output: Path, name: str, figure: Figure, fields: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write NAME.csv and NAME.png into a folder, which is made where it is missing.

    Raises:
        OSError: a file cannot be written; the message names it.
    """
    write_rows(output / f"{name}.csv", fields, rows)
    with written_to(output / f"{name}.png"):
        figure.savefig(output / f"{name}.png")


def write_rows(path: Path, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV with a header.

    Raises:
        OSError: it cannot be written; the message names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_to(path), path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(fields)
        writer.writerows(rows)
