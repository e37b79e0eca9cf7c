"""The processes of a launch: their share of the cores, and an orderly end."""

import functools
import gc
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from detectron2.utils import comm

from .signals import TrainingStopped

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def share_cpu_threads() -> None:
    """Divide the cores among the processes of a machine; PyTorch would give each all of them."""
    processes = comm.get_local_size()
    if processes > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def close_process_groups(main: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate what Detectron2's `launch` runs: its process groups close before the process ends.

    Detectron2 (up to its main of 2026) leaves them open, and PyTorch (2.11) does not close them
    either: a thread of gloo that still drops a tensor while Python shuts down aborts the process
    now and then ("terminate called without an active exception"), after all its work is done.
    """

    @functools.wraps(main)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            result = main(*args, **kwargs)
        except TrainingStopped:
            _close()  # all processes have met already
            raise
        if dist.is_available() and dist.is_initialized():
            comm.synchronize()
        _close()
        return result

    return run


def _close() -> None:
    if dist.is_available() and dist.is_initialized():
        # What still holds a group would keep its threads alive.
        comm._get_global_gloo_group.cache_clear()
        comm._LOCAL_PROCESS_GROUP = None
        gc.collect()
        dist.destroy_process_group()
