"""A process that torchrun or SLURM's srun has started: it joins the others.

torchrun starts all processes again when one of them ends with an error and --max-restarts allows
it, with the command line of the first start. A training then resumes from its newest checkpoint.
"""

import argparse
import os
from collections.abc import Callable
from datetime import timedelta

import torch
from detectron2.utils import comm

from .cluster import Place
from .heartbeat import Heartbeat, OwnWatch
from .meeting import Meeting, join, leave, meet_processes
from .processes import join_process_group, run_process

REFUSED = "srnet/refused"


class OtherCheckpoints(ValueError):
    """A training that torchrun may start again has checkpoints of another one in its way."""


def run_at_place(
    main: Callable[[argparse.Namespace], object],
    args: argparse.Namespace,
    place: Place,
    timeout: timedelta,
) -> None:
    """Run one of the processes that were started, watched by all of them.

    Args:
        main: what it runs.
        args: its argument; `restarted` and `may_restart` are set.
        place: of this process.
        timeout: of the meeting and of collective operations.

    Raises:
        ConnectionError: a process is gone.
        TimeoutError: a process did not come or did not answer; the message names it.
    """
    gpu = choose_gpu(place)
    meeting = meet_processes(place, timeout)
    _refuse_again(meeting)
    # Both, as torchrun counts on each machine for itself, and its store may be new.
    args.restarted = place.launcher == "torchrun" and (meeting.starts > 1 or place.restarts > 0)
    args.may_restart = place.may_restart
    try:
        if place.world_size == 1:
            run_process(main, args)
            return
        host, port, room = meeting.host, meeting.port, meeting.room
        heartbeat = Heartbeat(join(host, port, timeout, room), place.rank, place.world_size)
        with heartbeat.beating(), OwnWatch(meeting, place.world_size, place.rank):
            join_process_group(join(host, port, timeout, room).store, place, timeout, gpu)
            args.restarted = any(comm.all_gather(args.restarted))
            run_process(main, args)
    except OtherCheckpoints as error:
        if meeting.lobby is not None:
            meeting.lobby.set(REFUSED, str(error))
        raise
    finally:
        leave(meeting, place)


def _refuse_again(meeting: Meeting) -> None:
    """Refuse what the first start refused: this one is a restart, and would resume."""
    if meeting.lobby is not None and meeting.lobby.check([REFUSED]):
        raise OtherCheckpoints(meeting.lobby.get(REFUSED).decode())


def choose_gpu(place: Place) -> int | None:
    """The GPU of a process, None where there are none.

    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count()
    if gpus == 0:
        return None
    if gpus == 1 and "CUDA_VISIBLE_DEVICES" in os.environ:
        return 0  # srun --gpus-per-task shows each process its own
    if gpus < place.local_size:
        raise ValueError(
            f"{place.launcher} started {place.local_size} processes on this machine, which has "
            f"{gpus} GPU{'s' if gpus > 1 else ''}"
        )
    return place.local_rank
