"""The IoU of the classes in two evaluations, side by side, as Tables I and VI do."""

import json
from pathlib import Path

from tabulate import tabulate

from srnet.data.paths import check_regular


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
                "'srnet eval'"
            )
        if len(files) > 1:
            names = ", ".join(file.name.removesuffix("_iou.json") for file in files)
            raise ValueError(f"{path} has results of {names}: choose one with --dataset")
        path = files[0]
    check_regular(path)
    try:
        result = json.loads(path.read_text())
        return {key: result[key] for key in ("dataset", "mean", "classes")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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
