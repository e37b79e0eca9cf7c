#!/usr/bin/env python3
"""Compare the IoU of the classes in two evaluations, as Tables I and VI do.

    tools/compare_results.py FIRST SECOND [--dataset NAME] [--output FILE]

FIRST and SECOND are output folders of two runs, or the `DATASET_iou.json` that an evaluation leaves
in their `inference/`. The table is in the order of the dataset's classes.
"""

import argparse
import json
import sys
from pathlib import Path

from tabulate import tabulate


def read(path: Path, dataset: str | None) -> dict:
    """Read an evaluation.

    Args:
        path: a JSON file, or a folder that has one in itself or its `inference/`.
        dataset: the name of the dataset, needed where a folder has several.

    Returns:
        "dataset", "mean" and "classes", a dict from names to IoU (%) or None.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, or the file is another's.
    """
    if path.is_dir():
        files = sorted(path.glob(f"{dataset or '*'}_iou.json"))
        files = files or sorted((path / "inference").glob(f"{dataset or '*'}_iou.json"))
        if not files:
            raise FileNotFoundError(
                f"no {dataset or 'DATASET'}_iou.json is in {path} or its inference/: evaluate with "
                "train_net.py --eval-only"
            )
        if len(files) > 1:
            names = ", ".join(file.name.removesuffix("_iou.json") for file in files)
            raise ValueError(f"{path} has results of {names}: choose one with --dataset")
        path = files[0]
    try:
        result = json.loads(path.read_text())
        return {key: result[key] for key in ("dataset", "mean", "classes")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the result of an evaluation: {error!r}") from error


def compare(first: dict, second: dict) -> str:
    """Format the IoU of both and the difference, second less first, as a Markdown table.

    Raises:
        ValueError: their classes differ.
    """
    if list(first["classes"]) != list(second["classes"]):
        raise ValueError(f"the classes of {first['dataset']} and {second['dataset']} differ")
    pairs = {c: (value, second["classes"][c]) for c, value in first["classes"].items()}
    pairs["mean"] = (first["mean"], second["mean"])
    rows = [(name, a, b, None if None in (a, b) else b - a) for name, (a, b) in pairs.items()]
    header = ["class", "first", "second", "difference"]
    digits = ("", ".1f", ".1f", "+.1f")
    align = ("left", "right", "right", "right")
    table = tabulate(rows, header, "pipe", floatfmt=digits, missingval="-", colalign=align)
    return table + "\n"


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("first", type=Path, metavar="FIRST")
    parser.add_argument("second", type=Path, metavar="SECOND")
    parser.add_argument("--dataset", metavar="NAME", help="of those a folder has results of")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here too")
    arguments = parser.parse_args()
    try:
        first, second = (
            read(path, arguments.dataset) for path in (arguments.first, arguments.second)
        )
        table = compare(first, second)
        if arguments.output:
            arguments.output.write_text(table)
    except (OSError, ValueError) as error:
        sys.exit(f"compare_results.py: {error}")
    print(table, end="")


if __name__ == "__main__":
    main()
