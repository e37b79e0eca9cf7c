"""Weights: loading, saving, renaming and converting them."""

from .checkpointer import Checkpointer

__all__ = ["Checkpointer"]
