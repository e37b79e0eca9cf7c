"""A training goes on from whatever is left of its folder, and ends as if nothing had happened."""

import json
import os
import shutil

import pytest
import torch
from classifier_runs import make_sets, train

pytestmark = pytest.mark.fault("damaged folders")
MORE = {"SOLVER.MAX_ITER": 6, "SOLVER.EMA.ENABLED": True}
OLDER, NEWER = "model_0000001.pth", "model_0000003.pth"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def whole(root, sets, tmp_path_factory):
    """The folder and the losses of the uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(root, sets, folder, **MORE)[1].losses


@pytest.fixture
def interrupted(whole, tmp_path):
    """The folder of a training that was killed in iteration 5, after its second checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / "ema")
    for name in ("model_0000005.pth", "model_final.pth"):
        (folder / name).unlink()
    (folder / "last_checkpoint").write_text(NEWER)
    lines = [{"iteration": i, "total_loss": 9.0} for i in range(5)]
    (folder / "metrics.json").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    return folder


def touch(folder):
    for age, name in enumerate((OLDER, "last_checkpoint", "metrics.json", NEWER)):
        os.utime(folder / name, (10**9 - age, 10**9 - age))


def copy(folder):
    """As `cp -r` or an object store: the newest file first, without times."""
    moved = folder.with_name("moved")
    folder.rename(moved)
    folder.mkdir()
    for path in sorted(moved.iterdir(), reverse=True):
        shutil.copyfile(path, folder / path.name)


def foreign(folder):
    weights = {"model": torch.load(folder / OLDER, weights_only=True)["model"]}
    for name in ("model_0000099.pth", "model_final.pth", "resnet.pth"):
        torch.save(weights, folder / name)


def spoil(change):
    def damage(folder):
        path = folder / NEWER
        path.write_bytes(change(path.read_bytes()))

    return damage


def other_optimizer(folder):
    data = torch.load(folder / NEWER, weights_only=True)
    optimizer = data["trainer"]["_trainer"]["optimizer"]
    places = sorted(optimizer["state"])
    optimizer["state"] = {
        i: optimizer["state"][j] for i, j in zip(places, places[::-1], strict=True)
    }
    torch.save(data, folder / NEWER)


def remove(*patterns):
    def damage(folder):
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return damage


def torn(folder):
    with (folder / "metrics.json").open("a") as f:
        f.write('{"iteration": 5, "total_lo')


# What happens to the folder, and the iteration at which the training goes on.
CASES = {
    "nothing": (lambda folder: None, 4),
    "touch": (touch, 4),
    "cp -r": (copy, 4),
    "foreign .pth": (foreign, 4),
    "last_checkpoint of a missing file": (
        lambda folder: (folder / "last_checkpoint").write_text("model_0000005.pth"),
        4,
    ),
    "last_checkpoint missing": (remove("last_checkpoint"), 4),
    "last_checkpoint empty": (lambda folder: (folder / "last_checkpoint").write_text(""), 4),
    "zeroed": (spoil(lambda content: bytes(len(content))), 2),
    "cut": (spoil(lambda content: content[: len(content) // 2]), 2),
    "empty": (spoil(lambda content: b""), 2),
    "HTML": (spoil(lambda content: b"<!DOCTYPE html><html>404</html>"), 2),
    "a flipped bit": (
        spoil(lambda x: x[: len(x) // 2] + bytes([x[len(x) // 2] ^ 1]) + x[len(x) // 2 + 1 :]),
        2,
    ),
    "wrong optimizer": (other_optimizer, 2),
    "newest missing": (remove(NEWER), 2),
    "all missing but last_checkpoint": (remove("*.pth"), None),
    "metrics.json torn": (torn, 4),
    "metrics.json missing": (remove("metrics.json"), 4),
    "metrics.json binary": (
        lambda folder: (folder / "metrics.json").write_bytes(bytes(range(256))),
        4,
    ),
    "events missing": (remove("events*"), 4),
    "a checkpoint that was being written": (
        lambda folder: (folder / "model_0000005.pth.elsewhere.1.partial").write_bytes(b"PK"),
        4,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_goes_on_from_what_is_left(root, sets, whole, interrupted, tried, case):
    tried(case)
    damage, begin = CASES[case]
    damage(interrupted)
    if begin is None:
        with pytest.raises(RuntimeError, match=rf"names '{NEWER}', which is missing"):
            train(root, sets, interrupted, resume=True, **MORE)
        return
    _, rest = train(root, sets, interrupted, resume=True, **MORE)
    assert rest.losses == {i: whole[1][i] for i in range(begin, 6)}
    for name in ("model_final.pth", "ema/model_final.pth"):
        states = [torch.load(f / name, weights_only=True) for f in (whole[0], interrupted)]
        assert states[0]["model"].keys() == states[1]["model"].keys()
        for key, value in states[0]["model"].items():
            assert torch.equal(value, states[1]["model"][key]), key
    records = [json.loads(line) for line in (interrupted / "metrics.json").open()]
    iterations = [record["iteration"] for record in records]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 5
    assert all(r["total_loss"] != 9.0 for r in records if r["iteration"] >= begin)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_that_cannot_be_written_to(root, sets, interrupted, tried):
    tried("read-only")
    interrupted.chmod(0o500)
    try:
        with pytest.raises((OSError, RuntimeError), match=str(interrupted)):
            train(root, sets, interrupted, resume=True, **MORE)
    finally:
        interrupted.chmod(0o700)
