"""Find the process that does not answer, and end the others with its name.

Every process beats once a second in the store of the launch. The launcher of each machine looks at
the beats: a process that is stopped, or whose machine is gone, is silent, and after the timeout all
end. A process that beats but hangs lets the others run into the timeout of a collective operation;
these call the roll, and who is not there is named.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from .meeting import Meeting, minutes

BEAT_SECONDS = 1.0
ROLL_CALL_SECONDS = 5.0
ENDED = "ended"
FAILURE = "srnet/failure"
_OF_COMMUNICATION = re.compile(r"gloo|nccl|monitoredBarrier", re.IGNORECASE)


def _beat(rank: int) -> str:
    return f"srnet/beat/{rank}"


def _who(rank: int) -> str:
    return f"srnet/who/{rank}"


def _heard(first: int) -> str:
    """Set by the launcher that has the ranks from `first` on, when it knows why all end."""
    return f"srnet/heard/{first}"


def _call(rank: int) -> str:
    return f"srnet/call/{rank}"


def _names(meeting: Meeting, ranks: list[int]) -> str:
    found = (json.loads(meeting.store.get(_who(rank))) for rank in ranks)
    return ", ".join(
        f"rank {rank} (process {who['pid']} on host {who['host']})"
        for rank, who in zip(ranks, found, strict=True)
    )


class Heartbeat:
    """The beats of this process, and what it can learn from those of the others.

    Args:
        meeting: its own client of the store.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, meeting: Meeting, rank: int, world_size: int):
        self.meeting, self.rank = meeting, rank
        self.others = [r for r in range(world_size) if r != rank]
        self._end = threading.Event()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat; turn an error of the communication into the name of who is missing.

        Raises:
            TimeoutError: a process did not answer in time.
            ConnectionError: a process is gone.
        """
        who = {"pid": os.getpid(), "host": socket.gethostname()}
        self.meeting.store.set(_who(self.rank), json.dumps(who))
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or _OF_COMMUNICATION.search(str(error)):
                self._explain(error)
            raise
        finally:
            self._end.set()
            thread.join(BEAT_SECONDS)
            with contextlib.suppress(RuntimeError):
                self.meeting.store.set(_beat(self.rank), ENDED)

    def _run(self) -> None:
        count = 0
        with contextlib.suppress(RuntimeError):  # the first machine is gone
            while not self._end.is_set():
                self.meeting.store.set(_beat(self.rank), str(count))
                count += 1
                self._end.wait(BEAT_SECONDS)

    def _explain(self, error: RuntimeError) -> None:
        """Raise an error that names who is missing, if someone is."""
        late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
        try:
            missing = self._call_the_roll()
            names = _names(self.meeting, missing)
            if not missing:
                return
            limit = f"did not answer within {minutes(self.meeting.timeout)} (--timeout)"
            text = f"{names} {limit if late else 'has ended or does not answer'}"
            failure = json.dumps({"text": text, "ranks": missing})
            found = self.meeting.store.compare_set(FAILURE, "", failure)
            text = json.loads(found)["text"]  # the first one to notice knows best
        except RuntimeError:
            text = f"the first machine at {self.meeting.url} does not answer"
        raise (TimeoutError if late else ConnectionError)(text) from error

    def _call_the_roll(self) -> list[int]:
        """The ranks that do not beat; where all do, those that met no error and so may hang."""
        store = self.meeting.store
        store.set(_call(self.rank), "here")
        beats = [_beat(rank) for rank in self.others]
        before: list[bytes] = []
        end = time.monotonic() + ROLL_CALL_SECONDS
        while time.monotonic() < end:
            if not before and store.check(beats):
                before = store.multi_get(beats)
            if store.check([_call(rank) for rank in self.others]):
                return []
            time.sleep(BEAT_SECONDS / 5)
        after = store.multi_get(beats) if before else []
        silent = [
            rank
            for rank, old, new in zip(self.others, before, after, strict=False)
            if old == new and not store.check([_call(rank)])
        ]
        return silent or [rank for rank in self.others if not store.check([_call(rank)])]


class Watch(contextlib.AbstractContextManager):
    """For a launcher: ends the processes of this machine when a rank is silent for too long.

    Args:
        meeting: the store.
        world_size: number of processes on all machines.
        local: the ranks on this machine.

    Raises:
        TimeoutError: at the end, instead of what the launcher raises; the message names the rank.
    """

    def __init__(self, meeting: Meeting, world_size: int, local: range):
        self.meeting, self.world_size, self.local = meeting, world_size, local
        self.reason = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end.set()
        self._thread.join(2 * BEAT_SECONDS)
        if self.reason and 0 in self.local:
            self._let_others_hear()
        if self.reason and isinstance(error, ProcessExitedException | ProcessRaisedException):
            raise TimeoutError(self.reason) from None

    def _let_others_hear(self) -> None:
        """Keep the store, which ends with this process, until the other launchers know why."""
        firsts = range(0, self.world_size, len(self.local))
        end = time.monotonic() + ROLL_CALL_SECONDS
        while time.monotonic() < end:
            if self.meeting.store.check([_heard(first) for first in firsts]):
                return
            time.sleep(BEAT_SECONDS / 5)

    def _run(self) -> None:
        try:
            self._watch()
        except RuntimeError:  # the first machine has ended, and these processes should
            if not self._end.wait(self.meeting.timeout.total_seconds()):
                self.reason = f"the first machine at {self.meeting.url} does not answer"

    def _watch(self) -> None:
        # Counted in looks, not in time: a job that was suspended and goes on is not silent.
        limit = self.meeting.timeout.total_seconds()
        every = max(1, int(limit / 20 / BEAT_SECONDS))
        beats = [_beat(rank) for rank in range(self.world_size)]
        last: list[bytes] = []
        silent, looks = [0] * self.world_size, 0
        while not self._end.wait(BEAT_SECONDS):
            looks += 1
            if self.meeting.store.check([FAILURE]):
                self._end_all(json.loads(self.meeting.store.get(FAILURE)))
                return
            if looks % every or not self.meeting.store.check(beats):
                continue
            now = self.meeting.store.multi_get(beats)
            for rank in range(self.world_size):
                same = bool(last) and now[rank] == last[rank] != ENDED.encode()
                silent[rank] = silent[rank] + every if same else 0
            last = now
            gone = [rank for rank, count in enumerate(silent) if count * BEAT_SECONDS > limit]
            if gone:
                text = f"{_names(self.meeting, gone)} did not answer within "
                text += f"{minutes(self.meeting.timeout)} (--timeout)"
                failure = json.dumps({"text": text, "ranks": list(range(self.world_size))})
                # The first launcher to notice tells the others.
                self._end_all(json.loads(self.meeting.store.compare_set(FAILURE, "", failure)))
                return

    def _end_all(self, failure: dict) -> None:
        self.reason = failure["text"]
        self.meeting.store.set(_heard(self.local.start), "")
        self._kill(failure["ranks"])

    def _kill(self, ranks: list[int]) -> None:
        """Kill those of some processes that are on this machine: stopped ones take no SIGTERM."""
        for rank in ranks:
            if rank in self.local:
                pid = json.loads(self.meeting.store.get(_who(rank)))["pid"]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class OwnWatch(Watch):
    """For a process without a launcher of this project: it ends itself when a rank is silent.

    Most often the error of a collective operation is faster and says the same. NCCL has none, and
    one that hangs elsewhere would wait for ever.

    Args:
        meeting: the store.
        world_size: number of processes on all machines.
        rank: of this process.
    """

    def __init__(self, meeting: Meeting, world_size: int, rank: int):
        super().__init__(meeting, world_size, range(rank, rank + 1))

    def _kill(self, ranks: list[int]) -> None:
        if self.local.start in ranks and not self._end.wait(2 * ROLL_CALL_SECONDS):
            print(f"error: {self.reason}", file=sys.stderr, flush=True)
            os._exit(1)
