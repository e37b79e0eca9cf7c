"""Training: the trainer, its hooks and its processes."""

from .checks import check_datasets, check_training
from .processes import close_process_groups, share_cpu_threads
from .signals import TrainingStopped, stop_signals_passed_on
from .trainer import Trainer

__all__ = [
    "Trainer",
    "TrainingStopped",
    "check_datasets",
    "check_training",
    "close_process_groups",
    "share_cpu_threads",
    "stop_signals_passed_on",
]
