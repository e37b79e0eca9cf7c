"""Where the machines of a launch meet: they find each other, or say for whom they wait.

The launcher of the first machine keeps a TCPStore at `--dist-url`, its processes and those of the
other machines are clients of it. So the machines can be counted before any process is started, and
the store outlives a process that is killed.
"""

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlparse

from torch.distributed import DistError, DistNetworkError, TCPStore

from .lock import process_exists

SAY_SECONDS = 30.0
LOOK_SECONDS = 0.2
AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"


class Meeting(NamedTuple):
    """The store of a launch, as a process sees it.

    Attributes:
        host: where it is.
        port: where it is.
        timeout: of its operations.
        store: the client, in the first launcher also the server.
    """

    host: str
    port: int
    timeout: timedelta
    store: TCPStore

    @property
    def url(self) -> str:
        """As in `--dist-url`."""
        return f"tcp://{_in_url(self.host)}:{self.port}"


def join(host: str, port: int, timeout: timedelta) -> Meeting:
    """Connect to the store of a launch."""
    store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)
    return Meeting(host, port, timeout, store)


def meet(args: argparse.Namespace, timeout: timedelta) -> Meeting:
    """Wait until all machines are there.

    Args:
        args: `num_gpus`, `num_machines`, `machine_rank` and `dist_url`: "auto" or tcp://HOST:PORT.
        timeout: how long to wait.

    Raises:
        ConnectionError: the first machine ended meanwhile.
        TimeoutError: machines are missing; the message has their ranks.
        OSError: the port is taken.
        ValueError: another machine has the same rank, or was started with other numbers.
    """
    host, port = ("127.0.0.1", 0) if args.dist_url == "auto" else parse_url(args.dist_url)
    if args.machine_rank == 0:
        meeting = _open(host, port, timeout, local=args.num_machines == 1)
    else:
        _wait_for_address(host, port, timeout, "the first machine")
        meeting = join(host, port, timeout)
    if args.num_machines > 1:
        _sign_in(meeting.store, args)
        missing = list(range(args.num_machines))

        def complete() -> bool:
            missing[:] = [rank for rank in missing if not meeting.store.check([_key(rank)])]
            return not missing

        try:
            _wait(
                complete,
                lambda: f"{len(missing)} of {args.num_machines} machines at {meeting.url}",
                lambda: f"the machine-rank {', '.join(map(str, missing))} is missing",
                timeout,
            )
        except DistError as error:
            raise ConnectionError(f"the first machine at {meeting.url} has ended") from error
    return meeting


@contextlib.contextmanager
def as_agent_store() -> Iterator[None]:
    """Make the processes started here clients of the store, as torchrun does with its agent's."""
    before = os.environ.get(AGENT_STORE)
    os.environ[AGENT_STORE] = str(True)
    try:
        yield
    finally:
        if before is None:
            del os.environ[AGENT_STORE]
        else:
            os.environ[AGENT_STORE] = before


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of a `--dist-url`.

    Raises:
        ValueError: it is not tcp://HOST:PORT.
    """
    found = urlparse(url)
    try:
        port = found.port
    except ValueError:  # no number, or out of range
        port = None
    if found.scheme != "tcp" or not found.hostname or not port:
        raise ValueError(f"--dist-url {url}: must be auto or tcp://HOST:PORT, PORT from 1 to 65535")
    return found.hostname, port


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _key(rank: int) -> str:
    return f"srnet/machine/{rank}"


def _open(host: str, port: int, timeout: timedelta, *, local: bool) -> Meeting:
    """Open the store on this machine, and check that `host` leads to it."""
    try:
        store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timeout)
    except DistNetworkError as error:
        text = str(error)
        if "EADDRINUSE" not in text and "already in use" not in text:
            raise
        raise OSError(
            f"--dist-url tcp://{_in_url(host)}:{port}: the port {port} is in use on this machine; "
            "choose another, the same on all machines"
        ) from error
    if not (local and host in ("127.0.0.1", "localhost")):
        _wait_for_address(host, store.port, timeout, "this machine, the first,")
    return Meeting(host, store.port, timeout, store)


def _wait_for_address(host: str, port: int, timeout: timedelta, who: str) -> None:
    reason = [""]

    def answers() -> bool:
        try:
            with socket.create_connection((host, port), timeout=5):
                return True
        except OSError as error:
            reason[0] = str(error)
            return False

    address = f"tcp://{_in_url(host)}:{port}"
    _wait(answers, lambda: f"{who} at {address}", lambda: reason[0], timeout)


def _sign_in(store: TCPStore, args: argparse.Namespace) -> None:
    """Tell the others that this machine is there, and that it was started as they were."""
    rank, here = args.machine_rank, socket.gethostname()
    own = {"host": here, "pid": os.getpid()}
    own |= {"num_machines": args.num_machines, "num_gpus": args.num_gpus}
    if rank > 0:  # before it is there: the first must never count a machine that is then refused
        first = json.loads(store.get(_key(0)))
        for name in ("num_machines", "num_gpus"):
            if own[name] != first[name]:
                raise ValueError(
                    f"--{name.replace('_', '-')} {own[name]}: the first machine ({first['host']}) "
                    f"was started with {first[name]}; it must be the same on all"
                )
    text = json.dumps(own)
    found = store.compare_set(_key(rank), "", text).decode()
    if found != text:
        other = json.loads(found)
        if other["host"] != here or process_exists(other["pid"]):
            raise ValueError(
                f"--machine-rank {rank}: the process {other['pid']} on host {other['host']} has "
                "joined as this machine already"
            )
        store.set(_key(rank), text)  # it was started again


def _wait(
    ready: Callable[[], bool],
    whom: Callable[[], str],
    problem: Callable[[], str],
    timeout: timedelta,
) -> None:
    """Wait for something, and say so at once and then every half minute.

    Raises:
        TimeoutError: it took too long.
    """
    began, said = time.monotonic(), -SAY_SECONDS
    while not ready():
        waited = time.monotonic() - began
        if waited > timeout.total_seconds():
            raise TimeoutError(
                f"waited for {whom()} for {minutes(timeout)} (--timeout): {problem()}"
            )
        if waited - said >= SAY_SECONDS:
            said = waited
            print(f"waiting for {whom()} ({waited:.0f} s so far)", file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)


def minutes(timeout: timedelta) -> str:
    """A duration in words."""
    number = timeout.total_seconds() / 60
    return f"{number:g} minute{'' if number == 1 else 's'}"
