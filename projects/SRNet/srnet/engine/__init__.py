"""Training: the trainer, its hooks and its processes."""

from .checks import check_training
from .launch import evaluate, launch, set_up, train
from .processes import close_process_groups, share_cpu_threads
from .signals import TrainingStopped, stop_signals_passed_on
from .trainer import Trainer

__all__ = [
    "Trainer",
    "TrainingStopped",
    "check_training",
    "close_process_groups",
    "evaluate",
    "launch",
    "set_up",
    "share_cpu_threads",
    "train",
    "stop_signals_passed_on",
]
