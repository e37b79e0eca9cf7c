"""The results of a sweep's runs, read from the files that each training writes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detectron2.config import CfgNode

from srnet.evaluation.results import of_classes, of_dataset, read_confusion

from .definition import Sweep
from .runs import Run, difference_to, final_metrics

# For each row, the value of each seed.
Values = dict[str, dict[int, float]]


@dataclass
class Results:
    """What has ended.

    Attributes:
        metrics: for (dataset, metric) the values by row and seed.
        classes: for (dataset, "TASK/METRIC") and then for each class the values by row and seed.
        shares: for each dataset, the share of its labelled pixels that each class has, in %; only
            where the evaluation counted pixels.
        ended: the runs that have ended.
        left_out: a sentence for each run that has ended and does not count.
    """

    metrics: dict[tuple[str, str], Values] = field(default_factory=dict)
    classes: dict[tuple[str, str], dict[str, Values]] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    ended: list[Run] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def collect(sweep: Sweep, runs: Sequence[Run], configs: Mapping[str, CfgNode]) -> Results:
    """Read what the runs have written, also those of a plain `srnet train` in the same folders.

    Args:
        sweep: the sweep.
        runs: those to look for.
        configs: the config of each row by its name.

    Returns:
        The final evaluations of the runs that have ended. A run that was made with another config
        is left out.

    Raises:
        ValueError: a file of a run is broken; the message names it.
    """
    results = Results()
    for run in runs:
        cfg = configs[run.row.name]
        tasks = final_metrics(run.folder, cfg)
        if tasks is None:
            continue
        difference = difference_to(cfg, run)
        if difference:
            text = f"{run.name} is left out, it was made with another config: {difference}"
            results.left_out.append(text)
            continue
        results.ended.append(run)
        for dataset in cfg.DATASETS.TEST:
            _add(results, sweep, run, dataset, of_dataset(tasks, dataset))
    return results


def _add(
    results: Results, sweep: Sweep, run: Run, dataset: str, tasks: Mapping[str, dict[str, float]]
) -> None:
    """Add a run's evaluation of a dataset."""
    row, seed = run.row.name, run.seed
    for name in sweep.metrics:
        task, _, metric = name.rpartition("/")
        value = tasks.get(task, {}).get(metric, math.nan)
        if math.isfinite(value):
            results.metrics.setdefault((dataset, name), {}).setdefault(row, {})[seed] = value
    wanted = {name.rpartition("/")[0] for name in sweep.metrics}
    chosen = {task: metrics for task, metrics in tasks.items() if task in wanted}
    for name, values in of_classes(chosen).items():
        found = results.classes.setdefault((dataset, name), {})
        for label, value in values.items():
            found.setdefault(label, {}).setdefault(row, {})[seed] = value
    if dataset not in results.shares:
        shares = _shares(run, dataset)
        if shares:
            results.shares[dataset] = shares


def _shares(run: Run, dataset: str) -> dict[str, float]:
    """The share of the pixels of each class, in %; empty where they were not counted."""
    confusion = read_confusion(run.folder / "inference", dataset)
    if confusion is None or not confusion.pixels.sum():
        return {}
    totals = confusion.pixels.sum(axis=1)
    shares = 100 * totals / totals.sum()
    return dict(zip(confusion.classes, map(float, shares), strict=True))
