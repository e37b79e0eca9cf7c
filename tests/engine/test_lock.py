"""Two trainings never share an OUTPUT_DIR, and a lock that was left does not stop the next one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from classifier_runs import build, make_sets, train
from srnet.engine.lock import NAME, STALE_SECONDS, OutputDirInUse, OutputDirLock

pytestmark = pytest.mark.fault("two trainings in one folder")

HOLD = """
import sys, time
from srnet.engine.lock import OutputDirLock
OutputDirLock(sys.argv[1]).take()
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the folder."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_training_ends_before_it_builds(root, sets, tmp_path, holder, monkeypatch):
    from srnet.engine import Trainer

    monkeypatch.setattr(Trainer, "build_model", lambda *args: pytest.fail("built"))
    with pytest.raises(OutputDirInUse) as refused:
        build(root, sets, tmp_path)
    message = str(refused.value)
    for part in (str(holder.pid), socket.gethostname(), str(tmp_path / NAME)):
        assert part in message
    assert len(message.splitlines()) == 1
    assert json.loads((tmp_path / NAME).read_text())["pid"] == holder.pid


def test_a_training_that_began_meanwhile(root, sets, tmp_path):
    trainer, _ = build(root, sets, tmp_path)
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        with pytest.raises(OutputDirInUse):
            trainer.train()
    finally:
        process.kill()
        process.wait()
    assert not list(tmp_path.glob("model*"))


def test_a_killed_training_leaves_no_obstacle(root, sets, tmp_path, holder, caplog):
    holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # a zombie is gone, too: nobody has waited for it yet
        with open(f"/proc/{holder.pid}/stat") as f:
            if " Z " in f.read():
                break
    train(root, sets, tmp_path)
    assert f"taking over the lock {tmp_path / NAME}" in caplog.text
    assert (tmp_path / "model_final.pth").exists() and not (tmp_path / NAME).exists()


def write(folder, age=0, **owner):
    path = folder / NAME
    path.write_text(json.dumps(owner) if owner else "")
    os.utime(path, (time.time() - age,) * 2)


def test_another_process_with_the_same_id(tmp_path):
    """The machine was started again, and the number is in use: this one began at another time."""
    write(tmp_path, host=socket.gethostname(), pid=os.getppid(), process_start="boot 1")
    OutputDirLock(str(tmp_path)).take()
    assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    "age, held", [(0, True), (STALE_SECONDS - 60, True), (STALE_SECONDS + 60, False)]
)
def test_a_lock_of_another_host(tmp_path, age, held):
    write(tmp_path, age, host="elsewhere", pid=os.getpid(), started="2026-01-01 00:00:00")
    if held:
        with pytest.raises(
            OutputDirInUse, match=r"process \d+ on host elsewhere, since 2026-01-01"
        ):
            OutputDirLock(str(tmp_path)).take()
    else:
        OutputDirLock(str(tmp_path)).take()
        assert json.loads((tmp_path / NAME).read_text())["host"] == socket.gethostname()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("age, held", [(0, True), (120, False)])
def test_a_lock_whose_writer_was_killed(tmp_path, age, held):
    write(tmp_path, age)
    lock = OutputDirLock(str(tmp_path))
    if held:
        with pytest.raises(OutputDirInUse):
            lock.take()
    else:
        lock.take()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\0",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"host": "%b", "pid": 0}',
        b'{"host": "%b", "pid": -1}',
        b'{"host": "%b", "pid": 1e9}',
        b'{"host": "%b", "pid": 99999999999999999999}',
        b'{"host": "%b", "pid": true}',
        b'{"host": 3, "pid": {}}',
    ],
)
def test_a_lock_that_nobody_wrote(tmp_path, tried, content):
    """It is taken over once it is old, as that of a machine that is gone."""
    tried(f"lock: {content[:30]}")
    path = tmp_path / NAME
    path.write_bytes(content.replace(b"%b", socket.gethostname().encode()))
    with pytest.raises(OutputDirInUse):
        OutputDirLock(str(tmp_path)).take()
    os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    lock = OutputDirLock(str(tmp_path))
    lock.take()
    lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file(root, sets, tmp_path, tried, make):
    tried(f"lock: {make.__name__}")
    make(tmp_path / NAME)
    with pytest.raises(OSError, match=rf"{NAME} is not a regular file"):
        build(root, sets, tmp_path)


def test_only_the_own_lock_is_removed(tmp_path):
    lock = OutputDirLock(str(tmp_path))
    lock.take()
    write(tmp_path, host="elsewhere", pid=1)
    lock.release()
    assert (tmp_path / NAME).exists()


def test_an_error_releases_the_lock(root, sets, tmp_path):
    trainer, _ = build(root, sets, tmp_path)
    trainer.run_step = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert not (tmp_path / NAME).exists()
