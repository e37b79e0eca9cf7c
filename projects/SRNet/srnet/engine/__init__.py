"""Training: the trainer, its hooks and its processes."""

from .launch import evaluate, launch, set_up, train
from .processes import close_process_groups, share_cpu_threads
from .trainer import Trainer

__all__ = [
    "Trainer",
    "close_process_groups",
    "evaluate",
    "launch",
    "set_up",
    "share_cpu_threads",
    "train",
]
