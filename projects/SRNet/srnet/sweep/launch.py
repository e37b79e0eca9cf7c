"""Training the runs of a sweep, one after another, each in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from detectron2.config import CfgNode

from srnet.engine import TrainingStopped
from srnet.engine.signals import stop_signals_given_to

from .runs import Run, difference_to, final_metrics, has_checkpoint, lock_holder

Say = Callable[[str], None]


class Failure(Exception):
    """A run that could not be trained."""


class Elsewhere(Exception):
    """A run that another process trains now."""


def run_all(
    runs: Sequence[Run],
    configs: Mapping[str, CfgNode],
    opts: Sequence[str] = (),
    *,
    gpus: int = 1,
    say: Say = print,
) -> list[Run]:
    """Train what has not ended yet.

    A run with a checkpoint goes on from it. A run that another process trains is left to it; if it
    has ended without a result when the others are done, it is taken up here. After a run that
    fails, the others go on.

    Args:
        runs: in their order.
        configs: the config of each row by its name.
        opts: KEY VALUE pairs for all runs.
        gpus: `--num-gpus` of each training.
        say: prints a line.

    Returns:
        The runs that failed.

    Raises:
        TrainingStopped: a signal came; the running training has saved a checkpoint.
    """
    failed, elsewhere = [], []
    for number, run in enumerate(runs, start=1):
        prefix = f"[{number}/{len(runs)}] {run.name}: "
        try:
            _train(run, configs[run.row.name], opts, gpus, partial(_say, say, prefix))
        except Elsewhere as error:
            say(f"{prefix}skipped: {error}")
            elsewhere.append(run)
        except Failure as error:
            say(f"{prefix}failed: {error}")
            failed.append(run)
    left = [run for run in elsewhere if not lock_holder(run.folder)]
    return failed + (run_all(left, configs, opts, gpus=gpus, say=say) if left else [])


def _say(say: Say, prefix: str, text: str) -> None:
    say(prefix + text)


def _train(run: Run, cfg: CfgNode, opts: Sequence[str], gpus: int, say: Say) -> None:
    """Train a run, if it has not ended yet."""
    if holder := lock_holder(run.folder):
        raise Elsewhere(holder)
    begun = has_checkpoint(run.folder)
    ended = final_metrics(run.folder, cfg) is not None
    if begun or ended:
        difference = difference_to(cfg, run)
        if difference:
            raise Failure(
                f"{run.folder} was made with another config: {difference}; move it away, or choose "
                "another --output"
            )
    if ended:
        say("has ended before")
        return
    say(f"{'goes on from its last checkpoint' if begun else 'begins'}, log {run.log}")
    start = time.monotonic()
    status = _call(_command(run, opts, gpus), run, say)
    if final_metrics(run.folder, cfg) is None:
        if holder := lock_holder(run.folder):  # another process was faster
            raise Elsewhere(holder)
        raise Failure(_reason(run, status))
    seconds = round(time.monotonic() - start)
    say(f"ended after {seconds // 60}:{seconds % 60:02d} minutes")


def _command(run: Run, opts: Sequence[str], gpus: int) -> list[str]:
    """What a user would type; --resume starts anew where there is no checkpoint."""
    words = [sys.executable, "-m", "srnet", "train", "--config-file", str(run.row.base)]
    return [*words, "--resume", "--num-gpus", str(gpus), *run.options(opts)]


def _call(command: Sequence[str], run: Run, say: Say) -> int:
    """Run a training to its end, with what it prints in the log; return its exit status."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        received: list[int] = []

        def pass_on(number: int) -> None:
            received.append(number)
            process.send_signal(number)

        with stop_signals_given_to(pass_on):  # the training ends with a checkpoint
            status = process.wait()
    if received:
        name = signal.Signals(received[0]).name
        say(f"stopped by {name} with a checkpoint: the same command goes on")
        raise TrainingStopped(received[0])
    return status


def _reason(run: Run, status: int) -> str:
    """Why a training has no result: its last line, and where the rest is."""
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    if not status:
        how = "it ended without a last evaluation"
    with run.log.open(errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    last = f": {lines[-1][:300]}" if lines and status > 0 else ""
    return f"{how}{last} (log {run.log})"
