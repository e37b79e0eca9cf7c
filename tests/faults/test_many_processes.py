"""Processes and machines that are killed, stopped, hang or never come: the others end and say who.

The machines are launchers on this one, which meet at a port of the loopback.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from srnet.cli.errors import report
from srnet.engine import launch

pytestmark = [pytest.mark.fault("many processes"), pytest.mark.faults_slow]
SECONDS = 12  # the timeout
LATEST = 300  # a bound for a machine that does much else; a quiet one needs a tenth of it


def work(args) -> None:
    """Talk to the others until the end of time, or hang."""
    import torch
    import torch.distributed as dist
    from detectron2.utils import comm

    rank = comm.get_rank()
    if args.results:
        return results(args)
    for step in range(10**9):
        dist.all_reduce(torch.tensor([step]))
        if step == 10:
            path = Path(args.folder) / f"{rank}.json"
            path.with_suffix(".new").write_text(json.dumps(os.getpid()))
            path.with_suffix(".new").rename(path)
        if step > 10 and rank == args.hangs:
            time.sleep(600)
        if step > 10 and rank == args.fails:
            raise ValueError("the data are gone")
        time.sleep(0.02)


class Slow:
    """An evaluator whose results take longer than the timeout, or never come."""

    def __init__(self, args):
        self.args = args

    def reset(self):
        pass

    def evaluate(self):
        from detectron2.utils import comm

        comm.synchronize()
        if comm.is_main_process():
            end = time.monotonic() + 2 * SECONDS
            while self.args.results == "slow" and time.monotonic() < end:
                sum(range(1000))
            time.sleep(600 if self.args.results == "never" else 0)


def results(args):
    """Evaluate twice."""
    from detectron2.utils import comm
    from srnet.engine.first_process import Awaited

    for _ in range(2):
        evaluator = Awaited(Slow(args))
        evaluator.reset()
        evaluator.evaluate()
    comm.synchronize()
    (Path(args.folder) / f"{comm.get_rank()}.done").touch()


@pytest.fixture
def start(tmp_path):
    """Start a launcher: start(num_gpus=2, ...)."""
    begun = []

    def begin(**options):
        defaults = {"num_machines": 1, "machine_rank": 0, "dist_url": "auto", "hangs": -1}
        defaults |= {"timeout": SECONDS / 60, "fails": -1, "results": "", "folder": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(defaults | options)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pids(folder, count):
    """The ids of the processes, when all are at work."""
    end = time.monotonic() + LATEST
    while time.monotonic() < end:
        if len(list(folder.glob("*.json"))) == count:
            return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]
        time.sleep(0.1)
    raise AssertionError(f"only {list(folder.iterdir())} work")


def free_url():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{s.getsockname()[1]}"


def line(process, seconds):
    """The one line that a launcher ends with, in time."""
    _, err = process.communicate(timeout=seconds)
    assert process.returncode == 1, err[-3000:]
    assert "Traceback" not in err
    lines = [text for text in err.splitlines() if text.startswith("launched: error: ")]
    assert len(lines) == 1, err[-3000:]
    return lines[0]


def ended(ids):
    """Whether no process is left; those that end do so within seconds."""
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in ids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_named(start, tmp_path, processes, rank):
    launcher = start(num_gpus=processes)
    found = pids(tmp_path, processes)
    os.kill(found[rank], signal.SIGSTOP)
    said = line(launcher, LATEST)
    assert f"rank {rank} (process {found[rank]} on host {socket.gethostname()})" in said
    assert "did not answer within 0.2 minutes (--timeout)" in said
    assert said.count("rank ") == 1
    assert ended(found)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_rank_that_hangs_is_named(start, tmp_path, processes):
    launcher = start(num_gpus=processes, hangs=1)
    found = pids(tmp_path, processes)
    said = line(launcher, LATEST)
    assert f"rank 1 (process {found[1]} " in said and "did not answer within" in said
    assert said.count("rank ") == 1
    assert ended(found)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_killed_rank_ends_the_job(start, tmp_path, processes):
    launcher = start(num_gpus=processes)
    found = pids(tmp_path, processes)
    os.kill(found[1], signal.SIGKILL)
    assert re.search("rank 1 ended with SIGKILL|rank 1 .* has ended", line(launcher, LATEST))
    assert ended(found)


@pytest.mark.parametrize("processes", [2, 4])
def test_an_error_of_one_rank_is_the_message(start, tmp_path, processes):
    launcher = start(num_gpus=processes, fails=1)
    found = pids(tmp_path, processes)
    assert line(launcher, LATEST) == "launched: error: the data are gone"
    assert ended(found)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_two_machines_name_the_rank_of_one(start, tmp_path, number):
    url = free_url()
    machines = [start(num_gpus=2, num_machines=2, machine_rank=i, dist_url=url) for i in (1, 0)][
        ::-1
    ]
    found = pids(tmp_path, 4)
    os.kill(found[3], number)
    said = [line(machine, LATEST) for machine in machines]
    assert f"rank 3 (process {found[3]} " in said[0]
    if number == signal.SIGSTOP:
        assert said[0] == said[1]
    assert ended(found)


@pytest.mark.parametrize("here", [0, 1])
def test_a_machine_that_does_not_come(start, here):
    url = free_url()
    launcher = start(num_gpus=1, num_machines=2, machine_rank=here, dist_url=url)
    _, err = launcher.communicate(timeout=LATEST)
    whom = f"1 of 2 machines at {url}" if here == 0 else f"the first machine at {url}"
    first, *_, last = [text for text in err.splitlines() if "wait" in text]
    assert first == f"waiting for {whom} (0 s so far)"
    assert last.startswith(f"launched: error: waited for {whom} for 0.2 minutes (--timeout): ")
    assert ("machine-rank 1 is missing" if here == 0 else "refused") in last
    assert launcher.returncode == 1


def test_a_port_that_is_taken(start):
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        port = s.getsockname()[1]
        launcher = start(num_gpus=1, num_machines=2, dist_url=f"tcp://127.0.0.1:{port}")
        assert f"the port {port} is in use on this machine" in line(launcher, LATEST)


def test_two_machines_of_one_rank(start):
    common = {"num_gpus": 1, "num_machines": 3, "dist_url": free_url(), "timeout": 2}
    first = start(**common)
    assert "waiting for" in first.stderr.readline()
    twins = [start(**common, machine_rank=1) for _ in range(2)]
    end = time.monotonic() + LATEST
    while all(twin.poll() is None for twin in twins) and time.monotonic() < end:
        time.sleep(0.2)
    [refused] = [twin for twin in twins if twin.poll() is not None]
    [other] = [twin for twin in twins if twin is not refused]
    assert f"--machine-rank 1: the process {other.pid} on host" in line(refused, 1)
    first.kill()
    assert "the first machine at" in line(other, LATEST)


@pytest.mark.parametrize("option", ["num_machines", "num_gpus"])
def test_machines_with_other_numbers(start, option):
    common = {"num_gpus": 1, "num_machines": 2, "dist_url": free_url(), "timeout": 2}
    start(**common)
    other = start(**{**common, "machine_rank": 1, option: 3})
    said = line(other, LATEST)
    assert f"--{option.replace('_', '-')} 3: the first machine" in said


def test_results_that_take_longer_than_the_timeout(start, tmp_path):
    launcher = start(num_gpus=2, results="slow")
    _, err = launcher.communicate(timeout=LATEST)
    assert launcher.returncode == 0, err[-3000:]
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["0.done", "1.done"]


def test_results_that_never_come(start):
    said = line(start(num_gpus=2, results="never"), LATEST)
    assert "rank 0 (process " in said and "did not answer within 0.2 minutes" in said


SIGNALLED = """
import os, signal, sys
from srnet.engine import stop_signals_passed_on
with stop_signals_passed_on(2):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    raise AssertionError("not reached")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_before_there_are_processes(number):
    command = [sys.executable, "-c", SIGNALLED, number.name]
    assert subprocess.run(command).returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("whom", ["launcher", "rank"])
def test_a_signal_outside_of_a_training(start, tmp_path, number, whom):
    """There is nothing to save: all end at once, with the status of the signal."""
    launcher = start(num_gpus=2)
    found = pids(tmp_path, 2)
    os.kill(launcher.pid if whom == "launcher" else found[1], number)
    _, err = launcher.communicate(timeout=LATEST)
    assert launcher.returncode == 128 + number, err[-3000:]
    assert ended(found)


def test_a_launcher_that_is_killed_takes_its_processes_with_it(start, tmp_path):
    launcher = start(num_gpus=2)
    found = pids(tmp_path, 2)
    launcher.kill()
    launcher.wait()
    assert ended(found)


if __name__ == "__main__":
    arguments = SimpleNamespace(**json.loads(sys.argv[1]))
    sys.exit(report("launched", lambda: launch(work, arguments)))
