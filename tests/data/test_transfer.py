"""What comes out of the loaders is what the mappers made, and little of it travels."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.transfer import DeviceBatches, NarrowLabels

NAME = "transfer_test"


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for i in range(4):
        paths = [str(tmp_path / f"{kind}{i}.png") for kind in ("image", "label")]
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(paths[0])
        Image.fromarray(rng.integers(0, 11, (40, 60), np.uint8)).save(paths[1])
        records.append({"file_name": paths[0], "sem_seg_file_name": paths[1]})
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(stuff_classes=[str(i) for i in range(11)], ignore_label=255)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("size", [(30, 40), (90, 90)])  # all padded: float32
def test_a_batch_is_what_the_mapper_made(dataset, workers, size):
    crop = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", size]
    cfg = get_cfg(
        opts=[
            *("MODEL.META_ARCHITECTURE", "SRSemanticSegmentor", "DATASETS.TRAIN", (NAME,)),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11, "SOLVER.IMS_PER_BATCH", 2, "SEED", 1),
            *("INPUT.MIN_SIZE_TRAIN", (40, 50), "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", *crop),
            *("DATALOADER.NUM_WORKERS", workers, "DATALOADER.ASPECT_RATIO_GROUPING", False),
        ]
    )
    made = []

    def mapper(record):
        sample = build_mapper(cfg, is_train=True)(record)
        made.append((sample["image"].clone(), sample["sem_seg"].clone()))
        return sample

    batches = build_train_loader(cfg, mapper)
    sent, got = (
        [x for batch in itertools.islice(loader, 3) for x in batch]
        for loader in (batches.data_loader, batches)
    )
    for travelled, sample in zip(sent, got, strict=True):
        assert travelled["sem_seg"].dtype == torch.uint8
        assert sample["sem_seg"].dtype == torch.int64
        assert torch.equal(travelled["sem_seg"].long(), sample["sem_seg"])
        assert torch.equal(travelled["image"], sample["image"])
        assert travelled["image"].dtype == (torch.float32 if size[0] > 50 else torch.uint8)
    if not workers:  # otherwise it is made elsewhere
        for (image, label), sample in zip(made[6:], got, strict=True):
            assert torch.equal(image, sample["image"]) and torch.equal(label, sample["sem_seg"])


@pytest.mark.parametrize("value", [0, 255, 256, -1])
def test_labels_that_do_not_fit_keep_their_type(value):
    label = torch.tensor([[3, value]])
    sample = NarrowLabels(lambda record: {"sem_seg": label})({})
    assert sample["sem_seg"].dtype == (torch.uint8 if 0 <= value <= 255 else torch.int64)
    (batch,) = DeviceBatches([[sample]], "cpu")
    assert torch.equal(batch[0]["sem_seg"], label) and batch[0]["sem_seg"].dtype == torch.int64


def test_the_tensors_go_to_the_device_and_the_rest_stays():
    instances = Instances((4, 4), gt_boxes=Boxes(torch.zeros(1, 4)))
    sample = {
        "image": torch.zeros(3, 4, 4, dtype=torch.uint8),
        "sem_seg": torch.zeros(4, 4, dtype=torch.uint8),
        "instances": instances,
        "file_name": "a.png",
    }
    ((moved,),) = DeviceBatches([[sample]], "meta")
    assert moved["image"].device.type == moved["sem_seg"].device.type == "meta"
    assert (moved["image"].dtype, moved["sem_seg"].dtype) == (torch.uint8, torch.int64)
    assert moved["instances"] is instances and moved["file_name"] == "a.png"
    assert sample["image"].device.type == "cpu"


def test_what_the_mapper_rejects_stays_rejected():
    assert NarrowLabels(lambda record: None)({}) is None
