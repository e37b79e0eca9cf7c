"""The training stream does not depend on processes, workers or interruptions."""

import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from PIL import Image
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader, start_at_iteration


def mapper(record):
    """What an augmentation does: draw from every generator."""
    drawn = (np.random.rand(), random.random(), torch.rand(1).item())
    return {"name": record["file_name"], "drawn": drawn}


@pytest.fixture(scope="module", autouse=True)
def dataset():
    DatasetCatalog.register("stream_test", lambda: [{"file_name": str(i)} for i in range(7)])
    yield
    DatasetCatalog.remove("stream_test")


def batches(count, *, workers=0, seed=3, start=0, batch=4, monkeypatch=None, rank=0, world=1):
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TRAIN", "('stream_test',)", "SEED", seed])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, "SOLVER.IMS_PER_BATCH", batch])
    cfg.merge_from_list(["DATALOADER.ASPECT_RATIO_GROUPING", False])
    if monkeypatch:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        monkeypatch.setattr(comm, "all_gather", lambda x: [x] * world)
        monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: world)
    loader = build_train_loader(cfg, mapper)
    start_at_iteration(loader, start, batch)
    return list(itertools.islice(loader, count))


def test_a_seed_fixes_images_and_augmentation():
    assert batches(5) == batches(5)
    assert batches(5) != batches(5, seed=4)
    names = [x["name"] for x in itertools.chain(*batches(7))]
    assert sorted(names[:7]) == sorted(names[7:14]) == [str(i) for i in range(7)]
    drawn = [x["drawn"] for x in itertools.chain(*batches(7))]
    assert len(set(drawn)) == 28


def test_workers_change_nothing():
    assert batches(5, workers=2) == batches(5)


def test_a_resumed_stream_goes_on():
    assert batches(3, start=2) == batches(5)[2:]
    assert batches(3, start=2, workers=2) == batches(5)[2:]


def test_two_processes_see_the_batches_of_one(monkeypatch):
    one = batches(4)
    halves = [batches(4, monkeypatch=monkeypatch, rank=r, world=2) for r in (0, 1)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert [x for pair in zip(first, second, strict=True) for x in pair] == whole


def test_the_model_keeps_its_own_random_numbers():
    # PyTorch's loader draws one number when it starts, not one for each image.
    after = []
    for count in (1, 4):
        torch.manual_seed(0)
        batches(count)
        after.append(torch.rand(1))
    assert after[0] == after[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_detectors_train_past_images_that_cannot_be_read(tmp_path, workers):
    """Aspect-ratio grouping included; what takes their place depends on the position alone."""
    names = [str(tmp_path / f"{i}.png") for i in range(4)]
    for i, name in enumerate(names):
        Image.new("RGB", (40, 30), (i, i, i)).save(name)
    (tmp_path / "1.png").write_bytes(b"damaged")
    records = [{"file_name": n, "width": 40, "height": 30, "image_id": n} for n in names]
    DatasetCatalog.register("damaged_test", lambda: records)
    options = ["DATASETS.TRAIN", ("damaged_test",), "SEED", 5, "SOLVER.IMS_PER_BATCH", 2]
    options += ["DATALOADER.NUM_WORKERS", workers, "INPUT.RANDOM_FLIP", "none"]
    try:
        with pytest.raises(ValueError, match=r"cannot read the image .*1\.png"):
            cfg = get_cfg(opts=options)
            list(itertools.islice(build_train_loader(cfg, build_mapper(cfg, True)), 4))
        cfg = get_cfg(opts=[*options, "DATALOADER.SKIP_BAD_IMAGES", True])
        seen = [
            [x["file_name"] for batch in itertools.islice(loader, 8) for x in batch]
            for loader in (build_train_loader(cfg, build_mapper(cfg, True)) for _ in range(2))
        ]
        assert seen[0] == seen[1]
        assert set(seen[0]) == {names[0], names[2], names[3]}
    finally:
        DatasetCatalog.remove("damaged_test")
