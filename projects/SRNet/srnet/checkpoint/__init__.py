"""Weights: loading, saving, renaming and converting them."""

from .checkpointer import Checkpointer
from .evaluation import load_for_evaluation, load_trained_model
from .file_kinds import CheckpointError
from .resume import find_checkpoints

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "find_checkpoints",
    "load_for_evaluation",
    "load_trained_model",
]
