"""What a training cannot run with is refused before anything is built, with the key's name."""

import multiprocessing
import os
import signal
import socket
import struct
import sys
from multiprocessing.connection import Connection

import pytest
import torch
from classifier_runs import build, make_sets, train
from detectron2.engine import HookBase
from detectron2.utils import comm
from srnet import get_cfg
from srnet.data import register_all_camvid
from srnet.engine import Trainer, check_training, evaluate
from srnet.engine.divergence import advise_after_divergence
from srnet.engine.explain import training_errors_explained

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


def config(root, *opts):
    return get_cfg(str(root / "configs" / CAMVID), [str(o) for o in opts])


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_ITER=0 must be 1 or more"),
        ("SOLVER.MAX_ITER", -5, "SOLVER.MAX_ITER=-5 must be 1 or more"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD=0 must be 1 or more"),
        ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH=0 must be 1 or more"),
        ("SOLVER.WARMUP_ITERS", -1, "SOLVER.WARMUP_ITERS=-1 must be 0 or more"),
        ("SOLVER.ACCUMULATE", 0, "SOLVER.ACCUMULATE=0 must be 1 or more"),
        ("TEST.EVAL_PERIOD", -1, "TEST.EVAL_PERIOD=-1 must be 0 or more"),
        ("DATASETS.TRAIN", "()", "DATASETS.TRAIN is empty"),
        (
            "DATASETS.TRAIN",
            "('camvid_sem_seg_trian',)",
            "DATASETS.TRAIN=.* there is no cam",
        ),
        ("DATASETS.TEST", "('camvid_semseg_val',)", "mean camvid_sem_seg_val"),
    ],
)
def test_refused_before_building(root, tmp_path, monkeypatch, key, value, message):
    """A config that was changed after get_cfg, which refuses it, too."""
    cfg = config(root, "OUTPUT_DIR", tmp_path / "out")
    cfg.merge_from_list([key, value])
    monkeypatch.setattr(Trainer, "build_model", lambda *args: pytest.fail("built"))
    with pytest.raises(ValueError, match=message):
        Trainer(cfg)
    assert not (tmp_path / "out").exists()


def test_a_batch_that_the_processes_cannot_share(root, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH=4 must be divisible by the 3 processes"):
        check_training(config(root, "SOLVER.IMS_PER_BATCH", 4))
    check_training(config(root, "SOLVER.IMS_PER_BATCH", 6))


@pytest.mark.parametrize("config_file", [CAMVID, "quick_schedules/panoptic_fpn_R_18_SR.yaml"])
def test_shipped_configs_pass(root, config_file):
    check_training(get_cfg(str(root / "configs" / config_file)))


class Spoil(HookBase):
    """Make a weight infinite after an iteration, before its checkpoint is saved."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            with torch.no_grad():
                next(self.trainer.model.parameters()).fill_(float("inf"))


def diverge(root, sets, folder, iteration, **more):
    trainer, _ = build(root, sets, folder, **{"SOLVER.CHECKPOINT_PERIOD": 1, **more})
    hook = Spoil(iteration)
    trainer.register_hooks([hook])
    trainer._hooks.insert(0, trainer._hooks.pop())
    with pytest.raises(FloatingPointError) as diverged:
        trainer.train()
    return str(diverged.value)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_advice_names_the_last_finite_checkpoint(root, sets, tmp_path, parts):
    more = {"SOLVER.ACCUMULATE": parts, "SOLVER.EMA.ENABLED": True}
    message = diverge(root, sets, tmp_path, 1, **more)
    assert "diverged at iteration 2" in message
    first, second = (tmp_path / f"model_000000{i}.pth" for i in (0, 1))
    assert f"finite weights is {first}: remove {second}, and --resume continues" in message
    assert not (tmp_path / "ema").exists()
    second.unlink()
    _, curve = train(root, sets, tmp_path, resume=True, **more)
    assert list(curve.losses) == [1, 2, 3]


def test_labels_that_are_all_void_are_named():
    """Panoptic FPN's head of Detectron2 divides by no pixels there."""
    error = FloatingPointError("the loss loss_sem_seg is nan")
    message = advise_after_divergence(error, 5, [], [], "")
    assert "loss_sem_seg is nan (in every label" in message and "IGNORE_VALUE)" in message


def test_the_advice_names_no_other_trainings_checkpoint(root, sets, tmp_path):
    train(root, sets, tmp_path)
    message = diverge(root, sets, tmp_path, 0, **{"SOLVER.CHECKPOINT_PERIOD": 9})
    assert "start again from random weights, without --resume" in message
    assert ".pth" not in message


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 4711) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 4711) exited unexpectedly",
        "Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback ...",
        "unable to allocate shared memory(shm) for file </torch_1>: No space left",
    ],
)
def test_memory_of_a_worker(root, text):
    cfg = config(root, "DATALOADER.NUM_WORKERS", 3, "SOLVER.IMS_PER_BATCH", 5)
    with pytest.raises(RuntimeError) as explained, training_errors_explained(cfg):
        raise RuntimeError(text)
    message = str(explained.value)
    for part in ("DATALOADER.NUM_WORKERS 3", "SOLVER.IMS_PER_BATCH 5", "INPUT.CROP.SIZE"):
        assert part in message
    assert len(message.splitlines()) == 1


def test_a_killed_worker(root, sets, tmp_path):
    class Kill(HookBase):
        def after_step(self):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)

    trainer, _ = build(root, sets, tmp_path, **{"DATALOADER.NUM_WORKERS": 1})
    trainer.register_hooks([Kill()])
    with pytest.raises(RuntimeError, match=r"DATALOADER.NUM_WORKERS 1, .*CLASSIFICATION.SIZE 32"):
        trainer.train()


def test_a_worker_that_is_killed_while_it_sends(root):
    """The connection is reset in the middle, which has an errno as a full disk has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = socket.create_connection(server.getsockname())
        sender, _ = server.accept()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    with (
        Connection(receiver.detach()) as connection,
        pytest.raises(RuntimeError, match=r"a worker of the data loader .*SOLVER.IMS_PER_BATCH"),
        training_errors_explained(config(root)),
    ):
        connection.recv_bytes()


@pytest.mark.parametrize(
    "error, start",
    [
        (RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. "), "a worker of"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device: "),
    ],
)
def test_an_evaluation_names_its_own_keys(root, monkeypatch, error, start):
    def fail(*args):
        raise error

    module = sys.modules[evaluate.__module__]  # its name is that of a function, too
    monkeypatch.setattr(module, "build_model", lambda cfg: None)
    monkeypatch.setattr(module, "load_for_evaluation", lambda *args, **more: None)
    monkeypatch.setattr(module.Trainer, "test", fail)
    cfg = config(root, "OUTPUT_DIR", "the/output")
    with pytest.raises((RuntimeError, OSError)) as explained:
        evaluate(cfg)
    message = str(explained.value)
    assert message.startswith(start) and "IMS_PER_BATCH" not in message
    assert ("the/output" if isinstance(error, OSError) else "INPUT.MIN_SIZE_TEST") in message


def test_memory_of_a_gpu_and_other_errors(root):
    cfg = config(root)
    with (
        pytest.raises(RuntimeError, match=r"SOLVER.IMS_PER_BATCH .*SOLVER.ACCUMULATE"),
        training_errors_explained(cfg),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match=r"^another$"), training_errors_explained(cfg):
        raise RuntimeError("another")


def test_one_image_and_a_module_that_pools_the_whole_map(
    root, small_camvid, datasets_forgotten, tmp_path
):
    chosen = {"MODEL.CONTEXT.NAME": "psp", "SOLVER.IMS_PER_BATCH": 1, "OUTPUT_DIR": tmp_path}
    chosen |= {"INPUT.CROP.SIZE": "[64,64]", "DATALOADER.NUM_WORKERS": 0, "SOLVER.MAX_ITER": 1}
    with datasets_forgotten("camvid"):
        register_all_camvid(str(small_camvid))
        trainer = Trainer(config(root, *(x for item in chosen.items() for x in item)))
        with pytest.raises(ValueError, match=r"MODEL.CONTEXT.NAME psp.*SOLVER.IMS_PER_BATCH 1"):
            trainer.train()
