"""Files that are no checkpoint of ours: unwrapped where they hold weights, named where not."""

import json
import os
import pickle
import random
import resource
import shutil
import socket
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from srnet.checkpoint import Checkpointer
from torch import nn

pytestmark = pytest.mark.fault("strangers: checkpoints")


def model(value):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    nn.init.constant_(network[0].weight, value)
    return network


WEIGHTS = model(1.0).state_dict()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102530333\n"
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()


def of_bytes(content):
    return lambda path: path.write_bytes(content)


def of_torch(content, **options):
    return lambda path: torch.save(content, path, **options)


def of_pickle(content, **options):
    return lambda path: path.write_bytes(pickle.dumps(content, **options))


def cut(path):
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:1500])


def archive(path):
    member = path.with_name("inside.pth")
    torch.save(WEIGHTS, member)
    if path.name.startswith("tar"):
        with tarfile.open(path, "w:gz" if "gz" in path.name else "w") as f:
            f.add(member)
    else:
        with zipfile.ZipFile(path, "w") as f:
            f.write(member)


BAD = {
    "missing.pth": (lambda path: None, "missing"),
    "folder.pth": (lambda path: path.mkdir(), "is a folder"),
    "pipe.pth": (os.mkfifo, "is a pipe"),
    "empty.pth": (of_bytes(b""), "is empty"),
    "zeros.pth": (of_bytes(bytes(5000)), "filled with zeros"),
    "noise.pth": (of_bytes(random.Random(0).randbytes(3000)), "another kind"),
    "lfs.pth": (of_bytes(LFS), "git-lfs pointer.*git lfs pull"),
    "lfs.pkl": (of_bytes(LFS), "git-lfs pointer"),
    "page.pth": (of_bytes(b"\n<!DOCTYPE html><html>"), "web page"),
    "text.pth": (of_bytes("une note écrite\n".encode()), "text file that begins with 'une note"),
    "text.pkl": (of_bytes(b"a note\n"), "text file"),
    "options.pth": (of_bytes(b'{"a": 1}'), "text file"),
    "cut.pth": (cut, "damaged or cut off"),
    "cut.pkl": (of_bytes(pickle.dumps({"model": np.ones(999)})[:300]), "damaged"),
    "tar.pth": (archive, "tar archive.*unpack"),
    "tar_gz.pth": (archive, "gzip archive"),
    "zip.pth": (archive, "zip archive of other files"),
    "script.pth": (lambda path: torch.jit.script(model(1.0)).save(path), "TorchScript"),
    "arrays.npz": (lambda path: np.savez(path, a=np.zeros(3)), "npz"),
    "array.npy": (lambda path: np.save(path, np.zeros(3)), "NumPy array"),
    "x.safetensors": (of_bytes(len(HEADER).to_bytes(8, "little") + HEADER), "safetensors file"),
    "safetensors.pth": (of_bytes(len(HEADER).to_bytes(8, "little") + HEADER), "safetensors file"),
    "x.onnx": (of_bytes(b"\x08\x07\x12\x07pytorch:\xff"), "ONNX"),
    "onnx.pth": (of_bytes(b"\x08\x07\x12\x07pytorch:\xff"), "ONNX"),
    "numpy.pth": (of_torch({"model": {"0.weight": np.ones(3)}}), "NumPy arrays.*from_numpy"),
    "pickle.pth": (of_pickle({"0.weight": np.ones(3)}), r"plain pickle.*\.pkl"),
    "whole.pth": (of_torch(model(1.0)), "whole model.*Conv2d.*state_dict"),
    "whole_old.pth": (
        of_torch(model(1.0), _use_new_zipfile_serialization=False),
        "whole model.*Sequential",
    ),
    "list.pth": (of_torch([WEIGHTS]), "holds a list"),
    "nothing.pth": (of_torch({}), "empty dict"),
    "optimizer.pth": (of_torch({"optimizer": {}, "epoch": 3}), "'optimizer'.*'epoch'"),
    "mixed.pth": (of_torch({**WEIGHTS, "epoch": 3}), "'epoch' is a int"),
    "strings.pkl": (of_pickle({"model": {"0.weight": "a"}, "__author__": "x"}), "0.weight"),
    "list.pkl": (of_pickle([1]), "holds a list"),
    "stranger.pth": (of_torch({"encoder.bias": torch.ones(3)}), r"none of the 6.*encoder\.bias"),
    "nan.pth": (of_torch(model(float("nan")).state_dict()), r"diverged: 0\.weight"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_checkpoint_is_named_and_changes_nothing(tmp_path, name):
    make, message = BAD[name]
    make(tmp_path / name)
    fresh = model(0.0)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    with pytest.raises(RuntimeError, match=message) as error:
        Checkpointer(fresh).load(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value) and len(str(error.value).splitlines()) == 1
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())


def prefixed(prefix):
    return {f"{prefix}{name}": value for name, value in WEIGHTS.items()}


ARRAYS = {name: value.numpy() for name, value in WEIGHTS.items()}
GOOD = {
    "bare.pth": of_torch(WEIGHTS),
    "before_1_6.pth": of_torch({"model": WEIGHTS}, _use_new_zipfile_serialization=False),
    "state_dict.pth": of_torch({"state_dict": WEIGHTS, "epoch": 3, "arch": "x"}),
    "model_state.pth": of_torch({"model_state": WEIGHTS, "epoch": 3}),
    "pycls.pyth": of_torch({"model_state": WEIGHTS, "cfg": "x"}),
    "model_state_dict.pth": of_torch({"model_state_dict": WEIGHTS, "optimizer": {}}),
    "twice.pth": of_torch({"model": {"state_dict": WEIGHTS}}),
    "torchvision.pth": of_torch({"model": WEIGHTS, "model_ema": prefixed("module."), "epoch": 3}),
    "ddp.pth": of_torch(prefixed("module.")),
    "compiled.pth": of_torch({"model": prefixed("_orig_mod.module.")}),
    "averaged.pth": of_torch({**prefixed("module."), "n_averaged": torch.tensor(3)}),
    "lightning.pth": of_torch(
        {"state_dict": {**prefixed("model."), "loss.weight": torch.ones(3)}, "global_step": 3}
    ),
    "zip.pkl": of_torch({"model": WEIGHTS}),
    "zoo.pkl": of_pickle({"model": ARRAYS, "__author__": "Detectron2 Model Zoo"}),
    "old.pkl": of_pickle({"model": ARRAYS, "__author__": "Detectron2 Model Zoo"}, protocol=0),
    "wrapped.pkl": of_pickle({"state_dict": ARRAYS}),
}


@pytest.mark.parametrize("name", GOOD)
def test_weights_are_unwrapped(tmp_path, name):
    GOOD[name](tmp_path / name)
    loaded = model(0.0)
    Checkpointer(loaded, strict=True).load(str(tmp_path / name))
    assert (loaded[0].weight == 1).all()


def test_a_model_that_has_the_prefix_itself_keeps_it(tmp_path):
    nested = nn.ModuleDict({"model": model(1.0)})
    torch.save(nested.state_dict(), tmp_path / "nested.pth")
    fresh = nn.ModuleDict({"model": model(0.0)})
    Checkpointer(fresh, strict=True).load(str(tmp_path / "nested.pth"))
    assert (fresh["model"][0].weight == 1).all()


def test_no_flipped_bit_changes_a_weight(tmp_path):
    """Every flip is refused, or in bytes that nothing reads."""
    path, flipped = tmp_path / "good.pth", tmp_path / "flipped.pth"
    torch.save({"model": WEIGHTS}, path)
    content = path.read_bytes()
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(content)), 300):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(changed)
        loaded = model(0.0)
        try:
            Checkpointer(loaded).load(str(flipped))
        except RuntimeError as error:
            assert str(flipped) in str(error)
            refused += 1
            assert (loaded[0].weight == 0).all()
        else:
            assert all(torch.equal(v, WEIGHTS[k]) for k, v in loaded.state_dict().items())
    assert refused > 150


def test_a_flipped_bit_in_a_weight_is_named(tmp_path):
    path = tmp_path / "good.pth"
    torch.save({"model": WEIGHTS}, path)
    content = bytearray(path.read_bytes())
    place = content.index(WEIGHTS["0.weight"].numpy().tobytes()) + 5
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"good\.pth is damaged: the CRC of good/data/0"):
        Checkpointer(model(0.0)).load(str(path))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def refuses_to_save(folder, reason):
    """Save a small model, then a large one over it."""
    Checkpointer(model(1.0), str(folder)).save("model_0000000", iteration=0)
    names = sorted(os.listdir(folder))
    large = nn.Linear(300, 300)
    for name in ("model_0000000", "model_0000001"):
        with pytest.raises(OSError, match=reason) as error:
            Checkpointer(large, str(folder)).save(name)
        assert str(folder / f"{name}.pth") in str(error.value)
        assert "inline_container" not in str(error.value)
    assert sorted(os.listdir(folder)) == names
    resumed = model(0.0)
    Checkpointer(resumed, str(folder)).resume_or_load("", resume=True)
    assert (resumed[0].weight == 1).all()


@pytest.mark.fault("disk full")
def test_a_full_disk_leaves_the_last_checkpoint(tiny_disk):
    refuses_to_save(tiny_disk, "No space left on device")


@pytest.mark.fault("disk full")
def test_a_file_that_may_not_grow_leaves_the_last_checkpoint(tmp_path):
    """As `ulimit -f` and quotas have it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    try:
        refuses_to_save(tmp_path, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    stem = f"model_0000000.pth.{socket.gethostname()}"
    for pid in (ended.pid, os.getppid()):
        (tmp_path / f"{stem}.{pid}.partial").write_bytes(b"half")
    Checkpointer(model(1.0), str(tmp_path)).save("model_0000000")
    left = ["last_checkpoint", "model_0000000.pth", f"{stem}.{os.getppid()}.partial"]
    assert sorted(os.listdir(tmp_path)) == left  # the last may be being written
