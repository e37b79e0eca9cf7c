"""Signals that end a training after the running iteration, with a checkpoint.

A scheduler that takes a machine back sends SIGTERM or SIGUSR1, a terminal SIGINT. The first one
lets the iteration end; then a checkpoint is saved and the process exits with 128 plus the number of
the signal: 143, 138 (on Linux) and 130. A second one, a second or more later, ends the process at
once.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import FrameType, TracebackType

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# A terminal, `timeout` or a launcher can deliver one request twice: to the process and its group.
SAME_REQUEST_SECONDS = 1.0


class TrainingStopped(SystemExit):
    """A signal ended the training, and `--resume` continues it.

    Args:
        number: the signal; the exit status is 128 more.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.signal = number


class EvaluationInterrupted(BaseException):
    """A signal came during an evaluation. No `except Exception` of an evaluator catches it."""


class StopSignals(contextlib.AbstractContextManager):
    """Receives stop signals while it is entered; the handlers of before are restored at the end.

    Outside of the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        received: the number of the first signal, 0 before it.
    """

    def __init__(self) -> None:
        self.received = 0
        self._received_at = 0.0
        self._interruptible = False
        self._before: dict[int, Callable | int | None] = {}
        self._mask: set[int | signal.Signals] | None = None
        self._watches_forks = False

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._before[number] = signal.signal(number, self._receive)
            # A forked process, such as a worker of an evaluator's pool, gets the handlers of
            # before; with these ones it would not end when the pool does. The signals are blocked
            # meanwhile: Python forgets those that come between.
            if not self._watches_forks:
                os.register_at_fork(
                    before=self._block,
                    after_in_parent=self._unblock,
                    after_in_child=self._leave_in_child,
                )
                self._watches_forks = True  # Python cannot take it back
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _block(self) -> None:
        if self._before:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def _unblock(self) -> None:
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None

    def _leave_in_child(self) -> None:
        self._restore()
        self._unblock()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block, such as an evaluation, that a signal leaves at once.

        Raises:
            EvaluationInterrupted: a signal came, before the block or in it.
        """
        self._interruptible = True
        try:
            if self.received:
                raise EvaluationInterrupted
            yield
        except RuntimeError as error:
            # The same signal killed a worker of the data loader, and that was noticed first.
            if self.received:
                raise EvaluationInterrupted from error
            raise
        finally:
            self._interruptible = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received:
            if now - self._received_at >= SAME_REQUEST_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.received, self._received_at = number, now
        if comm.is_main_process():
            # Not through logging: a handler may run in the middle of a line that is being logged.
            text = f"\n{signal.Signals(number).name}: saving a checkpoint after this iteration.\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
        if self._interruptible:
            raise EvaluationInterrupted


def agree_on_signal(received: int) -> int:
    """The signal that any process has received, the same number in all of them; 0 for none.

    With several processes this is one number in an all-reduce between CPUs, in every iteration;
    Detectron2 gathers the losses the same way. A GPU does not wait for it.
    """
    if comm.get_world_size() == 1:
        return received
    number = torch.tensor([received])
    dist.all_reduce(number, dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
    return int(number)


def wait_for_all(*, agreed: bool) -> None:
    """Wait until all processes are here.

    Args:
        agreed: whether all of them come. Then the first one may take its time to save a checkpoint.
            A signal in an evaluation can reach one process alone, which waits half a minute.
    """
    if comm.get_world_size() > 1:
        limit = timedelta(minutes=10) if agreed else timedelta(seconds=30)
        with contextlib.suppress(RuntimeError):
            dist.monitored_barrier(comm._get_global_gloo_group(), timeout=limit)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the stop signals in this thread and in the processes that it starts here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_working(init: Callable[[int], None] | None, worker: int) -> None:
    """Start a worker of a data loader that was started with :func:`signals_blocked`.

    A scheduler may send its signal to every process of a job. The worker goes on, since the running
    iteration may need it, and ends when its parent tells it to.

    Args:
        init: the loader's own `worker_init_fn`.
        worker: the number of the worker.
    """
    parent = os.getppid()

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    if init is not None:
        init(worker)


@contextlib.contextmanager
def stop_signals_passed_on(processes: int) -> Iterator[None]:
    """For the parent of Detectron2's `launch`: pass stop signals on to the processes it started.

    The parent waits for them, and ends with the exit status of a training that was stopped. Before
    there are any it ends at once.

    Args:
        processes: how many there are on all machines; a single one runs in the parent itself, and
            nothing is done here.

    Raises:
        SystemExit: a signal came.
    """
    if processes == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    received = 0

    def pass_on(number: int) -> None:
        nonlocal received
        received = number
        children = multiprocessing.active_children()
        if not children:  # one that is being started ends with its parent
            raise SystemExit(128 + number)
        for child in children:
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)

    try:
        with stop_signals_given_to(pass_on):
            yield
    except ProcessExitedException as error:
        code = error.exit_code
        code = 128 - code if code < 0 else code  # a process that had no handler yet
        if code - 128 in STOP_SIGNALS:
            raise SystemExit(code) from error
        raise
    if received:  # too late to stop anything
        raise SystemExit(128 + received)


@contextlib.contextmanager
def stop_signals_given_to(receive: Callable[[int], None]) -> Iterator[None]:
    """Call `receive` with the number of each stop signal; only Python's main thread can do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        receive(number)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
