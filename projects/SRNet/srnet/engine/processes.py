"""The processes of a launch: their groups, their share of the cores, and an orderly end."""

import argparse
import functools
import gc
import os
from collections.abc import Callable
from datetime import timedelta
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from detectron2.utils import comm

from .cluster import Place
from .signals import TrainingStopped

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def join_process_group(
    store: dist.Store, place: Place, timeout: timedelta, gpu: int | None
) -> None:
    """Join Detectron2's process groups, as its `launch` does in the processes that it starts.

    Args:
        store: of the meeting, for this use alone.
        place: of this process.
        timeout: of collective operations.
        gpu: of this process, None for the CPU.
    """
    if gpu is not None:
        torch.cuda.set_device(gpu)
    dist.init_process_group(
        backend="gloo" if gpu is None else "nccl",
        store=dist.PrefixStore("srnet/group", store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=timeout,
    )
    comm.create_local_process_group(place.local_size)
    comm.synchronize()
    limit_gloo_group(timeout)


def limit_gloo_group(timeout: timedelta) -> None:
    """Give Detectron2's group between CPUs the timeout; it makes it with PyTorch's default."""
    if dist.get_backend() != dist.Backend.GLOO:
        dist.distributed_c10d._set_pg_timeout(timeout, comm._get_global_gloo_group())


def share_cpu_threads() -> None:
    """Divide the cores among the processes of a machine; PyTorch would give each all of them."""
    processes = comm.get_local_size()
    if processes > 1:
        # srun may have bound the process to its own cores already.
        own = int(os.environ.get("SLURM_CPUS_PER_TASK", "0"))
        torch.set_num_threads(own or max(1, (os.cpu_count() or 1) // processes))


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


@close_process_groups
def run_process(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> object:
    """Run one of the processes."""
    return main(args)


def _close() -> None:
    if dist.is_available() and dist.is_initialized():
        # What still holds a group would keep its threads alive.
        comm._get_global_gloo_group.cache_clear()
        comm._LOCAL_PROCESS_GROUP = None
        comm.create_local_process_group.cache_clear()
        gc.collect()
        dist.destroy_process_group()
