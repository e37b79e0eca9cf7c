"""The checks of a sweep before its first run: a mistake in the last row is found at once."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from detectron2.config import CfgNode

from srnet.checkpoint.places import find_place
from srnet.engine import check_training
from srnet.evaluation.metric_names import metric_names
from srnet.modeling import build_model

from .definition import Row, Sweep
from .runs import Run


def row_config(sweep: Sweep, run: Run, opts: Sequence[str] = ()) -> CfgNode:
    """Read the config of a row.

    Args:
        sweep: the sweep.
        run: one of the row's runs.
        opts: KEY VALUE pairs that override those of the sweep.

    Raises:
        ValueError: the message names the file of the sweep, the row and what is wrong.
    """
    with _named(sweep, run.row):
        return run.config(opts)


def check_metrics(sweep: Sweep, configs: dict[str, CfgNode]) -> None:
    """Check that the evaluations of the rows have the metrics.

    Args:
        sweep: the sweep.
        configs: the config of each row by its name.

    Raises:
        ValueError: a metric is in no row's evaluation, or a row has none of them.
    """
    known = {name: _metrics_of(cfg) for name, cfg in configs.items()}
    everything = {metric for names in known.values() for metric in names or sweep.metrics}
    for metric in sweep.metrics:
        if metric not in everything:
            whole = sorted(name for name in everything if "-" not in name)
            raise ValueError(
                f"{sweep.path}: no row is evaluated by the metric {metric}; the metrics are "
                f"{', '.join(whole)}"
            )
    for name, names in known.items():
        if names and not names & set(sweep.metrics):
            raise ValueError(
                f"{sweep.path}: row {name}: its evaluation has none of the metrics "
                f"{', '.join(sweep.metrics)}"
            )


def check_models(sweep: Sweep, rows: Sequence[Row], configs: dict[str, CfgNode]) -> None:
    """Build the model of each row once, on the CPU, and look for the weights it starts from.

    Args:
        sweep: the sweep.
        rows: those that are to be trained.
        configs: the config of each row by its name.

    Raises:
        ValueError: the message names the file of the sweep, the row and what is wrong.
    """
    for row in rows:
        with _named(sweep, row):
            _check_model(configs[row.name])


def _check_model(cfg: CfgNode) -> None:
    check_training(cfg)
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name a dataset to evaluate")
    path = find_place(cfg.MODEL.WEIGHTS).path
    if path and "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL.WEIGHTS is {cfg.MODEL.WEIGHTS}, and there is no such file")
    build_model(cfg)


def _metrics_of(cfg: CfgNode) -> set[str] | None:
    """The metrics of a config's evaluations; None where an evaluator is not known."""
    found: set[str] = set()
    for dataset in cfg.DATASETS.TEST:
        names = metric_names(cfg, dataset)
        if names is None:
            return None
        found |= set(names)
    return found


@contextlib.contextmanager
def _named(sweep: Sweep, row: Row) -> Iterator[None]:
    """Name the sweep and the row in an error of the block."""
    try:
        yield
    except (OSError, ValueError, KeyError, AssertionError, RuntimeError, ImportError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ValueError(f"{sweep.path}: row {row.name}: {text}") from error
