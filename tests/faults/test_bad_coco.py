"""A COCO data set, changed in every way: it gives the right values, or is refused.

A change that is accepted must leave the records as they were, or give those that Detectron2 reads.
"""

import contextlib
import io
import json
import math
import os

import numpy as np
import pytest
import torch
from bad_inputs import (
    Error,
    all_changes,
    attempt,
    file_changes,
    two_changes,
)
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import Boxes, Instances
from hypothesis import HealthCheck, given, settings
from PIL import Image
from pycocotools import mask as mask_api
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.records import load_records
from srnet.evaluation import build_evaluator

pytestmark = pytest.mark.fault("strangers: COCO annotations")
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
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
        self.register()  # get_cfg asks for the name
        self.cfg = get_cfg(opts=[word for item in options.items() for word in item])
        colors = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
        for i in range(2):
            Image.fromarray(colors[i]).save(folder / f"{i}.png")
        self.records = self.use(content())

    def use(self, made):
        """Write the file, train on it and evaluate with it."""
        self.json.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
        self.register()
        return attempt(self.train_and_evaluate, self.folder, str(self.folder), NAME)

    def register(self):
        """Register the file, without what was read of it before."""
        for name in (NAME, OTHER):
            for catalog in (DatasetCatalog, MetadataCatalog):
                if name in catalog.list():
                    catalog.remove(name)
        register_coco_instances(NAME, {}, str(self.json), str(self.folder))

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
        assert same(found, self.read_by_detectron2()), found
        return found

    def read_by_detectron2(self):
        """The records of the file, with what is filled in where it has one meaning."""
        records = load_coco_json(str(self.json), str(self.folder), OTHER)
        for annotation in (a for record in records for a in record["annotations"]):
            annotation["iscrowd"] = annotation.get("iscrowd") or 0
            if annotation.get("bbox") is None:
                annotation.pop("bbox", None)
        return records


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
        return (
            isinstance(found, dict)
            and all(
                found.get(key) == value
                if key != "bbox"
                else np.allclose(found.get(key, [math.inf] * 4), value, atol=1)
                for key, value in wanted.items()
                if key != "annotations"
            )
            and same(found.get("annotations", []), wanted.get("annotations", []))
        )
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


@settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(two_changes(content))
def test_two_changes(folder, tried, change):
    name, made = change
    tried(f"COCO: {name}")
    folder.check(made)


@pytest.mark.parametrize("name", file_changes(b""))
def test_what_may_become_of_the_file(folder, tried, name):
    tried(f"COCO: the file is {name}")
    assert isinstance(folder.use(file_changes(json.dumps(content()).encode())[name]), Error)


def with_ids(part, key, value):
    """The first id of images or categories, and what refers to it, renamed."""
    made = content()
    before = made[part][0]["id"]
    made[part][0]["id"] = value
    for annotation in made["annotations"]:
        if annotation[key] == before:
            annotation[key] = value
    return made


@pytest.mark.parametrize("value", [0, -1, 2**40, 2**63 - 1, 2**63, 10**30, True, 7.0, "7", None])
@pytest.mark.parametrize("part, key", [("images", "image_id"), ("categories", "category_id")])
def test_ids_of_all_kinds(folder, tried, part, key, value):
    """They are refused, or are what Detectron2 reads."""
    tried(f"COCO: {part} with the id {value}")
    found = folder.use(with_ids(part, key, value))
    if not isinstance(found, Error):
        assert type(value) is int and value < 2**63
        assert same(found, folder.read_by_detectron2())


FILES = {
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "of another size": lambda path: Image.new("RGB", (WIDTH // 2, HEIGHT)).save(path),
    "turned": lambda path: Image.new("RGB", (HEIGHT, WIDTH)).save(path),
    "32-bit numbers": lambda path: Image.fromarray(np.full((24, 32), -1.0, "f4")).save(
        path, "TIFF"
    ),
}


@pytest.mark.parametrize("name", [*FILES, *file_changes(b"")])
def test_what_may_become_of_an_image(tmp_path, tried, name):
    tried(f"COCO: an image is {name}")
    (tmp_path / "data").mkdir()
    changing = Folder(tmp_path / "data")
    path = tmp_path / "data" / "0.png"
    if name in FILES:
        FILES[name](path)
    else:
        path.write_bytes(file_changes(path.read_bytes())[name])
    found = changing.use(content())
    if name in ("twice", "without its last byte"):  # a PNG ends before its last byte
        assert isinstance(found, Error) or same(found, changing.records)
    else:
        assert isinstance(found, Error) and str(path) in found


def test_an_rle_among_polygons_is_named_before_training(folder):
    cfg = folder.cfg.clone()
    cfg.INPUT.MASK_FORMAT = "polygon"
    folder.use(content())
    with pytest.raises(ValueError, match=r"1.png \(id 8\) has an .*INPUT.MASK_FORMAT bitmask"):
        build_train_loader(cfg, build_mapper(cfg, is_train=True))


def test_keypoints_are_numbers_in_threes(folder):
    for value in ([1, 2], ["1", 2, 3], "text", {"x": 1}, [None] * 3):
        made = content()
        made["annotations"][0]["keypoints"] = value
        assert "keypoints" in folder.use(made)
