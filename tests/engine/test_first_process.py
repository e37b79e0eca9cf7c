"""The other processes wait for the results of the first one while it computes, and no longer."""

import threading
import time

import pytest
import torch.distributed as dist
from srnet.engine.first_process import DONE, WORK, telling_of_work, wait_for_first

pytestmark = pytest.mark.fault("many processes")


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def test_a_process_that_computes_is_waited_for():
    """For longer than the timeout; it stands in another thread here."""
    store = dist.HashStore()

    def first():
        with telling_of_work(store, 2):
            compute(5)
        store.add(DONE, 1)

    thread = threading.Thread(target=first)
    thread.start()
    wait_for_first(store, 1, 2)
    thread.join()
    assert store.add(WORK, 0) > 0 and store.add(DONE, 0) == 1


def test_a_process_that_hangs_is_not():
    store = dist.HashStore()
    with telling_of_work(store, 1), pytest.raises(dist.DistError, match="timed out: no results"):
        wait_for_first(store, 1, 1)
    assert store.add(WORK, 0) < 10


def test_results_that_are_there():
    store = dist.HashStore()
    store.add(DONE, 3)
    wait_for_first(store, 3, 60)
