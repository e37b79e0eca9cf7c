"""Values of a config that a training cannot run with, refused before anything is built."""

import difflib
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

# Key and smallest value.
_MINIMA = {
    "SOLVER.MAX_ITER": 1,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.ACCUMULATE": 1,
    "TEST.EVAL_PERIOD": 0,
}


def check_training(cfg: CfgNode) -> None:
    """Check the numbers and the datasets of a training.

    Raises:
        ValueError: the message names the key, its value and what is allowed.
    """
    for key, smallest in _MINIMA.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value < smallest:
            raise ValueError(f"{key}={value} must be {smallest} or more")
    _check_batch(cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name a dataset to train on")
    check_datasets("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    check_datasets("DATASETS.TEST", cfg.DATASETS.TEST)


def _check_batch(images: int, parts: int) -> None:
    processes = comm.get_world_size()
    if images % processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH={images} must be divisible by the {processes} processes of "
            "this training (--num-gpus times --num-machines)"
        )
    images //= processes
    if images % parts:
        raise ValueError(
            f"SOLVER.ACCUMULATE={parts} must divide the {images} images of a process "
            "(SOLVER.IMS_PER_BATCH / number of processes)"
        )


def check_datasets(key: str, names: Sequence[str]) -> None:
    """Check that datasets are registered.

    Args:
        key: the config key they come from.
        names: their names.

    Raises:
        ValueError: one is not; the message has the nearest names.
    """
    known = sorted(DatasetCatalog.list())
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{key}: there is no dataset {name!r}; {hint}")
