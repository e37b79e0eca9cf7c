"""A lock on OUTPUT_DIR: two trainings in one folder would mix their files.

`training.lock` names the host, the process and when it began. A lock is stale, and is taken over,
where its process is gone (on the same host, also after a kill or a restart of the machine) or where
it was not refreshed for ten minutes (another host, whose processes cannot be seen). A training
refreshes its lock every minute. The file is created with O_EXCL, which NFS 3 and later honour.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TypeGuard

from detectron2.utils import comm

from srnet.data.paths import check_regular, written_to

NAME = "training.lock"
REFRESH_SECONDS = 60
STALE_SECONDS = 600


class OutputDirInUse(RuntimeError):
    """Another training runs in this OUTPUT_DIR."""


@contextlib.contextmanager
def output_dir_locked(folder: str) -> Iterator[None]:
    """Hold the lock of a folder; the main process takes it, and all raise where it cannot.

    Raises:
        OutputDirInUse: a training that still runs has it.
    """
    refusal, lock = "", OutputDirLock(folder)
    if comm.is_main_process():
        try:
            lock.take()
        except (OutputDirInUse, OSError) as error:
            refusal = str(error)
    refusal = comm.all_gather(refusal)[0]
    if refusal:
        raise OutputDirInUse(refusal)
    try:
        yield
    finally:
        lock.release()


def check_unlocked(folder: str) -> None:
    """Refuse a folder that another training uses, before anything is built.

    Raises:
        OutputDirInUse: it does; the message names host, process and file.
    """
    OutputDirLock(folder).check()


class OutputDirLock:
    """The lock of one folder.

    Args:
        folder: `OUTPUT_DIR`; it is made where it is missing.
    """

    def __init__(self, folder: str):
        self.path = os.path.join(folder, NAME)
        self._text = ""
        self._released = threading.Event()

    def take(self) -> None:
        """Create the lock, or take over a stale one.

        Raises:
            OutputDirInUse: another training holds it.
        """
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        owner |= {"process_start": process_start(os.getpid())}
        owner |= {"started": time.strftime("%Y-%m-%d %H:%M:%S")}
        text = json.dumps(owner)
        while not self._create(text):
            self.check()
            self._take_away_stale()
        self._text = text
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def check(self) -> None:
        """Raise OutputDirInUse where another training holds the lock."""
        owner = read_owner(self.path)
        if owner is not None and is_held(owner, self.path):
            raise OutputDirInUse(
                f"another training runs in this OUTPUT_DIR: process {owner.get('pid')} on host "
                f"{owner.get('host')}, since {owner.get('started')} ({self.path})"
            )

    def release(self) -> None:
        """Remove the lock, if it is still this process's."""
        self._released.set()
        if self._text and _read(self.path) == self._text:
            os.remove(self.path)
        self._text = ""

    def _create(self, text: str) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with written_to(self.path), os.fdopen(descriptor, "w") as file:
            file.write(text)
        return True

    def _take_away_stale(self) -> None:
        """Move the stale lock aside; another process may have been faster."""
        text = _read(self.path)
        aside = f"{self.path}.{socket.gethostname()}.{os.getpid()}"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _read(aside) != text:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.path)  # it was another's new lock: give it back
        else:
            logging.getLogger(__name__).warning(
                "taking over the lock %s of a training that is gone: %s", self.path, text or "empty"
            )
        os.remove(aside)

    def _keep_fresh(self) -> None:
        while not self._released.wait(REFRESH_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def read_owner(path: str) -> dict | None:
    """Who holds a lock; None without a file, an empty dict where it cannot be understood."""
    text = _read(path)
    if text is None:
        return None
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def is_held(owner: dict, path: str) -> bool:
    """Whether the owner of a lock still runs, and is not this process."""
    if owner.get("host") == socket.gethostname() and is_process_id(owner.get("pid")):
        if owner["pid"] == os.getpid():
            return False
        return process_exists(owner["pid"]) and (
            owner.get("process_start") in (None, process_start(owner["pid"]))
        )
    try:
        age = time.time() - os.path.getmtime(path)
    except FileNotFoundError:
        return False
    # A lock without a text may be one that is being written.
    return age < (STALE_SECONDS if owner else REFRESH_SECONDS)


def is_process_id(value: object) -> TypeGuard[int]:
    """Whether a value may be the id of a process."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def process_exists(pid: int) -> bool:
    """Whether a process with this id runs on this machine; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    fields = _process_fields(pid)
    return not fields or fields[0] not in "ZX"


def process_start(pid: int) -> str | None:
    """When a process began, for telling it from a later one with its id; None if unknown.

    On Linux this is the start of the machine and the ticks since then.
    """
    fields = _process_fields(pid)
    return (
        f"{(_read('/proc/sys/kernel/random/boot_id') or '').strip()} {fields[19]}"
        if fields
        else None
    )


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used; 0 where it is gone or the system does not tell."""
    fields = _process_fields(pid)
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _process_fields(pid: int) -> list[str]:
    """/proc/PID/stat after the process's name, which may hold spaces: its state, its parent, ..."""
    return (_read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()


def _read(path: str) -> str | None:
    try:
        check_regular(path)
        with open(path, errors="replace") as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
