"""Training: the config's setup, the trainer and its checkpoints."""

from .processes import close_process_groups, share_cpu_threads
from .setup import check_against_datasets, setup_cfg
from .trainer import Trainer

__all__ = [
    "Trainer",
    "check_against_datasets",
    "close_process_groups",
    "setup_cfg",
    "share_cpu_threads",
]
