"""Checkpoints: atomic, safe, and resumed past broken ones."""

import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from srnet.checkpoint import Checkpointer
from torch import nn


def model(value):
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, value)
    return linear


def saved(folder, *values):
    for i, value in enumerate(values):
        Checkpointer(model(value), str(folder)).save(f"model_{i:07d}", iteration=i)
        os.utime(folder / f"model_{i:07d}.pth", (i, i))
    return folder


def test_round_trip_with_detectron2(tmp_path):
    """Either checkpointer reads what the other wrote."""
    saved(tmp_path, 3.0)
    theirs = model(0.0)
    DetectionCheckpointer(theirs).load(str(tmp_path / "model_0000000.pth"))
    assert (theirs.weight == 3).all()
    DetectionCheckpointer(model(4.0), str(tmp_path)).save("other")
    ours = model(0.0)
    Checkpointer(ours).load(str(tmp_path / "other.pth"))
    assert (ours.weight == 4).all()


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_resume_skips_a_truncated_checkpoint_and_says_so(tmp_path, caplog, size):
    saved(tmp_path, 1.0, 2.0, 3.0)
    newest = tmp_path / "model_0000002.pth"
    newest.write_bytes(newest.read_bytes()[:size])
    os.utime(newest, (2, 2))
    resumed = model(0.0)
    loaded = Checkpointer(resumed, str(tmp_path)).resume_or_load("", resume=True)
    assert (resumed.weight == 2).all() and loaded["iteration"] == 1
    assert "model_0000002.pth" in caplog.text and "the checkpoint before it" in caplog.text


def test_resume_with_nothing_whole_is_an_error(tmp_path):
    saved(tmp_path, 1.0)
    (tmp_path / "model_0000000.pth").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"none of the 1 checkpoints"):
        Checkpointer(model(0.0), str(tmp_path)).resume_or_load("", resume=True)


def test_without_resume_only_the_weights_are_loaded(tmp_path):
    saved(tmp_path, 1.0)
    fresh = model(0.0)
    Checkpointer(fresh, str(tmp_path)).resume_or_load("", resume=False)
    assert (fresh.weight == 0).all()


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"stranger.{suffix}"
    content = {"model": {"weight": np.zeros((2, 2))}, "__author__": "x", "evil": Evil()}
    if suffix == "pth":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(RuntimeError, match=r"stranger.*holds more than arrays"):
        Checkpointer(model(0.0)).load(str(path))
    assert not (tmp_path / "evil").exists()


def test_a_zoo_pickle_loads(tmp_path):
    """The form of Detectron2's zoo: NumPy arrays under "model"."""
    path = tmp_path / "zoo.pkl"
    arrays = {"weight": np.full((2, 2), 7, np.float32), "bias": np.zeros(2, np.float32)}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo", "step": np.int64(3)}
    path.write_bytes(pickle.dumps(content, protocol=2))
    loaded = model(0.0)
    Checkpointer(loaded).load(str(path))
    assert (loaded.weight == 7).all()


def test_what_cannot_be_fetched_or_found_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    checkpointer = Checkpointer(model(0.0))
    with pytest.raises(RuntimeError, match=r"cannot fetch http://127.0.0.1:9/x.pth.*MODEL.WEIGHTS"):
        checkpointer.load("http://127.0.0.1:9/x.pth")
    with pytest.raises(RuntimeError, match=r"no/such.pth"):
        checkpointer.load("no/such.pth")
