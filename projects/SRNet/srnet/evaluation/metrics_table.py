"""The last evaluation of a training, from Detectron2's `metrics.json`, as a Markdown table."""

import math
import re
from pathlib import Path

from tabulate import tabulate

from .metrics_file import read_lines

# What is recorded during training under names with a slash, as evaluators do.
TRAINING = ("rpn", "roi_head", "fast_rcnn", "mask_rcnn", "keypoint_head", "validation")
# Evaluators name a metric of a class METRIC-CLASS.
OF_CLASS = re.compile(r"(min\(IoU, B-Iou\)|[^-]+)-(.+)")
# SemSegEvaluator takes the boundary of a label map by erosion, as if labels were grey values: what
# it calls the boundary of a class is where labels differ by the class's index.
LEFT_OUT = ("BoundaryIoU", "min(IoU, B-Iou)")


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Read the last evaluation in a `metrics.json`.

    Returns:
        For each task ("sem_seg", "bbox", ...) the metrics by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no evaluation.
    """
    for _, record in reversed(list(read_lines(path))):
        tasks = _evaluation(record)
        if tasks:
            return tasks
    raise ValueError(f"{path} holds no evaluation")


def read_final_metrics(path: Path) -> tuple[int, dict[str, dict[str, float]]] | None:
    """Read the evaluation after which nothing was trained any more.

    Returns:
        Its iteration, and the metrics as :func:`read_metrics` has them. None where the training
        went on after its last evaluation, or had none.

    Raises:
        FileNotFoundError: there is no such file.
    """
    records = [record for _, record in read_lines(path)]
    last = max((record["iteration"] for record in records), default=-1)
    for record in reversed(records):
        if record["iteration"] == last and (tasks := _evaluation(record)):
            return last, tasks
    return None


def _evaluation(record: dict) -> dict[str, dict[str, float]]:
    """The metrics of an evaluation in a line of metrics.json, by task; empty without one."""
    tasks: dict[str, dict[str, float]] = {}
    for key, value in record.items():
        task, slash, metric = key.rpartition("/")
        if slash and task not in TRAINING and isinstance(value, float):
            tasks.setdefault(task, {})[metric] = value
    return tasks


def to_markdown(tasks: dict[str, dict[str, float]]) -> str:
    """Format metrics (%) as Markdown tables: for each task the whole, then its classes."""
    blocks = []
    for task, metrics in tasks.items():
        whole: dict[str, float] = {}
        classes: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            match = OF_CLASS.fullmatch(name)
            if not match:
                whole[name] = value
            elif match[1] not in LEFT_OUT:
                classes.setdefault(match[2], {})[match[1]] = value
        blocks.append(_table([task, *whole], [["all", *whole.values()]]))
        if classes:
            columns = list(next(iter(classes.values())))
            rows = [
                [name, *(values.get(column, math.nan) for column in columns)]
                for name, values in classes.items()
            ]
            blocks.append(_table(["class", *columns], rows))
    return "\n\n".join(blocks) + "\n"


def _table(header: list[str], rows: list[list]) -> str:
    align = ["left"] + ["right"] * (len(header) - 1)
    return tabulate(rows, header, tablefmt="pipe", floatfmt=".1f", colalign=align)
