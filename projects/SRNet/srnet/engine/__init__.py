"""Training: the trainer, its hooks and its processes."""

from .processes import close_process_groups, share_cpu_threads
from .trainer import Trainer

__all__ = [
    "Trainer",
    "close_process_groups",
    "share_cpu_threads",
]
