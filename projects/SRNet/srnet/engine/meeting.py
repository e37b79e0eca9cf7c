"""Where machines or processes meet: they find each other, or say for whom they wait.

Detectron2's `launch`: the launcher of the first machine keeps a TCPStore at `--dist-url`, its
processes and those of the other machines are clients of it. So the machines can be counted before
any process is started, and the store outlives a process that is killed.

torchrun and srun: all processes are there already and meet at MASTER_ADDR:MASTER_PORT. torchrun
keeps a store there, which outlives a restart of the processes; under srun the first process does.
"""

import argparse
import contextlib
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlparse

from torch.distributed import DistError, DistNetworkError, PrefixStore, Store, TCPStore

from .cluster import Place
from .lock import process_exists

SAY_SECONDS = 30.0
LEAVE_SECONDS = 10.0
LOOK_SECONDS = 0.2
AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"


class Meeting(NamedTuple):
    """The store of a launch, as a process sees it.

    Attributes:
        host: where it is.
        port: where it is.
        timeout: of its operations.
        store: the client, in the first launcher also the server.
        room: the prefix of all keys of a start of processes.
        starts: how many starts of processes have met at this store, with this one.
        lobby: the store of all starts.
    """

    host: str
    port: int
    timeout: timedelta
    store: Store
    room: str = ""
    starts: int = 1
    lobby: Store | None = None

    @property
    def url(self) -> str:
        """As in `--dist-url`."""
        return f"tcp://{_in_url(self.host)}:{self.port}"


class Guest(NamedTuple):
    """Who comes to a meeting.

    Attributes:
        kind: "machine" or "process".
        rank_name: the option or variable of its rank.
        rank: from 0.
        size: how many there are.
        numbers: what must be the same for all, by the names of options or variables.
    """

    kind: str
    rank_name: str
    rank: int
    size: int
    numbers: dict[str, int]


def machine_of(args: argparse.Namespace) -> Guest:
    """The machine of a command line."""
    numbers = {"--num-machines": args.num_machines, "--num-gpus": args.num_gpus}
    return Guest("machine", "--machine-rank", args.machine_rank, args.num_machines, numbers)


def process_at(place: Place) -> Guest:
    """The process at a place."""
    numbers = {place.size_name: place.world_size}
    numbers |= {"the number of processes on a machine": place.local_size}
    return Guest("process", place.rank_name, place.rank, place.world_size, numbers)


def join(host: str, port: int, timeout: timedelta, room: str = "") -> Meeting:
    """Connect to the store of a launch."""
    store: Store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)
    return Meeting(host, port, timeout, PrefixStore(room, store) if room else store, room)


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
        guest = machine_of(args)
        _sign_in(meeting.store, guest)
        _wait_for_guests(meeting, guest)
    return meeting


def meet_processes(place: Place, timeout: timedelta) -> Meeting:
    """Wait until all processes that torchrun or srun started are there.

    The keys of one start of the processes must not meet those of an earlier one, which are still in
    torchrun's store. So the first process names a room to everyone who knocks, and all go on there.

    Args:
        place: of this process.
        timeout: how long to wait.

    Raises:
        ConnectionError: the store is gone.
        TimeoutError: processes are missing; the message has their ranks.
        OSError: the port is taken.
        ValueError: another process has the same rank, or was started with other numbers.
    """
    opens = place.rank == 0 and not place.hosted
    who = "the store of torchrun" if place.hosted else "the first process"
    if opens:
        local = place.local_size == place.world_size
        lobby = _open(place.host, place.port, timeout, local=local)
    else:
        _wait_for_address(place.host, place.port, timeout, who)
        lobby = join(place.host, place.port, timeout)
    name, guest = uuid.uuid4().hex, process_at(place)
    doors = [f"srnet/door/{rank}" for rank in range(1, place.world_size)]

    def let_in() -> None:
        for door in doors:
            if lobby.store.check([door]):
                lobby.store.set(lobby.store.get(door).decode(), name)

    try:
        if place.rank:
            lobby.store.set(doors[place.rank - 1], name)
            _wait(
                lambda: lobby.store.check([name]),
                lambda: f"the first process at {lobby.url}",
                lambda: f"{guest.rank_name} 0 has not come",
                timeout,
            )
            name = lobby.store.get(name).decode()
        meeting = lobby._replace(store=PrefixStore(name, lobby.store), room=name)
        if place.rank == 0:
            meeting.store.set("starts", str(lobby.store.add("srnet/starts", 1)))
        _sign_in(meeting.store, guest)
        _wait_for_guests(meeting, guest, meanwhile=let_in if place.rank == 0 else None)
        starts = int(meeting.store.get("starts"))
        return meeting._replace(starts=starts, lobby=lobby.store)
    except DistError as error:
        raise ConnectionError(f"{who} at {lobby.url} has ended") from error


def leave(meeting: Meeting, place: Place) -> None:
    """Leave a meeting of processes; who keeps the store waits for the others, for a while."""
    with contextlib.suppress(RuntimeError):
        left = meeting.store.add("srnet/left", 1)
        end = time.monotonic() + LEAVE_SECONDS
        keeps = place.rank == 0 and not place.hosted
        while keeps and left < place.world_size and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            left = meeting.store.add("srnet/left", 0)


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


def _key(guest: Guest, rank: int) -> str:
    return f"srnet/{guest.kind}/{rank}"


def _open(host: str, port: int, timeout: timedelta, *, local: bool) -> Meeting:
    """Open the store on this machine, and check that `host` leads to it."""
    try:
        store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timeout)
    except DistNetworkError as error:
        text = str(error)
        if "EADDRINUSE" not in text and "already in use" not in text:
            raise
        raise OSError(
            f"tcp://{_in_url(host)}:{port}: the port {port} is in use on this machine; choose "
            "another with --dist-url (srun: MASTER_PORT), the same on all machines"
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


def _sign_in(store: Store, guest: Guest) -> None:
    """Tell the others that this guest is there, and that it was started as they were."""
    here, key = socket.gethostname(), _key(guest, guest.rank)
    own = {"host": here, "pid": os.getpid(), "numbers": guest.numbers}
    if guest.rank > 0:  # before it is there: the first must never count one that is then refused
        first = json.loads(store.get(_key(guest, 0)))
        for name, number in guest.numbers.items():
            if number != first["numbers"].get(name):
                raise ValueError(
                    f"{name} {number}: the first {guest.kind} ({first['host']}) was started with "
                    f"{first['numbers'].get(name)}; it must be the same on all"
                )
    text = json.dumps(own)
    found = store.compare_set(key, "", text).decode()
    if found != text:
        other = json.loads(found)
        if other["host"] != here or process_exists(other["pid"]):
            raise ValueError(
                f"{guest.rank_name} {guest.rank}: the process {other['pid']} on host "
                f"{other['host']} has joined as this {guest.kind} already"
            )
        store.set(key, text)  # it was started again


def _wait_for_guests(
    meeting: Meeting, guest: Guest, *, meanwhile: Callable[[], None] | None = None
) -> None:
    """Wait until all have signed in.

    Raises:
        ConnectionError: the first one ended meanwhile.
        TimeoutError: some are missing; the message has their ranks.
    """
    missing = list(range(guest.size))
    several = guest.kind + ("es" if guest.kind.endswith("s") else "s")

    def complete() -> bool:
        if meanwhile is not None:
            meanwhile()
        missing[:] = [rank for rank in missing if not meeting.store.check([_key(guest, rank)])]
        return not missing

    try:
        _wait(
            complete,
            lambda: f"{len(missing)} of {guest.size} {several} at {meeting.url}",
            lambda: f"the {guest.rank_name.lstrip('-')} {', '.join(map(str, missing))} is missing",
            meeting.timeout,
        )
    except DistError as error:
        raise ConnectionError(f"the first {guest.kind} at {meeting.url} has ended") from error


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
