"""Weights & Biases: asked for by a key, through its own sync of TensorBoard."""

import importlib.machinery
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from srnet import get_cfg
from srnet.engine import Trainer
from srnet.engine.wandb_sync import WandbSync

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


@pytest.fixture
def wandb(monkeypatch):
    """A module with the two functions that are used, and what they were called with."""
    module = ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.calls = []

    def init(**arguments):
        module.calls.append(arguments)
        return SimpleNamespace(id=arguments["id"] or "abc123")

    module.init, module.finish = init, lambda: module.calls.append("finished")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def hook(tmp_path, start=0, **more):
    chosen = {"OUTPUT_DIR": tmp_path / "my_run", "WANDB.ENABLED": True, **more}
    (tmp_path / "my_run").mkdir(exist_ok=True)
    sync = WandbSync(get_cfg(CONFIG, [str(x) for item in chosen.items() for x in item]))
    sync.trainer = SimpleNamespace(start_iter=start)
    sync.before_train()
    sync.after_train()


def test_a_run_starts_with_the_config_and_ends(wandb, tmp_path):
    hook(tmp_path, **{"WANDB.PROJECT": "streets"})
    arguments, finished = wandb.calls
    assert finished == "finished"
    assert arguments["sync_tensorboard"] is True
    assert (arguments["project"], arguments["name"]) == ("streets", "my_run")
    assert arguments["dir"] == str(tmp_path / "my_run")
    assert arguments["config"]["MODEL"]["CONTEXT"]["NAME"] == "sr"
    json.dumps(arguments["config"])


def test_a_resumed_training_goes_on_in_its_run(wandb, tmp_path):
    hook(tmp_path)
    hook(tmp_path, start=5)
    hook(tmp_path)
    assert [c["id"] for c in wandb.calls if c != "finished"] == [None, "abc123", None]


def test_it_is_started_before_tensorboard_and_finished_after_it(wandb, monkeypatch, tmp_path):
    order = []
    wandb.init = lambda **arguments: order.append("init") or SimpleNamespace(id="a")
    wandb.finish = lambda: order.append("finish")

    class Writer:
        def __init__(self, **arguments):
            order.append("writer")

        def add_scalar(self, *arguments):
            pass

        def close(self):
            order.append("closed")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Writer)
    monkeypatch.setattr(Trainer, "build_train_loader", classmethod(lambda cls, cfg: [None]))
    monkeypatch.setattr(Trainer, "build_model", classmethod(lambda cls, cfg: torch.nn.Linear(1, 1)))
    monkeypatch.setattr(Trainer, "run_step", lambda self: self.storage.put_scalar("loss", 1.0))
    opts = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 1]
    opts += ["OUTPUT_DIR", tmp_path, "WANDB.ENABLED", True, "DATASETS.TEST", "()", "SEED", 1]
    Trainer(get_cfg(CONFIG, [str(x) for x in opts])).train()
    assert order == ["init", "writer", "closed", "finish"]


def test_where_it_is_missing_the_extra_is_named_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    cfg = get_cfg(CONFIG, ["WANDB.ENABLED", True, "OUTPUT_DIR", str(tmp_path / "out")])
    with pytest.raises(ModuleNotFoundError, match=r"WANDB\.ENABLED needs wandb.*extra `wandb`"):
        Trainer(cfg)
    assert not (tmp_path / "out").exists()
