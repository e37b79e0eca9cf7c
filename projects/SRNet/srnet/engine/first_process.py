"""Waiting for the first process, which alone computes the results of an evaluation.

In a collective operation the others would take it for dead after `--timeout`. They look at the
store of the launch instead, and wait for as long as the first process computes: it tells there that
it uses its CPU. One that hangs uses none.
"""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from .lock import cpu_seconds

LOOK_SECONDS = 0.2
DONE, WORK = "srnet/evaluations", "srnet/evaluations/work"
BUSY = 0.05  # the share of a core that computing takes at least; the threads that wait take less


class Awaited(DatasetEvaluator):
    """An evaluator whose results the other processes wait for.

    Args:
        evaluator: the same on all processes. It computes the results on the first one after the
            last collective operation, as Detectron2's do.
    """

    def __init__(self, evaluator: DatasetEvaluator):
        self.evaluator = evaluator
        self._expected = 0

    def reset(self) -> None:
        """Begin an evaluation."""
        # None ends before all processes have begun it.
        self._expected = _store().add(DONE, 0) + 1
        self.evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take a batch."""
        self.evaluator.process(inputs, outputs)

    def evaluate(self) -> dict | None:
        """Compute the results on the first process, and wait for them on the others.

        Raises:
            torch.distributed.DistError: the first process did not compute for the timeout.
        """
        store, timeout = _store(), _timeout()
        if comm.is_main_process():
            try:
                with telling_of_work(store, timeout):
                    return self.evaluator.evaluate()
            finally:
                store.add(DONE, 1)
        results = self.evaluator.evaluate()
        wait_for_first(store, self._expected, timeout)
        return results


@contextlib.contextmanager
def telling_of_work(store: dist.Store, timeout: float) -> Iterator[None]:
    """Count in the store as long as this process, or one that it started, uses the CPU.

    Args:
        store: the store.
        timeout: for how long the others wait, in seconds.
    """
    end, every = threading.Event(), timeout / 10

    def run() -> None:
        before = _used()
        while not end.wait(every):
            now = _used()
            if now - before > BUSY * every:
                store.add(WORK, 1)
            before = now

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def wait_for_first(store: dist.Store, expected: int, timeout: float) -> None:
    """Wait until so many evaluations are done.

    Args:
        store: the store.
        expected: the number of evaluations since the start.
        timeout: for how long, in seconds, the first process may compute nothing.

    Raises:
        torch.distributed.DistError: it took longer.
    """
    last, since = store.add(WORK, 0), time.monotonic()
    while store.add(DONE, 0) < expected:
        work = store.add(WORK, 0)
        if work != last:
            last, since = work, time.monotonic()
        elif time.monotonic() - since > timeout:
            raise dist.DistError(f"timed out: no results of an evaluation for {timeout:g} seconds")
        time.sleep(LOOK_SECONDS)


def _used() -> float:
    """The CPU time of this process and of those that it started, such as a pool, in seconds."""
    children = [child.pid for child in multiprocessing.active_children()]
    return time.process_time() + sum(cpu_seconds(pid) for pid in children if pid is not None)


def _timeout() -> float:
    """That of collective operations between CPUs, in seconds."""
    backend = comm._get_global_gloo_group()._get_backend(torch.device("cpu"))
    return float(backend.options._timeout.total_seconds())


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()
