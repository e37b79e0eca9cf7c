"""Values of a config that a training cannot run with, refused before anything is built."""

from detectron2.config import CfgNode
from detectron2.utils import comm

from srnet.extras import require_extra
from srnet.ranges import check_ranges

from .selection import check_selection


def check_training(cfg: CfgNode) -> None:
    """Check the values of a config, its training set, its batch and what it is watched by.

    `srnet.get_cfg` has checked the values once; a config can be changed after it, or come from
    elsewhere.

    Raises:
        ValueError: the message names the keys, their values and what is allowed.
        ModuleNotFoundError: `WANDB.ENABLED` is set, and wandb is not installed.
    """
    check_ranges(cfg)
    _check_batch(cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name a dataset to train on")
    check_selection(cfg)
    if cfg.WANDB.ENABLED:
        require_extra("wandb", "WANDB.ENABLED")


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
