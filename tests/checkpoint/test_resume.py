"""Which checkpoint a training goes on from, whatever happened to its folder."""

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from srnet.checkpoint import Checkpointer
from torch import nn

pytestmark = pytest.mark.fault("damaged folders")


def model(value):
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, value)
    return linear


def optimizer_of(linear, count=1):
    """SGD with momentum on `count` groups of parameters."""
    groups = [{"params": [linear.weight]}, {"params": [linear.bias]}][:count]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def saved(folder, *iterations):
    """Checkpoints whose weights are the iteration, and whose times are in the reverse order."""
    for i in iterations:
        linear = model(float(i))
        optimizer = optimizer_of(linear)
        linear(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        nn.init.constant_(linear.weight, i)
        checkpointer = Checkpointer(linear, str(folder), optimizer=optimizer)
        checkpointer.save(f"model_{i:07d}", iteration=i)
        os.utime(folder / f"model_{i:07d}.pth", (1000 - i, 1000 - i))
    return folder


def resume(folder, weights=""):
    """Resume; return the iteration (None: it starts anew) and the checkpointer."""
    linear = model(-1.0)
    checkpointer = Checkpointer(linear, str(folder), optimizer=optimizer_of(linear))
    loaded = checkpointer.resume_or_load(str(weights), resume=True)
    if "iteration" in loaded:
        assert (linear.weight == loaded["iteration"]).all()
        assert checkpointer.checkpointables["optimizer"].state  # its momentum
    return loaded.get("iteration"), checkpointer


def last(folder, name):
    (folder / "last_checkpoint").write_text(name)


def test_the_last_checkpoint_comes_first(tmp_path):
    saved(tmp_path, 1, 2, 10)
    assert resume(tmp_path)[0] == 10
    last(tmp_path, "model_0000002.pth")  # to go back on purpose
    assert resume(tmp_path)[0] == 2


def test_without_it_the_iteration_decides_and_not_the_time(tmp_path):
    saved(tmp_path, 1, 2, 10)
    (tmp_path / "last_checkpoint").unlink()
    assert resume(tmp_path)[0] == 10
    shutil.copy(tmp_path / "model_0000010.pth", tmp_path / "model_final.pth")
    (tmp_path / "model_0000010.pth").unlink()
    assert resume(tmp_path)[0] == 10  # by its content
    shutil.move(tmp_path / "model_final.pth", tmp_path / "model_0000000.pth")
    assert resume(tmp_path)[0] == 10


def test_foreign_weights_in_the_folder_are_not_resumed_from(tmp_path, caplog):
    saved(tmp_path, 1, 2)
    for name in ("aaa.pth", "model_0000099.pth", "model_final.pth"):
        torch.save({"model": model(7.0).state_dict()}, tmp_path / name)
    (tmp_path / "._model_0000050.pth").write_bytes(b"of macOS")
    last(tmp_path, "model_final.pth")
    with caplog.at_level(logging.INFO):
        assert resume(tmp_path)[0] == 2
    assert "model_final.pth has no iteration" in caplog.text


def test_foreign_weights_alone_are_no_checkpoint(tmp_path, caplog):
    """As Detectron2, it starts from MODEL.WEIGHTS, and says so; their iteration is not taken."""
    torch.save({"model": model(7.0).state_dict()}, tmp_path / "weights.pth")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    weights = saved(elsewhere, 5) / "model_0000005.pth"
    with caplog.at_level(logging.INFO):
        iteration, checkpointer = resume(tmp_path, weights)
    assert iteration is None and (checkpointer.model.weight == 5).all()
    assert not checkpointer.checkpointables["optimizer"].state
    assert f"no checkpoint to resume from in {tmp_path}: starting from" in caplog.text
    assert checkpointer.written() == []


def test_a_last_checkpoint_that_is_missing(tmp_path, caplog):
    saved(tmp_path, 1, 2)
    last(tmp_path, "model_0000003.pth")
    assert resume(tmp_path)[0] == 2
    assert "names 'model_0000003.pth', which is missing" in caplog.text
    for path in tmp_path.glob("*.pth"):
        path.unlink()
    with pytest.raises(RuntimeError, match=r"model_0000003\.pth.*missing.*no other checkpoint"):
        resume(tmp_path)


def test_a_last_checkpoint_elsewhere_is_not_followed(tmp_path, caplog):
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir(), other.mkdir()
    saved(folder, 1), saved(other, 5)
    last(folder, "../other/model_0000005.pth")
    assert resume(folder)[0] == 1
    assert "names '../other/model_0000005.pth', which is missing there" in caplog.text


def rewrite(path, **changes):
    data = torch.load(path, weights_only=True)
    data.update(changes)
    torch.save(data, path)


def of_another_optimizer(path):
    linear = model(1.0)
    rewrite(path, optimizer=optimizer_of(linear, 2).state_dict())


def of_another_model(path):
    rewrite(path, model={"weight": torch.ones(3, 2), "bias": torch.ones(3)})


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((2, 2), 3.0).numpy().tobytes())] ^= 4
    path.write_bytes(content)


def drop(path, key):
    data = torch.load(path, weights_only=True)
    del data[key]
    torch.save(data, path)


BROKEN = {
    "text": (lambda path: path.write_text("a note"), "text file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "zeroed": (lambda path: path.write_bytes(bytes(len(path.read_bytes()))), "filled with zeros"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cut off"),
    "flipped bit": (flip, "CRC"),
    "NumPy": (lambda path: rewrite(path, x=np.ones(3)), "NumPy arrays"),
    "NaN": (lambda path: rewrite(path, model=model(float("nan")).state_dict()), "diverged"),
    "another optimizer": (of_another_optimizer, "parameter group"),
    "another model": (of_another_model, "another model's"),
    "a parameter less": (lambda path: rewrite(path, model={"weight": torch.ones(2, 2)}), "bias"),
    "no optimizer": (lambda path: drop(path, "optimizer"), "no state of the optimizer"),
    "wrong optimizer": (lambda path: rewrite(path, optimizer=[1]), "cannot load"),
    "half an optimizer": (lambda path: rewrite(path, optimizer={"state": {}}), "KeyError"),
    "wrong weights": (lambda path: rewrite(path, model=[1]), "no weights by name"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_passed_over_and_named(tmp_path, caplog, kind):
    spoil, reason = BROKEN[kind]
    saved(tmp_path, 1, 2, 3)
    spoil(tmp_path / "model_0000003.pth")
    iteration, checkpointer = resume(tmp_path)
    assert iteration == 2
    assert any(
        "model_0000003.pth" in r.getMessage()
        and reason in r.getMessage()
        and "the checkpoint before it" in r.getMessage()
        for r in caplog.records
    ), caplog.text
    assert checkpointer.written() == [str(tmp_path / "model_0000002.pth")]


@pytest.mark.parametrize("kind", BROKEN)
def test_nothing_whole_is_an_error_and_changes_nothing(tmp_path, kind):
    spoil, reason = BROKEN[kind]
    saved(tmp_path, 3)
    spoil(tmp_path / "model_0000003.pth")
    linear = model(-1.0)
    bias = linear.bias.detach().clone()
    optimizer = optimizer_of(linear)
    linear(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    nn.init.constant_(linear.weight, -1)
    momentum = optimizer.state[linear.weight]["momentum_buffer"].clone()
    checkpointer = Checkpointer(linear, str(tmp_path), optimizer=optimizer)
    with pytest.raises(RuntimeError, match=rf"none of the 1 checkpoints.*{reason}"):
        checkpointer.resume_or_load("", resume=True)
    assert (linear.weight == -1).all() and torch.equal(linear.bias, bias)
    assert torch.equal(optimizer.state[linear.weight]["momentum_buffer"], momentum)


def test_an_iteration_of_a_wrong_type_is_none(tmp_path):
    saved(tmp_path, 1, 2)
    rewrite(tmp_path / "model_0000002.pth", iteration="2")
    assert resume(tmp_path)[0] == 1


def test_written_is_what_this_run_wrote_or_resumed_from(tmp_path):
    saved(tmp_path, 7, 8)  # an earlier run's, in the same folder
    anew = Checkpointer(model(0.0), str(tmp_path))
    anew.resume_or_load("", resume=False)
    assert anew.written() == []
    anew.save("model_0000000", iteration=0)
    anew.save("model_0000001", iteration=1)
    first, second = (str(tmp_path / f"model_000000{i}.pth") for i in range(2))
    assert anew.written() == [second, first]
    nn.init.constant_(anew.model.bias, float("nan"))
    anew.save("model_0000001", iteration=1)
    anew.save("model_0000002", iteration=2)
    assert anew.written() == [first]
    os.remove(first)
    assert anew.written() == []
