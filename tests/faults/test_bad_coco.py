"""A COCO data set, changed in every way: trained on and evaluated with the right values, or refused.

A change that is accepted must leave the records as they were, or give those that Detectron2 reads.
"""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
from bad_inputs import CHANGES, Error, all_changes, attempt, changed, file_changes, place_name, places
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import Boxes, Instances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_api
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.records import load_records
from srnet.evaluation import build_evaluator

NAME, OTHER = "bad_coco", "bad_coco_read_by_detectron2"
HEIGHT, WIDTH = 24, 32
SQUARE = [4.0, 4.0, 20.0, 4.0, 20.0, 12.0, 4.0, 12.0]
TRIANGLE = [10.0, 5.0, 30.0, 5.0, 10.0, 21.0]


def content():
    crowd = {"size": [HEIGHT, WIDTH], "counts": [0, 100, HEIGHT * WIDTH - 100]}
    text = mask_api.frPyObjects(crowd, HEIGHT, WIDTH)["counts"].decode()
    images = [{"id": 7 + i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in range(2)]
    shared = {"image_id": 7, "category_id": 1, "iscrowd": 0}
    return {
        "info": {"year": 2017},
        "images": images,
        "annotations": [
            {"id": 1, "bbox": [4, 4, 16, 8], "area": 128, "segmentation": [SQUARE], **shared},
            {
                "id": 2,
                "bbox": [10, 5, 20, 16],
                "area": 160,
                "segmentation": [TRIANGLE],
                **shared,
                "image_id": 8,
                "category_id": 4,
            },
            {
                "id": 3,
                "bbox": [0, 0, 5, 24],
                "area": 100,
                **shared,
                "segmentation": crowd,
                "iscrowd": 1,
            },
            {
                "id": 4,
                "bbox": [0, 0, 5, 24],
                "area": 100,
                **shared,
                "image_id": 8,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": text},
            },
        ],
        "categories": [{"id": 1, "name": "box"}, {"id": 4, "name": "ring"}],
    }


CHANGED = dict(all_changes(content()))


class Folder:
    """A registered data set of two images, whose JSON file is written anew for each change."""

    def __init__(self, folder):
        self.folder, self.json = folder, folder / "instances.json"
        self.output = folder.parent / "output"
        options = {
            "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
            "MODEL.MASK_ON": True,
            "MODEL.ROI_HEADS.NUM_CLASSES": 2,
            "DATASETS.TRAIN": (NAME,),
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.IMS_PER_BATCH": 2,
            "INPUT.MIN_SIZE_TRAIN": (HEIGHT,),
            "INPUT.MASK_FORMAT": "bitmask",  # an RLE is among the instances
            "INPUT.RANDOM_FLIP": "none",
        }
        self.cfg = get_cfg(opts=[word for item in options.items() for word in item])
        colors = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
        for i in range(2):
            Image.fromarray(colors[i]).save(folder / f"{i}.png")
        self.records = self.use(content())

    def use(self, made):
        """Write the file, train on it and evaluate with it."""
        self.json.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
        for name in (NAME, OTHER):
            for catalog in (DatasetCatalog, MetadataCatalog):
                if name in catalog.list():
                    catalog.remove(name)
        register_coco_instances(NAME, {}, str(self.json), str(self.folder))
        return attempt(self.train_and_evaluate, self.folder, str(self.folder), NAME)

    def train_and_evaluate(self):
        with contextlib.redirect_stdout(io.StringIO()):
            next(iter(build_train_loader(self.cfg, build_mapper(self.cfg, is_train=True))))
            records = load_records(self.cfg, [NAME], is_train=False)
            mapper = build_mapper(self.cfg, is_train=True)
            for record in records:
                check_sample(record, mapper(record))
            evaluator = build_evaluator(self.cfg, NAME, str(self.output))
            evaluator.reset()
            predictions = list(map(perfect, records))
            evaluator.process(records, predictions)
            results = evaluator.evaluate()
        areas = torch.cat([p["instances"].pred_masks.sum((1, 2)) for p in predictions])
        assert results["bbox"]["AP"] == pytest.approx(100), results
        if areas.all():  # a polygon that goes round twice encloses nothing
            assert results["segm"]["AP"] == pytest.approx(100), results
        return records

    def check(self, made):
        """Use a file: what is accepted has the right values."""
        found = self.use(made)
        if isinstance(found, Error) or same(found, self.records):
            return found
        assert same(found, load_coco_json(str(self.json), str(self.folder), OTHER)), found
        return found


def check_sample(record, sample):
    """What the model is trained on lies in the image."""
    instances = sample["instances"]
    height, width = instances.image_size
    boxes = instances.gt_boxes.tensor
    assert torch.isfinite(boxes).all() and (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all() and (boxes[:, 1::2] <= height).all()
    assert len(instances) <= sum(not a["iscrowd"] for a in record["annotations"])
    assert ((instances.gt_classes >= 0) & (instances.gt_classes < 2)).all()


def perfect(record):
    """The prediction of a model without mistakes."""
    wanted = [a for a in record["annotations"] if not a["iscrowd"]]
    boxes = torch.tensor([a["bbox"] for a in wanted], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)))
    found.pred_classes = torch.tensor([a["category_id"] for a in wanted], dtype=torch.int64)
    masks = [mask_of(a["segmentation"]) for a in wanted]
    found.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, HEIGHT, WIDTH)).bool()
    return {"instances": found}


def mask_of(segmentation):
    if isinstance(segmentation, list):
        segmentation = mask_api.merge(mask_api.frPyObjects(segmentation, HEIGHT, WIDTH))
    return mask_api.decode(segmentation)


def same(found, wanted):
    """Whether records agree; boxes that were made from masks do so within a pixel."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            found.get(key) == value
            if key != "bbox"
            else np.allclose(found.get(key, [math.inf] * 4), value, atol=1)
            for key, value in wanted.items()
            if key != "annotations"
        ) and same(found.get("annotations", []), wanted.get("annotations", []))
    return len(found) == len(wanted) and all(map(same, found, wanted))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("coco") / "data"
    base.mkdir()
    yield Folder(base)
    for name in (NAME, OTHER):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)


def test_the_right_file_is_read(folder):
    assert [len(record["annotations"]) for record in folder.records] == [2, 2]


@pytest.mark.parametrize("name", CHANGED)
def test_one_change(folder, tried, name):
    tried(f"COCO: {name}")
    folder.check(CHANGED[name])
