"""From a config file to a checked config."""

import logging

import pytest
import torch
from srnet import get_cfg

CONFIG = "configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


@pytest.fixture
def config(root):
    return str(root / CONFIG)


def test_every_config_is_valid(root):
    paths = [p for p in root.glob("configs/*/*.yaml") if not p.name.startswith("Base")]
    assert len(paths) > 5
    for path in paths:
        get_cfg(str(path))


def test_a_misspelled_key_is_an_error(config, tmp_path):
    with pytest.raises((KeyError, AssertionError), match=r"MODEL.CONTEXT.NAM"):
        get_cfg(config, ["MODEL.CONTEXT.NAM", "sr"])
    path = tmp_path / "wrong.yaml"
    path.write_text("MODEL:\n  CONTEXT:\n    NAM: sr\n")
    with pytest.raises(KeyError, match=r"MODEL.CONTEXT.NAM"):
        get_cfg(str(path))


@pytest.mark.parametrize(("key", "value"), [("NUM_CLASSES", 19), ("IGNORE_VALUE", 255)])
def test_classes_that_contradict_the_dataset(config, key, value):
    with pytest.raises(ValueError) as error:
        get_cfg(config, [f"MODEL.SEM_SEG_HEAD.{key}", value])
    assert f"MODEL.SEM_SEG_HEAD.{key} is {value}" in str(error.value)
    assert "camvid_sem_seg_train needs 11" in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_the_device_becomes_the_cpu(config, monkeypatch):
    said = []  # not by caplog: what earlier tests set up of the loggers would matter
    monkeypatch.setattr(logging.getLogger("srnet.engine.setup"), "warning", said.append)
    assert get_cfg(config).MODEL.DEVICE == "cpu"
    assert "no GPU is available" in said[0]
