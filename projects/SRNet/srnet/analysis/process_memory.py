"""Memory of a process: the peak of a run, and a limit."""

import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def peak_memory(run: Callable[[], None], device: str) -> float:
    """MB of tensors that a run holds at its peak beyond what was there."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # The profiler's library would report that there is no GPU, as an error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    # The size of the process would not tell: freed memory stays with it.
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0)) / 1e6


@contextmanager
def limited_memory(gigabytes: float = 0.0) -> Iterator[None]:
    """Let allocations of this process beyond a limit fail, where Linux would end a process.

    Where the system has no /proc, there is no limit.

    Args:
        gigabytes: for what is allocated inside the context; 0 for what the machine has free.
    """
    if not Path("/proc/meminfo").exists():
        yield
        return
    if not gigabytes:
        gigabytes = 0.9 * read_proc("meminfo", "MemAvailable") / 1e9
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(read_proc("self/status", "VmSize") + gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_proc(file: str, field: str) -> int:
    """A field of a file in /proc, in bytes.

    Raises:
        OSError: there is no such field.
    """
    for line in (Path("/proc") / file).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{file} has no {field}")
