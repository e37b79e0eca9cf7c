"""Sweeps: tables of the paper as rows of overrides over a config, trained with several seeds."""

from .definition import Row, Sweep, read_sweep
from .names import find_sweep, sweep_names
from .results import Results, collect

__all__ = ["Results", "Row", "Sweep", "collect", "find_sweep", "read_sweep", "sweep_names"]
