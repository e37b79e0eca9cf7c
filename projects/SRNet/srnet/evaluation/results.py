"""What an evaluation leaves for pictures and programs: its results, and which classes it mixes up.

`OUTPUT_DIR/inference/results.json` has the results by dataset, task and metric, and
`DATASET_confusion.json` the pixels of each class by what they were predicted as.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srnet.data.paths import inside

from .metrics_table import OF_CLASS, read_metrics

RESULTS = "results.json"
# For each dataset, for each task, the metrics.
Results = dict[str, dict[str, dict[str, float]]]
# The metric of a class that is drawn.
SHOWN = ("IoU", "AP")


class Confusion(NamedTuple):
    """Which classes are predicted in place of which.

    Attributes:
        dataset: the name of the dataset.
        classes: the names of the classes.
        pixels: (C, C) of int64; a row for each true class, a column for each prediction.
    """

    dataset: str
    classes: list[str]
    pixels: np.ndarray

    def shares(self) -> np.ndarray:
        """Of the pixels of each class, the share of each prediction, (C, C); NaN without pixels."""
        totals = self.pixels.sum(axis=1, keepdims=True)
        return np.where(totals > 0, self.pixels / np.maximum(totals, 1), np.nan)

    def most_confused(self, number: int) -> list[tuple[str, str, float]]:
        """The pairs of a class and a wrong prediction with the largest shares, the largest first.

        Args:
            number: at most so many; pairs that never occur are left out.
        """
        shares = np.nan_to_num(self.shares())
        np.fill_diagonal(shares, 0)
        order = np.argsort(-shares, axis=None, kind="stable")[:number]
        found = (np.unravel_index(place, shares.shape) for place in order)
        return [
            (self.classes[i], self.classes[j], float(shares[i, j]))
            for i, j in found
            if shares[i, j] > 0
        ]


def write_confusion(folder: str, confusion: Confusion) -> None:
    """Write `DATASET_confusion.json`."""
    os.makedirs(folder, exist_ok=True)
    content = {**confusion._asdict(), "pixels": confusion.pixels.tolist()}
    with open(inside(folder, f"{confusion.dataset}_confusion.json"), "w") as file:
        json.dump(content, file)


def read_confusion(folder: str | os.PathLike, dataset: str) -> Confusion | None:
    """Read what :func:`write_confusion` wrote; None where there is none.

    Raises:
        ValueError: it is no such file.
    """
    path = Path(folder) / f"{dataset}_confusion.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        pixels = np.array(content["pixels"], np.int64)
        count = len(content["classes"])
        return Confusion(content["dataset"], content["classes"], pixels.reshape(count, count))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no confusion matrix: {error!r}") from error


def by_dataset(results: Mapping[str, Any], datasets: Sequence[str]) -> Results:
    """Put the results of a single dataset under its name, where Detectron2 leaves it out."""
    return {datasets[0]: dict(results)} if len(datasets) == 1 else dict(results)


def write_results(folder: str, results: Results) -> None:
    """Write results.json, with null for what is not a number."""
    os.makedirs(folder, exist_ok=True)
    plain = {
        dataset: {
            task: {m: float(v) if math.isfinite(v) else None for m, v in metrics.items()}
            for task, metrics in tasks.items()
        }
        for dataset, tasks in results.items()
    }
    with open(os.path.join(folder, RESULTS), "w") as file:
        json.dump(plain, file, indent=1)


def read_results(run: Path, dataset: str) -> dict[str, dict[str, float]]:
    """Read the results of a dataset in a run: its evaluation's, or the last of its training.

    Args:
        run: an OUTPUT_DIR.
        dataset: the name of the dataset.

    Returns:
        For each task the metrics, without those that are no numbers.

    Raises:
        FileNotFoundError: the run has neither.
        ValueError: it has no results of this dataset.
    """
    file = run / "inference" / RESULTS
    if file.is_file():
        try:
            tasks = json.loads(file.read_text())[dataset]
            return {
                task: {m: v for m, v in metrics.items() if v is not None}
                for task, metrics in tasks.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} has no results of {dataset}: {error!r}") from error
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} has no inference/{RESULTS} and no metrics.json")
    return of_dataset(read_metrics(run / "metrics.json"), dataset)


def of_dataset(tasks: Mapping[str, dict[str, float]], dataset: str) -> dict[str, dict[str, float]]:
    """The results of a dataset in a line of metrics.json.

    With several datasets a training names them before the task; with one it does not.

    Args:
        tasks: the metrics by task.
        dataset: the name of the dataset.
    """
    prefix = f"{dataset}/"
    named = {t.removeprefix(prefix): m for t, m in tasks.items() if t.startswith(prefix)}
    return named or dict(tasks)


def of_classes(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The IoU or AP of each class, by "TASK/METRIC": the metrics that have classes."""
    found: dict[str, dict[str, float]] = {}
    for task, metrics in tasks.items():
        for name, value in metrics.items():
            match = OF_CLASS.fullmatch(name)
            if match and match[1] in SHOWN and math.isfinite(value):
                found.setdefault(f"{task}/{match[1]}", {})[match[2]] = value
    return found
