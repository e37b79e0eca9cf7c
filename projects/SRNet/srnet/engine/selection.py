"""The metric that the best checkpoint and early stopping go by, checked before a training."""

import difflib
from collections.abc import Iterator

from detectron2.config import CfgNode

from srnet.evaluation.metric_names import metric_names

from .validation import VALIDATION


def is_validation(metric: str) -> bool:
    """Whether a metric is a validation loss and not the result of an evaluation."""
    return metric.startswith(f"{VALIDATION}/")


def selection_period(cfg: CfgNode) -> int:
    """Iterations between two values of `TEST.BEST_CHECKPOINT.METRIC`."""
    if is_validation(cfg.TEST.BEST_CHECKPOINT.METRIC):
        return cfg.TEST.VALIDATION_LOSS.PERIOD
    return cfg.TEST.EVAL_PERIOD


def check_selection(cfg: CfgNode) -> None:
    """Check the keys of the best checkpoint, early stopping and the validation loss together.

    Raises:
        ValueError: the message names the keys, their values and what is allowed.
    """
    problem = next(_problems(cfg), None)
    if problem:
        raise ValueError(problem)


def _problems(cfg: CfgNode) -> Iterator[str]:
    best, patience = cfg.TEST.BEST_CHECKPOINT, cfg.TEST.EARLY_STOPPING.PATIENCE
    loss = cfg.TEST.VALIDATION_LOSS
    if loss.PERIOD and not (loss.DATASET or cfg.DATASETS.TEST):
        yield (
            f"TEST.VALIDATION_LOSS.PERIOD={loss.PERIOD} needs a dataset: name one in "
            "TEST.VALIDATION_LOSS.DATASET or DATASETS.TEST"
        )
    metric = best.METRIC
    if not metric:
        if patience:
            yield (
                f"TEST.EARLY_STOPPING.PATIENCE={patience} needs a metric to go by: set "
                "TEST.BEST_CHECKPOINT.METRIC"
            )
        return
    key = "TEST.VALIDATION_LOSS.PERIOD" if is_validation(metric) else "TEST.EVAL_PERIOD"
    if not selection_period(cfg):
        yield f"TEST.BEST_CHECKPOINT.METRIC={metric!r} needs {key}, which is 0"
    if is_validation(metric):
        if best.MODE == "max":
            yield (
                f"TEST.BEST_CHECKPOINT.METRIC={metric!r} is a loss, and the smallest is the best: "
                "set TEST.BEST_CHECKPOINT.MODE min"
            )
    elif not cfg.DATASETS.TEST:
        yield f"TEST.BEST_CHECKPOINT.METRIC={metric!r} needs a dataset in DATASETS.TEST"
    else:
        yield from _unknown(cfg, metric)


def _unknown(cfg: CfgNode, metric: str) -> Iterator[str]:
    """Say that no evaluation will return the metric, where that is known."""
    known: list[str] = []
    for dataset in cfg.DATASETS.TEST:
        names = metric_names(cfg, dataset)
        if names is None:
            return
        prefix = f"{dataset}/" if len(cfg.DATASETS.TEST) > 1 else ""
        known += [f"{prefix}{name}" for name in names]
    # The classes of a dataset in COCO's format may be known only when its file was read.
    if metric in known or ("/AP-" in metric and metric.rpartition("-")[0] in known):
        return
    near = difflib.get_close_matches(metric, known, n=3, cutoff=0.5)
    whole = [name for name in known if "-" not in name.rpartition("/")[2]]
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(whole)}"
    yield (
        f"TEST.BEST_CHECKPOINT.METRIC={metric!r} is no metric of the evaluation of "
        f"{', '.join(cfg.DATASETS.TEST)}: {hint}"
    )
