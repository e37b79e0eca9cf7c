"""Batches of one aspect ratio do not depend on processes, workers or interruptions."""

import itertools

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.utils import comm
from srnet import get_cfg
from srnet.data import build_train_loader, start_at_iteration

SIZES = [(40, 30), (30, 40), (40, 30), (20, 20), (50, 10), (10, 50), (40, 39)]


def mapper(record):
    return {**record, "drawn": torch.rand(1).item()}


@pytest.fixture(scope="module", autouse=True)
def dataset():
    records = [
        {"file_name": str(i), "image_id": i, "width": w, "height": h}
        for i, (w, h) in enumerate(SIZES)
    ]
    DatasetCatalog.register("aspect_test", lambda: records)
    yield
    DatasetCatalog.remove("aspect_test")


def batches(count, *, workers=0, start=0, batch=4, monkeypatch=None, rank=0, world=1):
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TRAIN", "('aspect_test',)", "SEED", 3])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, "SOLVER.IMS_PER_BATCH", batch])
    cfg.merge_from_list(["DATALOADER.FILTER_EMPTY_ANNOTATIONS", False])
    if monkeypatch:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        monkeypatch.setattr(comm, "all_gather", lambda x: [x] * world)
    loader = build_train_loader(cfg, mapper)
    start_at_iteration(loader, start, batch)
    return list(itertools.islice(loader, count))


def test_the_batches_are_detectron2s():
    one_by_one = itertools.chain(*batches(40, batch=1))
    expected = list(itertools.islice(AspectRatioGroupedDataset(one_by_one, 4), 6))
    assert batches(6) == expected
    for batch in expected:
        assert len({image["width"] > image["height"] for image in batch}) == 1


def test_workers_and_interruptions_change_nothing():
    whole = batches(7)
    assert batches(7, workers=2) == whole
    for start in (1, 4):
        assert batches(7 - start, start=start) == whole[start:]
        assert batches(7 - start, start=start, workers=2) == whole[start:]


def test_two_processes_see_the_batches_of_one(monkeypatch):
    one = batches(4)
    halves = [batches(4, monkeypatch=monkeypatch, rank=r, world=2) for r in (0, 1)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert [x for pair in zip(first, second, strict=True) for x in pair] == whole
