"""SIGTERM, SIGUSR1 and SIGINT end a training with a checkpoint, from which it goes on exactly."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase, launch
from srnet.checkpoint import Checkpointer
from srnet.engine import Trainer, TrainingStopped, close_process_groups, stop_signals_passed_on
from srnet.engine.signals import STOP_SIGNALS, StopSignals

pytestmark = pytest.mark.fault("signals")
EMA = {"SOLVER.EMA.ENABLED": True}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    from classifier_runs import make_sets  # not there in the processes

    return make_sets(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def whole(root, sets, tmp_path_factory):
    """The folder and the curve of the uninterrupted run."""
    from classifier_runs import train

    folder = tmp_path_factory.mktemp("whole")
    return folder, train(root, sets, folder, **EMA)[1]


class Send(HookBase):
    """Send a signal to this process in an iteration, at a named moment."""

    def __init__(self, number, iteration, times=1):
        self.number, self.iteration, self.times = number, iteration, times

    def before_step(self):
        if self.trainer.iter == self.iteration:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def stop(root, sets, folder, number, iteration, times=1, **more):
    from classifier_runs import build

    trainer, recorder = build(root, sets, folder, **EMA, **more)
    trainer.register_hooks([Send(number, iteration, times)])
    with pytest.raises(TrainingStopped) as stopped:
        trainer.train()
    assert stopped.value.code == 128 + number
    return recorder


@pytest.mark.parametrize("number, times", [(s, 1) for s in STOP_SIGNALS] + [(signal.SIGTERM, 3)])
def test_the_iteration_ends_and_the_run_goes_on_exactly(
    root, sets, whole, tmp_path, number, times, caplog
):
    from classifier_runs import train

    handlers = [signal.getsignal(s) for s in STOP_SIGNALS]
    recorder = stop(root, sets, tmp_path, number, 2, times)
    assert [signal.getsignal(s) for s in STOP_SIGNALS] == handlers
    assert list(recorder.losses) == [0, 1, 2]
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith("events")}
    wanted = {"model_0000001.pth", "model_0000002.pth", "last_checkpoint", "metrics.json"}
    assert names == wanted  # neither model_final.pth nor ema, nor a lock
    assert f"{signal.Signals(number).name}: training stopped after iteration 2" in caplog.text
    _, rest = train(root, sets, tmp_path, resume=True, **EMA)
    assert {**recorder.losses, **rest.losses} == whole[1].losses
    for name in ("model_final.pth", "ema/model_final.pth"):
        states = [torch.load(f / name, weights_only=True)["model"] for f in (whole[0], tmp_path)]
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key]), key
    lines = [json.loads(x)["iteration"] for x in (tmp_path / "metrics.json").open()]
    assert lines == [2, 3]


def test_a_periodic_checkpoint_is_not_saved_twice(root, sets, tmp_path, monkeypatch):
    saved, tag = [], Checkpointer.tag_last_checkpoint

    def record(self, name):
        saved.append(name)
        tag(self, name)

    monkeypatch.setattr(Checkpointer, "tag_last_checkpoint", record)
    stop(root, sets, tmp_path, signal.SIGTERM, 1)
    assert saved == ["model_0000001.pth"]


def test_no_evaluation_after_a_signal(root, sets, tmp_path, monkeypatch):
    """Neither the periodic one nor the last one; `--resume` makes up for it."""
    from classifier_runs import train

    def evaluate(*args):
        raise AssertionError("evaluated")

    more = {"evaluate": True, "DATALOADER.SKIP_BAD_IMAGES": True}
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "test", evaluate)
        stop(
            root, sets, tmp_path / "periodic", signal.SIGTERM, 0, **more, **{"TEST.EVAL_PERIOD": 1}
        )
        stop(root, sets, tmp_path / "last", signal.SIGTERM, 3, **more)
    assert not (tmp_path / "last" / "ema").exists()
    trainer, _ = train(root, sets, tmp_path / "last", resume=True, **more, **EMA)
    assert trainer._last_eval_results["classification"]["images"] == 7
    assert (tmp_path / "last" / "ema" / "model_final.pth").exists()


@pytest.mark.parametrize("period, checkpoint", [(3, "model_0000002.pth"), (0, "model_final.pth")])
def test_a_signal_leaves_an_evaluation_at_once(
    root, sets, tmp_path, monkeypatch, period, checkpoint
):
    from classifier_runs import build

    def evaluate(*args):
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(60)
        except Exception:
            pass  # as an evaluator might
        raise AssertionError("not reached")

    more = {"evaluate": True, "TEST.EVAL_PERIOD": period}
    trainer, _ = build(root, sets, tmp_path, **more)
    monkeypatch.setattr(Trainer, "test", evaluate)
    with pytest.raises(TrainingStopped) as stopped:
        trainer.train()
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert (tmp_path / "last_checkpoint").read_text() == checkpoint
    assert (tmp_path / checkpoint).exists()


def test_a_thread_other_than_the_main_one_gets_no_handlers():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def run():
        with StopSignals():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before]


TWICE = """
import os, signal, sys, time
from srnet.engine.signals import StopSignals
with StopSignals():
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
"""


def test_a_second_signal_ends_at_once():
    process = subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


@close_process_groups
def train_in_process(sets: str, folder: str) -> None:
    """Train until a signal comes."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import classifier_runs

    torch.set_num_threads(1)
    more = {"SOLVER.MAX_ITER": 10_000, "SOLVER.CHECKPOINT_PERIOD": 10_000}
    more |= {"DATALOADER.NUM_WORKERS": 1}
    root = Path(__file__).parents[2]
    classifier_runs.train(root, Path(sets), Path(folder), **more)


@pytest.fixture
def start():
    """Start the trainings of this file; what still runs at the end is killed."""
    begun = []

    def begin(processes, *arguments):
        command = [sys.executable, __file__, str(processes), *(str(a) for a in arguments)]
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def begun(process):
    """Wait until the training is in its loop; return what was said until then."""
    said = []
    for line in process.stdout:
        said.append(line)
        if " iter: " in line:  # every 20 iterations
            return said
    raise AssertionError("".join(said))


@pytest.mark.parametrize("whom", ["parent", "group"])
def test_two_processes_stop_together(start, sets, tmp_path, whom):
    """The group's signal reaches the workers of the loader, too, and the children twice."""
    folder = tmp_path / "out"
    process = start(2, sets, folder)
    begun(process)
    send = os.killpg if whom == "group" else os.kill
    send(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM, output[-3000:]
    [checkpoint] = folder.glob("model_*.pth")
    stopped = int(checkpoint.stem[6:])
    assert f"training stopped after iteration {stopped}" in output
    assert not (folder / "training.lock").exists()
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["iteration"] == stopped and saved["trainer"]["_trainer"]["iteration"] == stopped


if __name__ == "__main__":
    count = int(sys.argv[1])
    with stop_signals_passed_on(count):
        launch(train_in_process, count, dist_url="auto", args=tuple(sys.argv[2:4]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_forked_worker_ends_as_without_the_training(number):
    """Evaluators start pools by fork and end them with SIGTERM; one that lives on blocks them."""
    with StopSignals() as signals:
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        os.kill(worker.pid, number)
        worker.join(timeout=20)
        ended = worker.exitcode
        worker.kill()
    assert ended == -number
    assert not signals.received


def test_forks_of_a_second_training_leave_the_signals_unblocked():
    signals = StopSignals()
    for _ in range(2):
        with signals:
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
            worker.start()
            worker.join()
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(STOP_SIGNALS)
