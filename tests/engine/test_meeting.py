"""Machines that meet, or learn why they cannot; ranks that are silent. Here machines are threads.

tests/faults/test_many_processes.py has the same with processes that are killed and stopped.
"""

import socket
import threading
import time
from argparse import Namespace
from datetime import timedelta

import pytest
from srnet.engine import heartbeat, meeting
from srnet.engine.heartbeat import Heartbeat, Watch
from srnet.engine.meeting import join, meet, parse_url
from torch.multiprocessing import ProcessExitedException

pytestmark = pytest.mark.fault("many processes")
LONG, SHORT = timedelta(seconds=60), timedelta(seconds=1)


@pytest.fixture
def url():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{s.getsockname()[1]}"


def machine(url, rank, machines=2, gpus=1):
    return Namespace(num_gpus=gpus, num_machines=machines, machine_rank=rank, dist_url=url)


def test_machines_meet_in_any_order(url, capsys):
    found = {}

    def join_later():
        found[1] = meet(machine(url, 1), LONG)

    other = threading.Thread(target=join_later)
    other.start()
    found[0] = meet(machine(url, 0), LONG)
    other.join(60)
    found[0].store.set("key", "value")
    assert found[1].store.get("key") == b"value"
    assert found[0].url == found[1].url == url


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_waited_for_is_said_again_and_again(url, capsys, monkeypatch, rank):
    monkeypatch.setattr(meeting, "SAY_SECONDS", 0.3)
    whom = f"1 of 2 machines at {url}" if rank == 0 else f"the first machine at {url}"
    with pytest.raises(TimeoutError, match=r"for 0\.0166667 minutes \(--timeout\)") as error:
        meet(machine(url, rank), SHORT)
    assert whom in str(error.value)
    assert ("machine-rank 1 is missing" if rank == 0 else "refused") in str(error.value)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert lines[0] == f"waiting for {whom} (0 s so far)"
    assert all(line.startswith(f"waiting for {whom} (") for line in lines)


@pytest.mark.parametrize(
    "other, message",
    [
        ({"rank": 0, "machines": 3}, "--machine-rank 0: the process"),
        ({"rank": 1, "machines": 3}, "--num-machines 3: the first machine .* was started with 2"),
        ({"rank": 1, "gpus": 4}, "--num-gpus 4: the first machine .* was started with 1"),
    ],
)
def test_machines_that_contradict_each_other(url, monkeypatch, other, message):
    monkeypatch.setattr(meeting, "process_exists", lambda pid: True)
    first = []  # holds the store open
    waiting = threading.Thread(target=lambda: first.append(meet(machine(url, 0), LONG)))
    waiting.start()
    with pytest.raises(ValueError, match=message):
        if other["rank"] == 0:  # on another host, as the port is taken on this one
            store = join(*parse_url(url), LONG).store
            store.wait(["srnet/machine/0"], LONG)
            meeting._sign_in(store, meeting.machine_of(machine(url, **other)))
        else:
            meet(machine(url, **other), LONG)
    assert not first  # it does not start with a machine that was refused
    meet(machine(url, 1), LONG)
    waiting.join(60)
    assert first


def test_a_port_that_is_taken():
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(OSError, match=f"the port {port} is in use on this machine"):
            meet(machine(f"tcp://127.0.0.1:{port}", 0), SHORT)


@pytest.mark.parametrize(
    "wrong", ["host:29500", "tcp://host", "tcp://host:0", "tcp://host:99999", "tcp://:29500", "x"]
)
def test_a_wrong_url_is_named(wrong):
    with pytest.raises(ValueError, match="must be auto or tcp://HOST:PORT") as error:
        parse_url(wrong)
    assert wrong in str(error.value)


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "ROLL_CALL_SECONDS", 1)
    return meet(machine("auto", 0, machines=1), SHORT)


def client(alone):
    return join(alone.host, alone.port, SHORT)


def test_an_error_of_gloo_names_the_silent_rank(alone):
    beats = [Heartbeat(client(alone), rank, 3) for rank in range(3)]
    with beats[1].beating():
        with beats[2].beating():
            pass
        # Rank 2 has ended, rank 1 is at work.
        with pytest.raises(TimeoutError) as late, beats[0].beating():
            raise RuntimeError("[gloo/transport/tcp] Timed out waiting 1000ms for recv operation")
    assert "rank 2 (process" in str(late.value) and "did not answer within" in str(late.value)
    assert "rank 1" not in str(late.value)


def test_other_errors_stay_as_they_are(alone):
    error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError) as raised, Heartbeat(client(alone), 0, 2).beating():
        raise error
    assert raised.value is error


def test_the_launcher_ends_the_processes_of_this_machine(alone, monkeypatch):
    killed = []
    monkeypatch.setattr(heartbeat.os, "kill", lambda pid, number: killed.append((pid, number)))
    hanging = threading.Event()
    with (
        pytest.raises(TimeoutError, match=r"^rank 1 \(process \d+ on host .*\) did not answer"),
        Heartbeat(client(alone), 0, 2).beating(),
        Watch(alone, 2, range(2)),
    ):
        stopped = Heartbeat(client(alone), 1, 2)
        monkeypatch.setattr(stopped, "_run", lambda: stopped.meeting.store.set("srnet/beat/1", "7"))
        with stopped.beating():
            end = time.monotonic() + 30
            while len(killed) < 2 and time.monotonic() < end:
                hanging.wait(0.05)
            raise ProcessExitedException("killed", 0, 1, -9, "SIGKILL")
    assert len(killed) == 2 and {number for _, number in killed} == {9}


def test_a_rank_that_beats_is_not_silent(alone, monkeypatch):
    monkeypatch.setattr(heartbeat.os, "kill", lambda *args: pytest.fail("killed"))
    with Heartbeat(client(alone), 0, 1).beating(), Watch(alone, 1, range(1)) as watch:
        time.sleep(2)  # twice the timeout
    assert watch.reason == ""
